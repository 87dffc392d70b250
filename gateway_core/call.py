"""What travels down the pipeline, and what comes back."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Protocol, Self, TypeVar

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.token_usage_pb2 import TokenUsage

from gateway_core.said import Said, said_of
from gateway_core.tokens import Tokens

Request = TypeVar("Request")

Events = AsyncGenerator[ChatCompletionChunk, None]
"""The answer: awaiting the pipeline opens it, iterating reads it, closing it closes the upstream connection."""


class Given(AsyncGenerator[ChatCompletionChunk, None]):
    """Events that are there already: the answer of a call that is not streamed."""

    __slots__ = ("_event", "_events", "_said", "json")

    def __init__(self, *events: ChatCompletionChunk, json: bytes | None = None) -> None:
        """Takes the events; and the JSON document that says the same, in the format that the call takes."""
        self._events: Sequence[ChatCompletionChunk] | None = events
        self._event: Callable[[], ChatCompletionChunk] | None = None
        self._said: Said | None = None
        self.json = json

    @classmethod
    def read(cls, said: Said, event: Callable[[], ChatCompletionChunk], json: bytes | None = None) -> Self:
        """An answer of which is known what it says, and whose one event is made only if somebody asks for it."""
        answer = cls.__new__(cls)
        answer._said, answer._event, answer._events, answer.json = said, event, None, json
        return answer

    @property
    def events(self) -> Sequence[ChatCompletionChunk]:
        """The events that nobody has read yet."""
        if self._events is None:
            self._events = () if self._event is None else (self._event(),)
        return self._events

    @property
    def said(self) -> Said:
        """What they tell beside their words."""
        if self._said is None:
            self._said = said_of(self.events)
        return self._said

    async def asend(self, value: None, /) -> ChatCompletionChunk:
        """The next event; raises StopAsyncIteration where there is none."""
        if not self.events:
            raise StopAsyncIteration
        event, *self._events = self.events
        return event

    async def athrow(self, *error: Any) -> ChatCompletionChunk:
        """Raises the error: nothing here could handle it."""
        self._events = ()
        return await super().athrow(*error)


async def whole(events: Events) -> Given:
    """All events of an answer, which is closed."""
    if isinstance(events, Given):
        return events
    try:
        return Given(*[event async for event in events])
    finally:
        await events.aclose()


OnUnsupported = Literal["reject", "warn", "drop"]


class Rewrite(NamedTuple):
    """A parameter that was dropped or changed on its way to the provider, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: an account, by one of its keys or without any."""

    account_id: str = ""
    """Empty: nobody was authenticated, which is so before the stage `authenticate` only."""
    key_id: str = ""
    """Empty: no key was given, and none is needed."""
    kind: Literal["private", "public", "none"] = "none"
    """What kind of key it is."""
    is_root: bool = False
    """Whether the account is the operator's."""
    plan: str = ""
    """The plan of the account. Empty: no plan, no limits of one."""
    default_tag: str = ""
    """What its calls are told apart by where they name no tag."""
    project: str = ""
    """The project that the key belongs to."""
    allowed_models: frozenset[str] | None = None
    """The models that account and key both allow. None: all."""
    requests_per_minute: int | None = None
    """Of the account, beside those of its plan. None: no limit of its own."""
    certificate: str = ""
    """The name of the certificate that stood for a key. Empty: none did."""


NOBODY = Caller()


class GatewayUse(NamedTuple):
    """The gateway that a call asks, as it was when the call began."""

    id: str
    slug: str
    version: int


class Cover:
    """What pays for a call in the place of the balance: units of the plan's reserve."""

    __slots__ = ("micro_units", "of_cost", "taken_micro_units")

    def __init__(self, of_cost: Callable[[int], int], taken_micro_units: int) -> None:
        """Takes what tells the millionths of a unit for a cost in picodollars, and those that are taken already."""
        self.of_cost = of_cost
        self.taken_micro_units = taken_micro_units
        self.micro_units = 0
        """Millionths of a unit that the call has used; set when its record is closed."""


class LimitsLeft(Protocol):
    """What is left of the limits of an account, in header fields."""

    keys: tuple[str, ...]
    """Their names."""

    def values(self) -> Sequence[str]:
        """What they say now."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call can go: a provider of the configuration and a model as that provider names it."""

    provider: str
    model: str
    on_unsupported: OnUnsupported = "warn"
    unsupported: frozenset[str] = frozenset()
    """Names of the parameters that this model cannot take, beyond those its wire format has no word for."""
    unsupported_while_reasoning: frozenset[str] = frozenset()
    """Names of those that it cannot take unless reasoning_effort is "none"."""
    features: frozenset[str] | None = None
    """What this model can do: "tools", "parallel_tools", "json_schema", "reasoning", "prefill". None: not known."""
    max_output_tokens: int | None = None
    """Most tokens of an answer, for providers that must be told. None: not known."""


