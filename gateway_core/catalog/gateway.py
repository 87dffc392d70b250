"""A gateway as one of its versions has it, prepared for the calls that ask it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.gateway_pb2 import CONTEXT_OVERFLOW_ACTION_TRUNCATE, INSTRUCTIONS_PLACEMENT_AFTER, Gateway
from headgate.v1.message_pb2 import ROLE_SYSTEM, ChatMessage

from gateway_core.call import GatewayUse
from gateway_core.storage.gateway import GatewayRow
from gateway_core.turn import Turn, turns_of

DEFAULT_OVERRIDES = frozenset(
    {
        "temperature",
        "top_p",
        "seed",
        "reasoning_effort",
        "max_completion_tokens",
        "max_tokens",
        "stop",
        "tools",
        "tool_choice",
        "response_format",
    }
)
"""What a request may override where the gateway does not say."""

OUTPUT_ONLY = frozenset({"id", "account_id", "slug", "version", "create_time", "update_time"})

SHORTEST_DIGITS = 4
SHOWN_OF_KEY = 4
"""Characters of an endpoint's key that are shown of its beginning, and of its end, where it is four times as long."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a gateway. Nothing of it ever changes: calls that began with it keep it."""

    use: GatewayUse
    account_id: str
    message: Gateway = field(repr=False)
    """As it is told: with what is output only, without secrets."""
    secret: bytes | None = field(repr=False)
    """The sealed key of its own endpoint. None: there is none."""
    parameters: tuple[str, ...]
    """Names of the fields of ChatCompletionSpec that it sets."""
    overridable: frozenset[str]
    """Names of the fields that a request may override; "*" stands for all."""

    # What each call asks for, read from the message once.
    model: str
    """What is asked of its endpoint, or the hosted model."""
    is_own: bool
    """Whether it has an endpoint of its own."""
    template: str
    """What stands around a prompt. Empty: nothing."""
    instructions: ChatMessage | None = field(repr=False)
    """What is said to the model beside what the caller says. None: nothing."""
    turn: Turn
    """The same, as those read it who look at each message."""
    is_behind: bool
    """Whether that stands behind the caller's own instructions."""
    is_plain: bool
    """Whether it adds nothing but instructions, and its model."""
    is_begun: bool
    """Whether it has a beginning for the answer."""
    is_bounded: bool
    """Whether there may be a bound to the tokens of a prompt that is not left to the provider."""
    limit_tokens: int | None
    """Most tokens of a prompt, as it says itself. None: it does not."""
    truncates: bool
    """Whether the oldest messages of a prompt that is too long are left out."""

    @classmethod
    def of(cls, row: GatewayRow) -> Self:
        """The version of a row."""
        message = Gateway.FromString(row.message)
        message.id, message.account_id, message.slug, message.version = row.id, row.account_id, row.slug, row.version
        message.create_time.FromMicroseconds(row.created_us)
        message.update_time.FromMicroseconds(row.updated_us)
        parameters = tuple(field.name for field, _ in message.parameters.ListFields())
        truncates = message.context_overflow_action == CONTEXT_OVERFLOW_ACTION_TRUNCATE
        is_own, said = message.HasField("endpoint"), instructions(message)
        return cls(
            use=GatewayUse(row.id, row.slug, row.version),
            account_id=row.account_id,
            message=message,
            secret=row.secret,
            parameters=parameters,
            overridable=overridable(message),
            model=message.endpoint.model if is_own else message.model,
            is_own=is_own,
            template=message.user_prompt_template,
            instructions=said,
            turn=turns_of([said])[0] if said is not None else None,
            is_behind=message.instructions_placement == INSTRUCTIONS_PLACEMENT_AFTER,
            is_plain=not (parameters or message.user_prompt_template or message.HasField("prefill")),
            is_begun=message.HasField("prefill"),
            is_bounded=message.HasField("context_limit_tokens") or truncates,
            limit_tokens=message.context_limit_tokens if message.HasField("context_limit_tokens") else None,
            truncates=truncates,
        )

    def most_tokens(self, context_length: int | None) -> int | None:
        """Most tokens of a prompt, for a model that takes so many.

        None: it is left to the provider, who knows its own limit better than an estimate.
        """
        if self.limit_tokens is not None:
            return self.limit_tokens
        return context_length if self.truncates else None

    def may_override(self, name: str) -> bool:
        """Whether a request's value of a field counts more than the gateway's."""
        return name in self.overridable or "*" in self.overridable


def instructions(gateway: Gateway) -> ChatMessage | None:
    """The message that the model is sent beside the caller's."""
    if not gateway.HasField("instructions"):
        return None
    return ChatMessage(role=gateway.instructions_role or ROLE_SYSTEM, text=gateway.instructions)


def overridable(gateway: Gateway) -> frozenset[str]:
    """Names of what a request may override."""
    return frozenset(gateway.overrides.parameters) if gateway.HasField("overrides") else DEFAULT_OVERRIDES


def stored(gateway: Gateway) -> bytes:
    """A gateway as it is kept: without what is output only and without its key."""
    kept = Gateway()
    kept.CopyFrom(gateway)
    for name in OUTPUT_ONLY:
        kept.ClearField(name)
    if kept.HasField("endpoint"):
        kept.endpoint.ClearField("api_key")
    return kept.SerializeToString(deterministic=True)


def slugs(name: str, gateway_id: str) -> Sequence[str]:
    """What the slug of a gateway can be, the shortest first."""
    digits = gateway_id.replace("-", "")
    return [f"{name}:{digits[-count:]}" for count in range(SHORTEST_DIGITS, len(digits) + 1)]


def masked(key: str) -> str:
    """What is shown of an endpoint's key: its beginning and its end; of a short one nothing."""
    return f"{key[:SHOWN_OF_KEY]}…{key[-SHOWN_OF_KEY:]}" if len(key) >= 4 * SHOWN_OF_KEY else "…"


def secret_place(gateway_id: str, base_url: str) -> str:
    """Where a key is sealed for: it opens for this gateway and this address only."""
    return f"gateway_versions.secret:{gateway_id}:{base_url}"


NAMES = frozenset(field.name for field in ChatCompletionSpec.DESCRIPTOR.fields)
"""Names of all fields of ChatCompletionSpec."""
