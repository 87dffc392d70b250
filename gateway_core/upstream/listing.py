"""The models that a host lists, page by page."""

import asyncio
from collections.abc import Callable
from typing import Any

from headgate.v1.model_pb2 import Model

from gateway_core.upstream.depth import value_within
from gateway_core.upstream.http import Upstream
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.stream import refused

SECONDS = 30
"""How long a list may take, all pages of it."""

PAGES_AT_MOST = 20

Page = tuple[list[Model], str]
"""The models of a page, and the path of the next; empty: it was the last."""


async def listed(upstream: Upstream, refusals: Refusals, path: str, page: Callable[[Any], Page]) -> list[Model]:
    """The models of all pages from that at `path` on, which `page` reads from a JSON value.

    Raises ProviderError; for what `page` raises ValueError or TypeError for too.
    """
    deadline = asyncio.get_running_loop().time() + SECONDS
    found: list[Model] = []
    for _ in range(PAGES_AT_MOST):
        answer = await upstream.open("GET", path, deadline=deadline)
        if answer.status >= 400:
            raise await refused(answer, refusals)
        try:
            models, path = page(value_within(await answer.read()))
        except (ValueError, TypeError):
            raise refusals.broken("sent a list of models that makes no sense") from None
        finally:
            answer.abort()
        found += models
        if not path:
            break
    return found
