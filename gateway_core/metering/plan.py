"""Plans: what accounts may use, and at what price; from the configuration and from the database, held in memory."""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from headgate.v1 import plan_pb2

from gateway_core.config import Config
from gateway_core.config_plan import PlanConfig
from gateway_core.metering.concurrency import Cap
from gateway_core.metering.price import UNCHANGED, Multiplier, decimal_text, multiplier_of
from gateway_core.metering.reserve import Reserve, reserve_document, reserve_message, reserve_of_config
from gateway_core.storage.changes import Change
from gateway_core.storage.database import Database
from gateway_core.storage.plan import TOPIC, plan_rows


class PlanWindow(NamedTuple):
    """Most requests and input tokens of an account in a time. None: no limit."""

    seconds: int
    requests: int | None
    input_tokens: int | None


class Plan(NamedTuple):
    """What an account may use."""

    name: str
    description: str = ""
    windows: tuple[PlanWindow, ...] = ()
    context_limit_tokens: int | None = None
    allowed_models: frozenset[str] | None = None
    """Those that are named and those of the price classes. None: all."""
    named_models: frozenset[str] = frozenset()
    price_classes: frozenset[str] = frozenset()
    multiplier: Multiplier = UNCHANGED
    cap: Cap | None = None
    """How many calls of one key may run and wait at the same time. None: no limit."""
    reserve: Reserve | None = None
    """What is used before the balance is. None: nothing."""
    created_us: int | None = None
    """None: it is one of the configuration."""
    updated_us: int | None = None


NO_PLAN = Plan("")
NO_CLASSES: Mapping[str, str] = {}


class Plans:
    """The plans by name. Without a database, those of the configuration. Rows of the database win."""

    def __init__(self, config: Config, database: Database | None = None) -> None:
        """Takes the configuration; `open` reads the database."""
        self.price_classes = price_classes(config)
        """The classes of models, by name."""
        self._configured = {name: plan_of_config(name, row, self.price_classes) for name, row in config.plans.items()}
        self._database = database
        self._plans: Mapping[str, Plan] = dict(self._configured)
        self._is_stale = False
        self._changes = 0
        self._unsubscribe: Callable[[], None] = lambda: None

    async def open(self) -> None:
        """Reads the plans of the database, and begins to learn of changes."""
        if self._database is not None:
            self._unsubscribe = self._database.changes.subscribe(TOPIC, self._forget)
            await self._load()

    def close(self) -> None:
        """Ends learning of changes."""
        self._unsubscribe()

    async def plan(self, name: str) -> Plan | None:
        """The plan of that name. None: there is none."""
        if self._is_stale:
            await self._load()
        return self._plans.get(name)

    def known(self, name: str) -> Plan | None:
        """The plan of that name, where that is known without waiting."""
        return None if self._is_stale else self._plans.get(name)

    async def plans(self) -> list[Plan]:
        """All plans, by name."""
        if self._is_stale:
            await self._load()
        return [self._plans[name] for name in sorted(self._plans)]

    def is_configured(self, name: str) -> bool:
        """Whether the configuration has a plan of that name."""
        return name in self._configured

    def _forget(self, change: Change) -> None:
        self._changes += 1
        self._is_stale = True

    async def _load(self) -> None:
        assert self._database is not None, "without a database nothing changes"
        changes = self._changes
        async with self._database.reading() as connection:
            rows = await plan_rows(connection)
        made = {row.name: plan_of_document(*row, self.price_classes) for row in rows}
        self._plans = {**self._configured, **made}
        # What changed meanwhile may be what was read.
        self._is_stale = changes != self._changes


def price_classes(config: Config) -> Mapping[str, str]:
    """The price classes of the configuration's models; under the same names as prices are.

    A target has one as "provider/model" where all rows that have the target are of it.
    """
    named = {name: row.price_class for name, row in config.models.items() if row.price_class is not None}
    direct: dict[str, set[str | None]] = {}
    for row in config.models.values():
        for target in row.targets:
            direct.setdefault(f"{target.provider}/{target.model}", set()).add(row.price_class)
    agreed = {place: found for place, (found, *others) in direct.items() if found is not None and not others}
    return agreed | named


