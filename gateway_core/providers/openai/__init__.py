"""OpenAI's chat completion API, which most hosts speak: OpenAI itself, vLLM, llama.cpp, OpenRouter and more."""

from gateway_core.providers.openai.provider import Provider

__all__ = ["Provider"]
