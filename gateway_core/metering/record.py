"""The record of one call while it is open, and the rows that it becomes."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson

from gateway_core.call import Cover
from gateway_core.metering.price import UNCHANGED, Multiple, Price
from gateway_core.metering.usage import Measure, charged_tokens
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.journal import OPENED, Row
from gateway_core.storage.ledger import ATTEMPT, ENDED, Closing
from gateway_core.tokens import UNTOLD, Tokens

CHARACTERS_AT_MOST = 500
"""Of a text that a caller or a provider wrote."""
COST_AT_MOST = 10**18
"""Of one call, in picodollars: a million dollars. More is a fault of a price or a provider, and overflows columns."""
NO_TEXTS = (None, None, None, None, None, None)
OK = "ok"
UNAVAILABLE = "unavailable"
UNNOTED = -1
OPENED_COLUMNS = len(OPENED)


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
    multiplier: Multiple = UNCHANGED
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


# What a call tells is in plain tuples, which are cheaper to make and to take apart, with what those above have by name.
Question = tuple[
    str, str, str, str, bool, str, str, int, str, str,
    dict[str, str] | None, Price | None, Multiple, int, Cover | None, Callable[[], int],
]  # fmt: skip
Tried = tuple[str, str, str, float, float, int | None, str]
Ending = tuple[str, Sequence[Tried]]


class Record:
    """A call that is open. Its measure is fed by whoever watches the answer."""

    __slots__ = (
        "account_id", "checkpointed", "cost", "count_prompt", "cover", "estimated_prompt", "id", "is_closed", "measure",
        "multiplier", "opening", "price", "provider", "started", "started_us", "stream",
    )  # fmt: skip

    def __init__(self, asked: Question, process_id: str) -> None:
        """Begins now, in a process."""
        (
            request_id, account_id, operation, model, stream, key_id, gateway_id, gateway_version,
            dialect, tag, metadata, price, multiplier, reserved, cover, count_prompt,
        ) = asked  # fmt: skip
        self.id = new_id()
        self.account_id = account_id
        self.stream = stream
        self.price = price
        self.multiplier = multiplier
        self.cover = cover
        self.count_prompt = count_prompt
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
        texts = price.texts if price is not None else NO_TEXTS
        self.opening: Row = (
            self.id, request_id, process_id, account_id, key_id or None, gateway_id or None, gateway_version or None,
            operation, dialect or None, stream, kept(model) or "", self.started_us, kept(tag) if tag else None,
            kept_json(metadata) if metadata else None, multiplier[2], reserved, *texts,
            0 if cover is None else cover.taken_micro_units,
        )  # fmt: skip
        """What the journal is told before anything is asked of a provider."""

    @property
    def is_behind(self) -> bool:
        """Whether more was delivered than its last checkpoint says."""
        measure = self.measure
        return measure.first_event_at is not None and measure.characters != self.checkpointed

    def _estimated(self) -> Tokens:
        delivered = self.measure.delivered_tokens
        if delivered:
            self._estimate_prompt()
        return charged_tokens(None, estimated_prompt=self.estimated_prompt or 0, delivered=delivered)

    def _estimate_prompt(self) -> None:
        if self.estimated_prompt is None:
            self.estimated_prompt = self.count_prompt()

    def closing(self, outcome: Ending) -> Closing:
        """The row that ends it, and those of its attempts."""
        price, cover, measure, started = self.price, self.cover, self.measure, self.started
        status, attempts = outcome
        is_whole = status == OK
        told = measure.told if is_whole else measure.told_so_far()
        tokens = told if told is not None else self._estimated()
        charged = units = 0
        if price is not None:
            cost = price.cost(tokens, self.multiplier)
            self.cost = charged = cost if cost < COST_AT_MOST else COST_AT_MOST
        if cover is not None:
            units = cover.micro_units = cover.of_cost(charged)
            charged = 0
        rows, provider = [], self.provider
        if attempts:
            provider = attempts[-1][0]
            rows = self._attempt_rows(attempts, told, is_whole or measure.first_event_at is not None)
        duration = round((time.perf_counter() - started) * 1e6)
        # By their names: a row that is filled from another costs twice as much.
        prompt, cached, cache_write, prompt_audio, completion, reasoning, completion_audio = told or UNTOLD
        closed = (
            status, kept(measure.response_model), provider or None, kept(measure.finish_reason), len(attempts),
            prompt, cached, cache_write, prompt_audio, completion, reasoning, completion_audio,
            self.estimated_prompt, measure.delivered_tokens, self.cost, charged, units,
            self.started_us + duration, duration,
            microseconds(started, measure.first_event_at) if self.stream else None,
        )  # fmt: skip
        return self.id, self.account_id, charged, self.opening[:OPENED_COLUMNS] + closed, rows

    def withdraw(self) -> None:
        """The answer is kept back, since its end could not be written: as `undelivered`."""
        if self.cost is not None:
            self.cost = 0
        if self.cover is not None:
            self.cover.micro_units = 0

    def checkpoint(self) -> Row:
        """What the journal is told of what was delivered so far."""
        measure = self.measure
        self.checkpointed = measure.characters
        self._estimate_prompt()
        told = measure.told_so_far() or UNTOLD
        return (
            self.id,
            self.provider or None,
            kept(measure.response_model),
            1,
            *told,
            self.estimated_prompt,
            measure.delivered_tokens,
        )

    def _attempt_rows(self, attempts: Sequence[Tried], told: Tokens | None, has_answered: bool) -> list[Row]:
        """Of all but the last nothing is told, and nothing charged: what failed before it answered is free."""
        begin, begin_us, first_event_at = self.started, self.started_us, self.measure.first_event_at
        rows: list[Row] = []
        last = len(attempts)
        for number, attempt in enumerate(attempts, 1):
            provider, model, status, started, ended, http_status, upstream_request_id = attempt
            is_last = number == last
            prompt, cached, cache_write, prompt_audio, completion, reasoning, completion_audio = (
                told if is_last and told is not None else UNTOLD
            )
            answers = is_last and has_answered
            rows.append((
                self.id, number, provider, kept(model) or "", status, http_status, upstream_request_id or None,
                prompt, cached, cache_write, prompt_audio, completion, reasoning, completion_audio,
                self.cost if answers else 0, begin_us + round((started - begin) * 1e6), round((ended - started) * 1e6),
                microseconds(started, first_event_at) if answers and self.stream else None,
            ))  # fmt: skip
        return rows


STATUS, COST, CHARGED, UNITS, STREAMED = map(
    ENDED.index, ("status", "cost_pico_usd", "charged_pico_usd", "reserve_units", "streamed")
)
ATTEMPT_COST = ATTEMPT.index("cost_pico_usd")


def undelivered(closing: Closing) -> Closing:
    """How a call ends whose end could not be written when it should: a whole answer was kept back then, and is free.

    Of a stream all but the end was delivered, which is charged.
    """
    id_, account_id, _, whole, tried = closing
    if whole[STREAMED] or whole[STATUS] != OK:
        return closing
    row = list(whole)
    row[STATUS] = UNAVAILABLE
    row[COST] = None if row[COST] is None else 0
    row[CHARGED] = row[UNITS] = 0
    attempts = [(*each[:ATTEMPT_COST], 0, *each[ATTEMPT_COST + 1 :]) for each in tried]
    return id_, account_id, 0, tuple(row), attempts


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
