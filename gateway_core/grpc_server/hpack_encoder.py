"""The writing side of HPACK (RFC 7541): blocks out of fields, without Huffman's code."""

from collections.abc import Sequence

from gateway_core.grpc_server.hpack_table import DEFAULT_BYTES, FIRST_DYNAMIC, STATIC, DynamicTable, Field, size

VALUES_AT_MOST = 3
"""Of one name that are remembered: what is told is nearly always one of few, or differs each time."""
KNOWN_AT_MOST = 256
"""Encoded fields that are kept."""
LONGEST_REMEMBERED = 256
"""Octets of a field."""

STATIC_NUMBERS = {field: number for number, field in enumerate(STATIC, 1)}
STATIC_NAMES = {name: number for number, (name, _) in reversed(tuple(enumerate(STATIC, 1)))}


class Encoder:
    """The fields that one client is sent.

    The client is told to remember fields until its table is full, and none is ever dropped: so a field's number is
    known by how many came after it.
    """

    def __init__(self) -> None:
        """Begins with an empty table."""
        self._table = DynamicTable()
        self._values: dict[str, dict[str, int]] = {}
        """For each name the values that are remembered: which field it was, from 0."""
        self._known: dict[Field, bytes] = {}
        self._names: dict[str, tuple[bytes, dict[str, int]]] = {}
        """How a name is written whose next values are not remembered, and its values that are."""
        self._is_resized = False

    def resize(self, most: int) -> None:
        """Has the table begin anew where the client wants less than it has."""
        most = min(most, DEFAULT_BYTES)
        if most != self._table.most:
            self._table = DynamicTable(most)
            self._values.clear()
            self._known.clear()
            self._names.clear()
            self._is_resized = True

    def block(self, fields: Sequence[Field]) -> bytes:
        """The fields as the client reads them; it must be sent before any later one."""
        known = self._known
        pieces = [known.get(field) or self._encoded(field) for field in fields]
        if self._is_resized:
            self._is_resized = False
            # All that was remembered goes first: the table must not be larger than it was said to be in between.
            pieces.insert(0, integer(0, 0x20, 0x1F) + integer(self._table.most, 0x20, 0x1F))
        return b"".join(pieces)

    def _encoded(self, field: Field) -> bytes:
        name, value = field
        found = self._names.get(name)
        if found is not None and value not in found[1]:
            # Most: what differs with each call.
            octets = value.encode("latin-1")
            length = len(octets)
            return found[0] + (LENGTHS[length] if length < len(LENGTHS) else integer(length, 0, 0x7F)) + octets
        return self._encoded_first(field)

    def _encoded_first(self, field: Field) -> bytes:
        number = STATIC_NUMBERS.get(field)
        if number is None:
            number = self._number(field)
        if number is not None:
            return self._keep(field, integer(number, 0x80, 0x7F))
        name, value = field
        values = self._values.setdefault(name, {}) if len(self._values) < KNOWN_AT_MOST else self._values.get(name, {})
        takes = size(field)
        name_number = STATIC_NAMES.get(name) or (self._place(next(iter(values.values()))) if values else 0)
        if takes <= min(self._table.room, LONGEST_REMEMBERED) and len(values) < VALUES_AT_MOST:
            values[value] = len(self._table)
            self._table.add(field)
            self._known.clear()
            self._names.clear()
            return integer(name_number, 0x40, 0x3F) + (b"" if name_number else text(name)) + text(value)
        written = integer(name_number, 0, 0x0F) + (b"" if name_number else text(name))
        if len(values) == VALUES_AT_MOST and len(self._names) < KNOWN_AT_MOST:
            self._names[name] = written, values
        return written + text(value)

    def _number(self, field: Field) -> int | None:
        place = self._values.get(field[0], {}).get(field[1])
        return None if place is None else self._place(place)

    def _place(self, place: int) -> int:
        return FIRST_DYNAMIC + len(self._table) - 1 - place

    def _keep(self, field: Field, encoded: bytes) -> bytes:
        if len(self._known) < KNOWN_AT_MOST:
            self._known[field] = encoded
        return encoded


def text(value: str) -> bytes:
    """A text, not in Huffman's code."""
    octets = value.encode("latin-1")
    return integer(len(octets), 0, 0x7F) + octets


def integer(number: int, kind: int, mask: int) -> bytes:
    """An integer, in the bits of the mask of an octet whose other bits are the kind's (RFC 7541, 5.1)."""
    if number < mask:
        return bytes((kind | number,))
    octets = bytearray((kind | mask,))
    number -= mask
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


LENGTHS = tuple(integer(length, 0, 0x7F) for length in range(128))
"""How long texts are, as `text` writes it."""
