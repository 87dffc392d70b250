"""The record of one call while it is open, and the rows that it becomes."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson

from gateway_core.call import Cover
from gateway_core.metering.price import UNCHANGED, UNTOLD, Multiplier, Price, Tokens
from gateway_core.metering.usage import Measure, charged_tokens
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.journal import Row
from gateway_core.storage.ledger import ATTEMPT, ENDED, Closing

CHARACTERS_AT_MOST = 500
"""Of a text that a caller or a provider wrote."""
COST_AT_MOST = 10**18
"""Of one call, in picodollars: a million dollars. More is a fault of a price or a provider, and overflows columns."""
NO_TEXTS = (None, None, None, None, None, None)
OK = "ok"
UNAVAILABLE = "unavailable"
UNNOTED = -1


class Asked(NamedTuple):
    """Who asks for what: what is known of a call before it is opened. Empty texts are none."""

    request_id: str
    account_id: str
    operation: str
    requested_model: str
    stream: bool
    key_id: str = ""
    gateway_id: str = ""
    gateway_version: int = 0
    dialect: str = ""
    tag: str = ""
    metadata: dict[str, str] | None = None
    price: Price | None = None
    """None: not known; then the cost is 0."""
    multiplier: Multiplier = UNCHANGED
    reserved: int = 0
    """Picodollars that admission has reserved until the call ends."""
    cover: Cover | None = None
    """What pays for it. None: the balance."""
    count_prompt: Callable[[], int] = int
    """Estimates the tokens of the prompt. It is called where the provider tells nothing."""


class Attempt(NamedTuple):
    """One request to a provider. Times are those of time.perf_counter, in seconds."""

    provider: str
    model: str
    status: str
    """ "ok", "cancelled", "interrupted", or the reason in lower case."""
    started: float
    ended: float
    http_status: int | None = None
    upstream_request_id: str = ""
    """What the provider calls it: short printable ASCII. Empty: it did not tell."""


class Outcome(NamedTuple):
    """How a call ended."""

    status: str
    """ "ok", "cancelled", "interrupted", or the reason in lower case: "provider_broken"."""
    attempts: Sequence[Attempt] = ()
    """In their order. The last is the one that answered, where one did."""


class Record:
    """A call that is open. Its measure is fed by whoever watches the answer."""

    __slots__ = (
        "_opened", "asked", "checkpointed", "cost", "estimated_prompt", "id", "is_closed", "measure", "provider",
        "started", "started_us",
    )  # fmt: skip

    def __init__(self, asked: Asked, process_id: str) -> None:
        """Begins now, in a process."""
        self.id = new_id()
        self.asked = asked
        self.measure = Measure()
        self.started = time.perf_counter()
        self.started_us = now_us()
        self.estimated_prompt: int | None = None
        """Tokens of the prompt, estimated. None: nobody had to ask."""
        self.provider = ""
        self.checkpointed = UNNOTED
        """Characters at the last checkpoint that is written or on its way."""
        self.is_closed = False
        self.cost: int | None = None
        """Picodollars. None: the price is not known, or the call is open."""

        self._opened = self._opened_row(process_id)

    @property
    def is_behind(self) -> bool:
        """Whether more was delivered than its last checkpoint says."""
        measure = self.measure
        return measure.first_event_at is not None and measure.characters != self.checkpointed

    @property
    def opening(self) -> Row:
        """What the journal is told before anything is asked of a provider."""
        cover = self.asked.cover
        return (*self._opened, 0 if cover is None else cover.taken_micro_units)

    def _opened_row(self, process_id: str) -> Row:
        asked = self.asked
        price = asked.price
        return (
            self.id,
            asked.request_id,
            process_id,
            asked.account_id,
            asked.key_id or None,
            asked.gateway_id or None,
            asked.gateway_version or None,
            asked.operation,
            asked.dialect or None,
            asked.stream,
            kept(asked.requested_model) or "",
            self.started_us,
            kept(asked.tag),
            kept_json(asked.metadata) if asked.metadata else None,
            asked.multiplier.text,
            asked.reserved,
            *(price.texts if price is not None else NO_TEXTS),
        )

    def _charged(self, told: Tokens | None) -> Tokens:
        delivered = self.measure.delivered_tokens
        if told is None and delivered:
            self._estimate_prompt()
        return charged_tokens(told, estimated_prompt=self.estimated_prompt or 0, delivered=delivered)

    def _estimate_prompt(self) -> None:
        if self.estimated_prompt is None:
            self.estimated_prompt = self.asked.count_prompt()

    def closing(self, outcome: Outcome) -> Closing:
        """The row that ends it, and those of its attempts."""
        asked, measure = self.asked, self.measure
        is_whole = outcome.status == OK
        told = measure.tokens(is_whole=is_whole)
        tokens = self._charged(told)
        price = asked.price
        self.cost = min(price.cost(tokens, asked.multiplier), COST_AT_MOST) if price is not None else None
        charged, units = self.cost or 0, 0
        if asked.cover is not None:
            units = asked.cover.micro_units = asked.cover.of_cost(charged)
            charged = 0
        ended = time.perf_counter()
        first = microseconds(self.started, measure.first_event_at) if asked.stream else None
        last = outcome.attempts[-1] if outcome.attempts else None
        answered = is_whole or measure.first_event_at is not None
        duration = microseconds(self.started, ended) or 0
        row = (
            *self._opened,
            outcome.status,
            kept(measure.response_model),
            (last.provider if last is not None else self.provider) or None,
            kept(measure.finish_reason),
            len(outcome.attempts),
            *(told or UNTOLD),
            self.estimated_prompt,
            measure.delivered_tokens,
            self.cost,
            charged,
            units,
            self.started_us + duration,
            duration,
            first,
        )
        attempts = [
            self._attempt_row(number, attempt, told if attempt is last else None, answered=attempt is last and answered)
            for number, attempt in enumerate(outcome.attempts, 1)
        ]
        return Closing(self.id, asked.account_id, charged, row, attempts)

    def withdraw(self) -> None:
        """The answer is kept back, since its end could not be written: as `undelivered`."""
        if self.cost is not None:
            self.cost = 0
        if self.asked.cover is not None:
            self.asked.cover.micro_units = 0

    def checkpoint(self) -> Row:
        """What the journal is told of what was delivered so far."""
        measure = self.measure
        self.checkpointed = measure.characters
        self._estimate_prompt()
        told = measure.tokens(is_whole=False) or UNTOLD
        return (
            self.id,
            self.provider or None,
            kept(measure.response_model),
            1,
            *told,
            self.estimated_prompt,
            measure.delivered_tokens,
        )

    def _attempt_row(self, number: int, attempt: Attempt, told: Tokens | None, *, answered: bool) -> Row:
        return (
            self.id,
            number,
            attempt.provider,
            kept(attempt.model) or "",
            attempt.status,
            attempt.http_status,
            attempt.upstream_request_id or None,
            *(told or UNTOLD),
            self.cost if answered else 0,  # what failed before it answered is not charged
            self.started_us + (microseconds(self.started, attempt.started) or 0),
            microseconds(attempt.started, attempt.ended),
            microseconds(attempt.started, self.measure.first_event_at) if answered and self.asked.stream else None,
        )


STATUS, COST, CHARGED, UNITS, STREAMED = map(
    ENDED.index, ("status", "cost_pico_usd", "charged_pico_usd", "reserve_units", "streamed")
)
ATTEMPT_COST = ATTEMPT.index("cost_pico_usd")


def undelivered(closing: Closing) -> Closing:
    """How a call ends whose end could not be written when it should: a whole answer was kept back then, and is free.

    Of a stream all but the end was delivered, which is charged.
    """
    if closing.row[STREAMED] or closing.row[STATUS] != OK:
        return closing
    row = list(closing.row)
    row[STATUS] = UNAVAILABLE
    row[COST] = None if row[COST] is None else 0
    row[CHARGED] = row[UNITS] = 0
    attempts = [(*each[:ATTEMPT_COST], 0, *each[ATTEMPT_COST + 1 :]) for each in closing.attempts]
    return closing._replace(charged=0, row=tuple(row), attempts=attempts)


def kept(text: str | None) -> str | None:
    """A text as every database takes it: PostgreSQL's have no NUL (datatype-character). None: there is none."""
    if not text:
        return None
    return (text.replace("\0", "\ufffd") if "\0" in text else text)[:CHARACTERS_AT_MOST]


def kept_json(document: dict[str, str]) -> str:
    """Names and values as JSON that every database takes: PostgreSQL's jsonb has no NUL either."""
    return orjson.dumps({kept(name) or "": value.replace("\0", "\ufffd") for name, value in document.items()}).decode()


def microseconds(start: float, end: float | None) -> int | None:
    """The time between two instants of time.perf_counter. None: the second has not come."""
    return None if end is None else round((end - start) * 1e6)
