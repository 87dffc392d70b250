"""The bounds of a field as JSON Schema writes them, read from its comment in the contract, which says them in words."""

import re
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from rest_bridge.dialects.admin.comments import comments

LENGTH = re.compile(r"(?:([\d,]+) to|at most) ([\d,]+) (?:characters|lower case)")
RANGE = re.compile(r"(?:^|, )(-?[\d,]+) to ([\d,]+)[.,]")
LEAST = re.compile(r", from (\d+)[.,]")
MOST = re.compile(r", at most ([\d,]+)[;.,]")
NUMBERS = (
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_DOUBLE,
    FieldDescriptor.TYPE_FLOAT,
)


def bounds(field: FieldDescriptor) -> dict[str, Any]:
    """What a value that is given must be within; empty where the comment says nothing of it, and for lists."""
    comment = comments().get(field.full_name, "")
    if field.is_repeated:
        return {}
    if field.type == FieldDescriptor.TYPE_STRING:
        length = LENGTH.search(comment)
        return _told(minLength=length and length[1], maxLength=length and length[2])
    if field.type not in NUMBERS:
        return {}
    both, least, most = RANGE.search(comment), LEAST.search(comment), MOST.search(comment)
    if both is None:
        return _told(minimum=least and least[1], maximum=most and most[1])
    return _told(minimum="0" if "0 means" in comment else both[1], maximum=both[2])


def _told(**bound: str | None) -> dict[str, Any]:
    return {name: int(digits.replace(",", "")) for name, digits in bound.items() if digits}
