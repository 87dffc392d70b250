"""Ollama's own API, which says more than its OpenAI-compatible one: thinking, options, how long to stay loaded."""

from gateway_core.providers.ollama.provider import Provider

__all__ = ["Provider"]
