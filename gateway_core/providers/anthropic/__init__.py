"""Anthropic's Messages API, which hosts of other vendors speak too."""

from gateway_core.providers.anthropic.provider import Provider

__all__ = ["Provider"]
