"""Times as the database has them, in microseconds since 1970-01-01 UTC, and as messages have them."""

from google.protobuf.timestamp_pb2 import Timestamp

from gateway_core.errors import InvalidRequest

FIRST_SECOND = -62_135_596_800
"""Of the year 1, as google/protobuf/timestamp.proto bounds it."""
SECONDS_END = 253_402_300_800
"""The first second after the year 9999."""


def timestamp(at_us: int) -> Timestamp:
    """A time of the database as a message."""
    return Timestamp(seconds=at_us // 1_000_000, nanos=at_us % 1_000_000 * 1000)


def time_us(time: Timestamp, path: str) -> int:
    """A time of a request, without what is below a microsecond; raises InvalidRequest, which names the field."""
    if not (0 <= time.nanos < 10**9 and FIRST_SECOND <= time.seconds < SECONDS_END):
        raise InvalidRequest(f"{path} must be a time of the years 1 to 9999.", param=path)
    return int(time.seconds) * 1_000_000 + time.nanos // 1000
