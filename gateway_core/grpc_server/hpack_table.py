"""The tables of HPACK: fields that are known by a number."""

Field = tuple[str, str]
"""A name and its value; octets beyond ASCII as in Latin-1."""

FIELD_BYTES = 32
"""What a field counts beside its octets (RFC 7541, 4.1)."""
DEFAULT_BYTES = 4096
"""Size of a dynamic table before anything is said about it."""

# RFC 7541, Appendix A; the first has the number 1.
STATIC: tuple[Field, ...] = (
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
)
FIRST_DYNAMIC = len(STATIC) + 1


class DynamicTable:
    """The fields that one side has told the other to remember, the newest with the lowest number."""

    def __init__(self, most: int = DEFAULT_BYTES) -> None:
        """Takes the size that it may have."""
        self.most = most
        self.version = 0
        """Differs whenever the fields or the size do."""
        self._fields: list[Field] = []
        self._size = 0

    def __len__(self) -> int:
        return len(self._fields)

    def __getitem__(self, number: int) -> Field:
        """The field of a number, static or dynamic; raises IndexError."""
        if 0 < number < FIRST_DYNAMIC:
            return STATIC[number - 1]
        place = number - FIRST_DYNAMIC
        if not 0 <= place < len(self._fields):
            raise IndexError(number)
        return self._fields[-1 - place]

    @property
    def room(self) -> int:
        """Bytes that fields can take without one being dropped."""
        return self.most - self._size

    def add(self, field: Field) -> None:
        """Remembers a field, for which the oldest may go; one that is too large takes all with it."""
        self.version += 1
        self._size += size(field)
        self._fields.append(field)
        self._shrink()

    def resize(self, most: int) -> None:
        """Changes the size that it may have."""
        self.most = most
        self.version += 1
        self._shrink()

    def _shrink(self) -> None:
        count = 0
        while self._size > self.most:
            self._size -= size(self._fields[count])
            count += 1
        del self._fields[:count]


def size(field: Field) -> int:
    """What a field takes of a table."""
    return len(field[0]) + len(field[1]) + FIELD_BYTES
