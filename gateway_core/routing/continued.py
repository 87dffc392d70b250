"""A call that asks targets to go on with an answer which another has begun, each of them in the way that it can."""

from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_ASSISTANT, ChatMessage
from headgate.v1.token_usage_pb2 import TokenUsage

from gateway_core.call import Call, Events, Operation, Target
from gateway_core.errors import UnsupportedParameter

PREFILL = frozenset({"prefill"})
LIMITS = ("max_tokens", "max_completion_tokens")
WORDS = frozenset({"role", "text"})
"""The fields of a message that is text alone."""


class Continued:
    """The operation of such a call: a target that takes the beginning of its answer gets it, others are asked anew."""

    def __init__(self, operation: Operation[Any], spec: ChatCompletionSpec) -> None:
        """Takes the operation as it was, and what a target is asked that takes a beginning."""
        self.name = operation.name
        self._operation = operation
        self._spec = spec
        self._anew: set[Target] = set()

    def goes_on(self, target: Target | None) -> bool:
        """Whether a target that was asked has the beginning; if not, its answer starts with that again."""
        return target not in self._anew

    async def open(self, provider: object, call: Call[Any]) -> Events:
        """Asks the provider at call.target."""
        asked, call.request, call.needs = call.request, self._spec, PREFILL
        try:
            return await self._operation.open(provider, call)
        except UnsupportedParameter as error:
            if error.metadata.get("param") not in PREFILL:
                raise
        finally:
            call.request, call.needs = asked, frozenset()
        # Nothing was sent yet.
        assert call.target is not None, "the stage `fallback` sets the target"
        self._anew.add(call.target)
        del call.rewrites[:]
        return await self._operation.open(provider, call)

    def model(self, request: Any) -> str:
        """As the operation says."""
        return self._operation.model(request)

    def check(self, call: Call[Any]) -> None:
        """As the operation does."""
        self._operation.check(call)

    def usage(self, event: ChatCompletionChunk) -> TokenUsage | None:
        """As the operation says."""
        return self._operation.usage(event)

    def labels(self, call: Call[Any]) -> dict[str, str]:
        """As the operation says."""
        return self._operation.labels(call)

    def prompt_token_count(self, call: Call[Any]) -> int:
        """As the operation says."""
        return self._operation.prompt_token_count(call)

    def affinity(self, request: Any, by: str) -> str:
        """As the operation says."""
        return self._operation.affinity(request, by)


def continued_spec(spec: ChatCompletionSpec, beginning: str, tokens: int) -> ChatCompletionSpec:
    """What is asked of a target that goes on with an answer: its beginning, and the tokens that this has, estimated."""
    asked = ChatCompletionSpec()
    asked.CopyFrom(spec)
    begun = spec.prefill
    if not begun and len(asked.messages) > 1 and is_words(asked.messages[-1]):
        # The first target went on with these already: two turns of the assistant's would be two answers.
        begun = asked.messages.pop().text
    asked.prefill = begun + beginning
    for limit in LIMITS:
        if getattr(spec, limit) > 0:  # some hosts take -1 for none
            setattr(asked, limit, max(1, getattr(spec, limit) - tokens))
    return asked


def is_words(message: ChatMessage) -> bool:
    """Whether a message is a text of the assistant's and nothing else."""
    return message.role == ROLE_ASSISTANT and all(field.name in WORDS for field, _ in message.ListFields())
