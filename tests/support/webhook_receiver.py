"""A receiver of webhooks: the scripted vendor, and the code of the documents that verifies what comes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from tests.support.upstream import Received, Upstream, answer

Verifies = Callable[[str, bytes, str], bool]
DOCUMENT = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
OK = answer(status=204)


def receiver_of_the_manual() -> Verifies:
    """The function `is_from_headgate` as docs/webhooks.md has it."""
    found = re.search(r"<!-- example: receiver -->\n```python\n(.*?)```", DOCUMENT, re.S)
    assert found
    names: dict[str, Any] = {}
    exec(compile(found[1], "docs/webhooks.md", "exec"), names)
    return cast(Verifies, names["is_from_headgate"])


def hooks_url(receiver: Upstream) -> str:
    """Where the receiver takes webhooks."""
    return receiver.base_url.removesuffix("/v1") + "/hooks/?for=headgate"


def types(receiver: Upstream) -> list[str]:
    """What has come, attempt by attempt."""
    return [request.headers["x-headgate-event"] for request in receiver.requests]


def is_signed_by(secret: str, request: Received) -> bool:
    """Whether the manual's receiver takes a request."""
    return receiver_of_the_manual()(secret, request.body, request.headers.get("x-headgate-signature", ""))
