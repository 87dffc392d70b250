"""For how long a caller asks its stream to go on without it."""

import re
from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration

from gateway_core.errors import InvalidRequest

METADATA = "x-headgate-detach"
# Like a Duration in Protobuf's JSON; the "s" may be left out.
TEXT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s?")


def seconds_of(text: str) -> float:
    """The seconds that "60s" says; raises InvalidRequest."""
    found = TEXT.fullmatch(text.strip())
    if found is None:
        raise InvalidRequest(f'{METADATA} must be a number of seconds such as "60s".', param=METADATA)
    return float(found[1])


def asked_seconds(given: Duration | None, metadata: Mapping[str, str]) -> float | None:
    """What a request's field says, else what its metadata say. None: nothing. Raises InvalidRequest."""
    if given is not None:
        seconds = given.ToNanoseconds() / 1e9
        if seconds < 0:
            raise InvalidRequest("detach must not be negative.", param="detach")
        return seconds
    text = metadata.get(METADATA)
    return None if text is None else seconds_of(text)
