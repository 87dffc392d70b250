"""The REST APIs, one folder each: the name in the config is the name of the folder.

A dialect's `routes(channel, config)` is its table of contents.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import cast

from grpc import aio
from starlette.routing import BaseRoute

from rest_bridge.config import BridgeConfig

NAMES = ("openai", "ollama", "admin")


def load(name: str, channel: aio.Channel, config: BridgeConfig) -> Sequence[BaseRoute]:
    """The routes of a dialect, whose calls go over a channel."""
    routes = import_module(f"{__name__}.{name}").routes(channel, config)
    return cast(Sequence[BaseRoute], routes)