class Operation(Protocol[Request]):
    """What differs between the kinds of call: one small object for each service."""

    name: str
    """gen_ai.operation.name of the OpenTelemetry conventions: "chat"."""

    def model(self, request: Request) -> str:
        """The model that is asked for."""
        ...

    def check(self, call: "Call[Request]") -> None:
        """Raises InvalidRequest, which names the field, for what no provider could answer."""
        ...

    def usage(self, event: ChatCompletionChunk) -> TokenUsage | None:
        """The tokens used, where the event tells."""
        ...

    def labels(self, call: "Call[Request]") -> dict[str, str]:
        """Names and values of the caller's, which are kept with what the call cost."""
        ...

    def prompt_token_count(self, call: "Call[Request]") -> int:
        """The tokens of what is asked, estimated."""
        ...

    def affinity(self, request: Request, by: str) -> str:
        """What requests have in common that one target should answer: "session", "user", "prompt". Empty: nothing."""
        ...

    def open(self, provider: Any, call: "Call[Request]") -> Awaitable[Events]:
        """Asks the provider."""
        ...


@dataclass(slots=True)
class Call(Generic[Request]):
    """One call: what is asked, by whom, until when, and what became of it on its way down."""

    request_id: str
    operation: Operation[Request]
    asked: Request | None
    """What is asked, as `request` tells it. None: only what is read of it has been made."""
    stream: bool
    """Whether the caller reads the answer in chunks."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The caller's metadata; keys in lower case, binary ones left out."""
    deadline: float | None = None
    """Time of the event loop's clock, in seconds, at which the caller stops waiting. None: never."""
    model: str = ""
    """The model that is asked for: the request's, which is looked up once."""
    json_format: str = ""
    """The vendor's format in which the caller takes a whole answer as JSON too. Empty: in none."""
    joins_pieces: bool = True
    """Whether pieces of a text that arrive together may be one chunk."""
    caller: Caller = NOBODY
    """Who calls; set by the stage `authenticate`."""
    address: str = ""
    """The address of the caller's machine, as trusted proxies tell it. Empty: not known."""
    certificate: str = ""
    """The name of the certificate that the call came by. Empty: there was none, or nobody is known by certificates."""
    tag: str = ""
    """What the caller tells its calls apart by."""
    gateway: GatewayUse | None = None
    """The gateway that is asked; set by the stage `gateway`. None: a model is asked directly."""
    targets: tuple[Target, ...] = ()
    """Where it can go, the first choice first; set by the stage `route`."""
    target: Target | None = None
    """Where this attempt goes; set by the stage `fallback`."""
    needs: frozenset[str] = frozenset()
    """Parameters without which this attempt is in vain: refused where the target cannot take them, never dropped."""
    rewrites: list[Rewrite] = field(default_factory=list)
    """What was dropped or changed; complete once the answer is open."""
    upstream_request_id: str = ""
    """What the provider calls this attempt, as its answer's head tells. Empty: it did not tell."""
    attempt_count: int = 0
    """How many attempts were begun."""
    failed_attempts: tuple[str, ...] = ()
    """Those that did not answer, in their order: "lab/tiny=503"; set by the stage `fallback`."""
    route: object = None
    """What the domain `routing` knows of the way to the targets; the stage `fallback` reads it, and nobody else looks.
    None: nothing is known of them."""
    prompt_tokens: int | None = None
    """Of what is asked, estimated; set by the stage `admit`. None: nobody counted."""
    reserved_pico_usd: int = 0
    """Of the balance, for as long as the call is open; set by the stage `admit`."""
    cover: Cover | None = None
    """What its cost is taken from; set by the stage `admit`. None: from the balance."""
    price_multiplier: tuple[int, int, str | None] = (1, 1, None)
    """Of the caller's plan: numerator, denominator, and as a decimal number (None: 1); set by the stage `admit`."""
    limits_left: LimitsLeft | None = None
    """What is left of the account's limits; set by the stage `admit`. None: it has none."""
    usage: Tokens | None = None
    """The tokens that it took, as the answer told them last; set by the stage `trace`. None: not told, or not yet."""
    cost_pico_usd: int | None = None
    """What it cost, once it has ended; set by the stage `meter`. None: not known."""
    record: object = None
    """What the telemetry knows of it, while it runs; the stage `meter` reads the attempts in it, and nobody else looks.
    A copy of the call has the same."""
    reading: Any = None
    """What the request says, as `gateway_core.chat` has read it for all who look at it. None: nobody has."""
    is_checked: bool = False
    """Whether the request is what some provider could answer; set by whoever has asked the operation."""

    def __post_init__(self) -> None:
        if not self.model:
            self.model = self.operation.model(self.request)

    @property
    def request(self) -> Request:
        """What is asked."""
        request: Request = self.reading.spec if self.asked is None else self.asked
        return request

    @request.setter
    def request(self, request: Request) -> None:
        self.asked, self.reading = request, None

    def ask(self, reading: Any, model: str) -> None:
        """Asks something else of a model, by way of this call: what is read already, and made if somebody wants it."""
        self.asked, self.reading, self.model = None, reading, model

    def prompt_token_count(self) -> int:
        """The tokens of what is asked, estimated."""
        return self.operation.prompt_token_count(self) if self.prompt_tokens is None else self.prompt_tokens

    def let_go(self) -> None:
        """Keeps the request alone, and nothing that was read of it: a stream may be open for hours."""
        self.request = self.request

    def check(self) -> None:
        """Raises InvalidRequest, which names the field, for what no provider could answer; asks once."""
        if not self.is_checked:
            self.operation.check(self)
            self.is_checked = True


Next = Callable[[Call[Request]], Awaitable[Events]]
