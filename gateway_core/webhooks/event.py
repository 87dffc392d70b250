"""What accounts are told of, and the bodies that tell it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway_core.errors import InvalidRequest
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.webhook import WebhookRow
from gateway_core.timestamp import timestamp

BALANCE_LOW: Final = "balance.low"
BALANCE_EXHAUSTED: Final = "balance.exhausted"
SPEND_CAP_REACHED: Final = "spend_cap.reached"
CREDIT_ADDED: Final = "credit.added"
KEY_CREATED: Final = "key.created"
KEY_ROTATED: Final = "key.rotated"
KEY_DELETED: Final = "key.deleted"
KEY_EXPIRING: Final = "key.expiring"
TEST: Final = "webhook.test"
"""Sent when it is asked for, whatever else an account wants to be told of."""

TYPES = (
    BALANCE_LOW,
    BALANCE_EXHAUSTED,
    SPEND_CAP_REACHED,
    CREDIT_ADDED,
    KEY_CREATED,
    KEY_ROTATED,
    KEY_DELETED,
    KEY_EXPIRING,
)


def types(values: Sequence[str], path: str) -> list[str] | None:
    """The types that an account wants; None where it wants all. Raises InvalidRequest."""
    for index, value in enumerate(values):
        if value not in TYPES:
            param = f"{path}[{index}]"
            raise InvalidRequest(f"{param} must be one of {', '.join(TYPES)}.", param=param)
    return list(dict.fromkeys(values)) or None


def webhook(type_: str, account_id: str, data: Mapping[str, Any]) -> WebhookRow:
    """What happened just now, to be sent at once. The data hold no secrets, and money as decimal texts."""
    id_, now = new_id(), now_us()
    body = {"id": id_, "type": type_, "created_at": time_text(now), "account_id": account_id, "data": data}
    text = orjson.dumps(body).decode()
    return WebhookRow(id_, account_id, type_, text, 0, now, None, None, False, now, None)


def key_data(key_id: str, kind: str, label: str, project: str | None, expires_us: int | None) -> dict[str, Any]:
    """What is told of a key."""
    expire_time = None if expires_us is None else time_text(expires_us)
    return {"key_id": key_id, "kind": kind, "label": label, "project": project or "", "expire_time": expire_time}


def time_text(at_us: int) -> str:
    """A time in the form of RFC 3339, in UTC."""
    return timestamp(at_us).ToJsonString()
