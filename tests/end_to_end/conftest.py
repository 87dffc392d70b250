"""Clients of a whole gateway."""

from collections.abc import AsyncIterator, Callable

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from tests.support.gateway import Gateway


@pytest.fixture
async def connect(gateway: Gateway) -> AsyncIterator[Callable[..., AsyncOpenAI]]:
    """Makes clients of OpenAI's SDK: by default at /v1, and without attempts of its own."""
    async with DefaultAsyncHttpxClient(trust_env=False) as http:

        def client(prefix: str = "/v1", max_retries: int = 0) -> AsyncOpenAI:
            url = gateway.http_url + prefix
            return AsyncOpenAI(base_url=url, api_key="sk-caller", max_retries=max_retries, http_client=http)

        yield client


@pytest.fixture
def sdk(connect: Callable[..., AsyncOpenAI]) -> AsyncOpenAI:
    """OpenAI's SDK."""
    return connect()
