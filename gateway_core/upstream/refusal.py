"""What hosts say when they refuse becomes the gateway's errors, without keys and addresses."""

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from gateway_core.config import ProviderConfig
from gateway_core.errors import ProviderBroken, ProviderError, ProviderRefused, ProviderUnauthorized
from gateway_core.upstream.depth import value_within
from gateway_core.upstream.fault import event_status, is_about_the_key
from gateway_core.upstream.hidden import hidden

MESSAGE_AT_MOST = 2000
"""Characters of a message."""

LABEL_AT_MOST = 200
"""Characters of a type, a code or a parameter's name."""

WAIT_AT_MOST = 7 * 24 * 3600.0
"""Seconds to wait that are believed."""

RPC = "type.googleapis.com/google.rpc."
"""What the types of the details of Google's errors begin with."""

REFUSED_KEY = frozenset({"API_KEY_INVALID"})
"""Codes that say of a key what 401 says."""


class Told(NamedTuple):
    """What a host tells of a failure; empty where it does not."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""
    wait_seconds: float | None = None
    """How long to wait before another attempt. None: not told in the body."""


class Refusals:
    """Makes the errors of one provider."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        """Takes the provider's name in the configuration, and its row, whose secrets no error may hold."""
        self._name = name
        self._hidden = hidden(config)

    @property
    def name(self) -> str:
        """The provider's name in the configuration."""
        return self._name

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The error for an answer with a status of 400 or more."""
        said = told(body)
        wait = wait_seconds(headers)
        return self._refused(status, said, said.wait_seconds if wait is None else wait)

    def event(self, error: Any) -> ProviderError:
        """The error for an `error` object inside an answer that began well."""
        said = told_object({"error": error})
        status = event_status(said.code, said.type)
        if status is not None:
            return self._refused(status, said, said.wait_seconds)
        message = self._clean(said.message) or f"Provider {self._name} ended its answer with an error."
        return ProviderBroken(message, **self._labels(said))

    def broken(self, what: str) -> ProviderBroken:
        """The error for an answer that broke off or made no sense."""
        return ProviderBroken(self._clean(f"Provider {self._name} {what}."), provider=self._name)

    def _refused(self, status: int, said: Told, retry_after_seconds: float | None) -> ProviderError:
        message = self._clean(said.message)
        forbids = status == 403 and is_about_the_key(said.message, said.type, said.code)
        # Google says 400 of a key that it does not know.
        if status == 401 or forbids or said.code in REFUSED_KEY:
            # Hosts quote parts of the key that they refuse, so what they say of a 401 is not passed on.
            because = f": {message}" if message and status == 403 else "."
            sentence = f"Provider {self._name} refused the key that is configured for it (HTTP {status}){because}"
            return ProviderUnauthorized(sentence, provider=self._name, upstream_status=str(status))
        return ProviderRefused(
            message or f"Provider {self._name} answered with HTTP {status}.",
            retry_after_seconds=retry_after_seconds,
            upstream_status=str(status),
            **self._labels(said),
        )

    def _labels(self, said: Told) -> dict[str, Any]:
        labels = {"upstream_type": said.type, "upstream_code": said.code, "param": said.param}
        cleaned = {name: self._clean(label)[:LABEL_AT_MOST] for name, label in labels.items() if label}
        return {"provider": self._name, **cleaned}

    def _clean(self, text: str) -> str:
        if self._hidden is not None:
            text = self._hidden.sub("***", text)
        text = text.strip()
        return text if len(text) <= MESSAGE_AT_MOST else text[: MESSAGE_AT_MOST - 1] + "…"


def told(body: bytes) -> Told:
    """What the body of a refusal tells."""
    try:
        document = value_within(body)
    except ValueError:  # also where it nests deeper than anybody means it
        text = body[: 4 * MESSAGE_AT_MOST].decode(errors="replace").strip()
        # Pages are for people who look at the host itself.
        return Told() if text.startswith("<") or "\0" in text else Told(text)
    # Google's OpenAI-compatible API puts the object into a list.
    if isinstance(document, list) and document:
        document = document[0]
    return told_object(document) if isinstance(document, dict) else Told(document if isinstance(document, str) else "")


def told_object(document: Mapping[str, Any]) -> Told:
    """What the object of a refusal tells, in any of the shapes that hosts use."""
    error = document.get("error")
    inner = error if isinstance(error, dict) else document
    message = sentence(inner.get("message")) or sentence(inner.get("detail")) or sentence(error)
    metadata = inner.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if isinstance(raw, str) and raw not in message:
        # OpenRouter's own message says only that the host behind it failed.
        message = f"{message}: {raw}" if message else raw
    kind, code, param = (label(inner.get(name)) or label(document.get(name)) for name in ("type", "code", "param"))
    details = rpc_details(inner)
    status = inner.get("status")
    return Told(
        message,
        kind or (status if isinstance(status, str) else ""),
        label(details.get("ErrorInfo", {}).get("reason")) or code,
        param,
        duration_seconds(details.get("RetryInfo", {}).get("retryDelay")),
    )


def rpc_details(error: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The details of Google's errors by the names of their messages. Source: google/rpc/error_details.proto."""
    details = error.get("details")
    found: dict[str, Mapping[str, Any]] = {}
    for detail in details if isinstance(details, list) else ():
        name = detail.get("@type") if isinstance(detail, dict) else None
        if isinstance(name, str) and name.startswith(RPC):
            found.setdefault(name.removeprefix(RPC), detail)
    return found


def duration_seconds(text: Any) -> float | None:
    """A duration as Protobuf writes it in JSON, such as "34.5s"; None for anything else."""
    seconds = number(text[:-1]) if isinstance(text, str) and text.endswith("s") else None
    return None if seconds is None else min(seconds, WAIT_AT_MOST)


def sentence(value: Any) -> str:
    """A message in words: from a string, an object that has one, or FastAPI's list of what is wrong where."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return sentence(value.get("message")) or sentence(value.get("msg")) or sentence(value.get("error"))
    if isinstance(value, list):
        return "; ".join(text for item in value[:10] if (text := located(item)))
    return ""


def located(item: Any) -> str:
    """One entry of FastAPI's list: where, and what."""
    where = item.get("loc") if isinstance(item, dict) else None
    path = ".".join(str(step) for step in where) if isinstance(where, list) else ""
    what = sentence(item) if not isinstance(item, list) else ""
    return f"{path}: {what}" if path and what else what


def label(value: Any) -> str:
    """A type, code or parameter's name as text; empty where there is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value)


def wait_seconds(headers: Mapping[str, str]) -> float | None:
    """How long to wait before another attempt, from Retry-After in seconds or as a date, or from retry-after-ms."""
    milliseconds, after = headers.get("retry-after-ms"), headers.get("retry-after")
    if milliseconds is not None and (wait := number(milliseconds)) is not None:
        return min(max(wait / 1000, 0.0), WAIT_AT_MOST)
    if after is None:
        return None
    seconds = number(after)
    if seconds is None:
        try:
            seconds = parsedate_to_datetime(after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), WAIT_AT_MOST)


def number(text: str) -> float | None:
    """A decimal number; None for anything else."""
    return float(text) if re.fullmatch(r"\s*\d{1,15}(\.\d{1,9})?\s*", text) else None