def plan_of_config(name: str, row: PlanConfig, classes: Mapping[str, str]) -> Plan:
    """The plan that a row of the configuration is; takes the classes of models."""
    is_restricted = bool(row.allowed_models or row.allowed_price_classes)
    of_classes = {model for model, price_class in classes.items() if price_class in row.allowed_price_classes}
    return Plan(
        name=name,
        description=row.description,
        windows=tuple(
            PlanWindow(window.window_seconds, window.requests, window.input_tokens) for window in row.windows
        ),
        context_limit_tokens=row.context_limit_tokens,
        allowed_models=row.allowed_models | of_classes if is_restricted else None,
        named_models=row.allowed_models,
        price_classes=row.allowed_price_classes,
        multiplier=multiplier(row.price_multiplier),
        cap=cap(row),
        reserve=reserve_of_config(row.reserve),
    )


def cap(row: PlanConfig) -> Cap | None:
    """How many calls of one key may run and wait."""
    running = row.concurrent_calls_per_key
    return None if running is None else Cap(running, row.queued_calls_per_key, row.queue_seconds)


def multiplier(number: Decimal) -> Multiplier:
    """The multiplier that a number is."""
    return UNCHANGED if number == 1 else multiplier_of(decimal_text(number))


def plan_of_document(
    name: str, document: Mapping[str, Any], created_us: int, updated_us: int, classes: Mapping[str, str] = NO_CLASSES
) -> Plan:
    """The plan that is kept as a document: the keys of the configuration. Takes the classes of models."""
    plan = plan_of_config(name, PlanConfig.model_validate(document), classes)
    return plan._replace(created_us=created_us, updated_us=updated_us)


def document_of(message: plan_pb2.Plan) -> dict[str, Any]:
    """What is kept of a plan of the contract; its fields are within their ranges where PlanConfig takes it."""
    windows = [
        {
            "window_seconds": window.window_seconds,
            "requests": window.requests if window.HasField("requests") else None,
            "input_tokens": window.input_tokens if window.HasField("input_tokens") else None,
        }
        for window in message.windows
    ]
    context = message.context_limit_tokens if message.HasField("context_limit_tokens") else None
    concurrent = message.concurrent_calls_per_key if message.HasField("concurrent_calls_per_key") else None
    return {
        "description": message.description,
        "windows": windows,
        "context_limit_tokens": context,
        "allowed_models": sorted(message.allowed_models),
        "allowed_price_classes": sorted(message.allowed_price_classes),
        "reserve": reserve_document(message.reserve) if message.HasField("reserve") else None,
        "price_multiplier": message.price_multiplier or "1",
        "concurrent_calls_per_key": concurrent,
        "queued_calls_per_key": message.queued_calls_per_key,
        "queue_seconds": message.queue_seconds if message.HasField("queue_seconds") else 30,
    }


def is_decimal(text: str) -> bool:
    """Whether a text is a decimal number without exponent."""
    try:
        return text.strip() == text and "e" not in text.lower() and Decimal(text).is_finite()
    except InvalidOperation:
        return False


def plan_message(plan: Plan) -> plan_pb2.Plan:
    """A plan in the contract's form."""
    message = plan_pb2.Plan(
        name=plan.name,
        description=plan.description,
        context_limit_tokens=plan.context_limit_tokens,
        allowed_models=sorted(plan.named_models),
        allowed_price_classes=sorted(plan.price_classes),
        reserve=reserve_message(plan.reserve),
        price_multiplier="" if plan.multiplier == UNCHANGED else plan.multiplier.text,
    )
    for seconds, requests, input_tokens in plan.windows:
        message.windows.add(window_seconds=seconds, requests=requests, input_tokens=input_tokens)
    if plan.cap is not None:
        message.concurrent_calls_per_key = plan.cap.running
        if plan.cap.waiting:
            message.queued_calls_per_key, message.queue_seconds = plan.cap.waiting, plan.cap.seconds
    if plan.created_us is not None:
        message.create_time.FromMicroseconds(plan.created_us)
    if plan.updated_us is not None:
        message.update_time.FromMicroseconds(plan.updated_us)
    return message
