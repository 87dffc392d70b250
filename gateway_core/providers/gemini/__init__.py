"""Google's Gemini API: generateContent and streamGenerateContent of the Generative Language API, v1beta."""

from gateway_core.providers.gemini.provider import Provider

__all__ = ["Provider"]
