"""A gateway in this process that keeps accounts and gateways, in front of a scripted vendor."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpc import aio
from headgate.v1.gateway_pb2 import Gateway as GatewayMessage
from headgate.v1.gateway_service_pb2 import CreateGatewayRequest
from headgate.v1.gateway_service_pb2_grpc import GatewayServiceStub
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from gateway_core.config import Config
from gateway_core.storage.store import Store
from tests.support.gateway import Gateway, running
from tests.support.upstream import Upstream

ROOT = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
SECRET_KEY = "a secret key of the tests, long enough"


@dataclass
class Kept:
    """What a test needs of it."""

    gateway: Gateway
    upstream: Upstream
    channel: aio.Channel
    gateways: Any
    sdk: AsyncOpenAI
    """With the operator's key."""

    async def create(self, **fields: Any) -> GatewayMessage:
        """Makes a gateway of the operator's."""
        request = CreateGatewayRequest(gateway=GatewayMessage(**fields))
        response = await self.gateways.CreateGateway(request, metadata=bearer(ROOT))
        made: GatewayMessage = response.gateway
        return made

    def sdk_of(self, key: str) -> AsyncOpenAI:
        """OpenAI's SDK with another key."""
        return self.sdk.with_options(api_key=key)


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a caller."""
    return (("authorization", f"Bearer {key}"),)


@asynccontextmanager
async def kept(directory: Path, upstream: Upstream, **settings: Any) -> AsyncIterator[Kept]:
    """Its model "small" is the vendor's "tiny"; endpoints of gateways' owners may be on this machine."""
    config = {
        "providers": {"lab": {"kind": "openai", "base_url": upstream.base_url, "lists_models": False}},
        "models": {"small": {"targets": [{"provider": "lab", "model": "tiny"}], "context_length": 1000}},
        "private_endpoint_networks": ["127.0.0.0/8"],
        **settings,
    }
    store = Store.at(None, directory, {"HEADGATE_SECRET_KEY": SECRET_KEY})
    async with (
        running(Config.model_validate(config), store=store, root_key=ROOT) as gateway,
        aio.insecure_channel(gateway.grpc_address) as channel,
        DefaultAsyncHttpxClient(trust_env=False) as http,
    ):
        sdk = AsyncOpenAI(base_url=f"{gateway.http_url}/v1", api_key=ROOT, max_retries=0, http_client=http)
        yield Kept(gateway, upstream, channel, GatewayServiceStub(channel), sdk)
