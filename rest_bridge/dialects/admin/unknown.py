"""What to say of a name that the contract does not have: which one may have been meant."""

import difflib
from collections.abc import Iterable

from google.protobuf.descriptor import Descriptor

from rest_bridge.body import InvalidBody
from rest_bridge.dialects.admin.behavior import is_output_only

COMPARED_AT_MOST = 100
"""Characters of a name; comparing takes the square of the time."""


def unknown(path: str, known: Iterable[str]) -> InvalidBody:
    """What to raise for a path whose last name is not one of those known."""
    owner, dot, name = path.rpartition(".")
    close = difflib.get_close_matches(name[:COMPARED_AT_MOST].lower(), [each for each in known if each != name], 1)
    meant = f" Did you mean '{owner}{dot}{close[0]}'?" if close else ""
    return InvalidBody(f"Unknown parameter: '{path}'.{meant}", path)


def settable(message: Descriptor) -> list[str]:
    """The names of the fields that callers set."""
    return [field.name for field in message.fields if not is_output_only(field)]
