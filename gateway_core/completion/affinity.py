"""What requests for chat completions have in common that one target should answer, for its prompt cache."""

from collections.abc import Iterator

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_DEVELOPER, ROLE_SYSTEM, ROLE_USER, ChatMessage

INSTRUCTIONS_AT_MOST = 4000
PROMPT_AT_MOST = 1000
"""Characters that are looked at: what follows differs from turn to turn."""


def affinity(spec: ChatCompletionSpec, by: str) -> str:
    """By "session": the key of the prompt cache. By "user": the end user. By "prompt": how it begins."""
    match by:
        case "session":
            return spec.prompt_cache_key
        case "user":
            return spec.safety_identifier or spec.user
    return "\0".join(beginning(spec))


def beginning(spec: ChatCompletionSpec) -> Iterator[str]:
    """The instructions, and what the user says first: the same in all turns of a conversation."""
    for message in spec.messages:
        if message.role in (ROLE_SYSTEM, ROLE_DEVELOPER):
            yield words(message)[:INSTRUCTIONS_AT_MOST]
        elif message.role == ROLE_USER:
            yield words(message)[:PROMPT_AT_MOST]
            return


def words(message: ChatMessage) -> str:
    """The texts of a message."""
    if message.HasField("text"):
        return message.text
    return "".join(part.text for part in message.parts.parts if part.HasField("text"))
