"""Amazon Bedrock's Converse API, which asks every model there in one form."""

from gateway_core.providers.bedrock.provider import Provider

__all__ = ["Provider"]
