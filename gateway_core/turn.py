"""The messages of a chat as most are, a role and a text: read once, for all who look at each of them."""

from collections.abc import Sequence

from headgate.v1.message_pb2 import ChatMessage, Role

Turn = tuple[Role, str] | None
"""The role and the text of a message that has nothing else. None: it has something else, or less."""

ROLE, TEXT = (ChatMessage.DESCRIPTOR.fields_by_name[name] for name in ("role", "text"))


def turns_of(messages: Sequence[ChatMessage]) -> list[Turn]:
    """Those of some messages, one for each."""
    found: list[Turn] = []
    for fields in map(ChatMessage.ListFields, messages[:]):  # a list: to walk a repeated field itself costs more
        if len(fields) == 2:
            (first, role), (second, text) = fields
            found.append((role, text) if first is ROLE and second is TEXT else None)
        else:
            found.append(None)
    return found
