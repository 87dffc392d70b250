"""The wire formats of model providers, one file each: the kind in the config is the name of the file.

A provider opens a chat completion and returns its events. It awaits the upstream's status and headers before it
returns the generator, so that whatever fails until then can be tried elsewhere.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.model_pb2 import Model

from gateway_core.call import Call, Events
from gateway_core.config import ProviderConfig

KINDS = ("anthropic", "bedrock", "echo", "gemini", "ollama", "openai")


class Provider(Protocol):
    """A provider of the configuration."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        """Takes the provider's name in the configuration, and its row."""
        ...

    async def open_chat_completion(self, call: Call[ChatCompletionSpec]) -> Events:
        """Asks for a chat completion at call.target; raises GatewayError where the provider does not accept it.

        A call that is not streamed yields one event with the whole answer.
        """
        ...

    async def list_models(self) -> Sequence[Model]:
        """The models that the provider lists; their ids are as the provider names them."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...


def load(name: str, config: ProviderConfig) -> Provider:
    """The provider of a row of the configuration."""
    provider = import_module(f"{__name__}.{config.kind}").Provider(name, config)
    return cast(Provider, provider)
