"""The reading side of HPACK (RFC 7541): fields out of a block."""

from gateway_core.grpc_server import huffman
from gateway_core.grpc_server.hpack_table import DEFAULT_BYTES, DynamicTable, Field, size

INTEGER_OCTETS_AT_MOST = 5
"""After the first: more than any size or number needs."""


class Undecodable(ValueError):
    """The block is none; what comes after it cannot be understood either."""


class TooLarge(ValueError):
    """The fields are more than is allowed. The table is as it should be, and other blocks can be read."""


class Decoder:
    """The fields that one client sends."""

    def __init__(self, list_bytes: int) -> None:
        """Takes the size that the fields of one block may have (RFC 9113, 6.5.2)."""
        self.table = DynamicTable()
        self._list_bytes = list_bytes

    def fields(self, block: bytes) -> list[Field]:
        """The fields of a whole block; raises Undecodable, or TooLarge."""
        try:
            return self._fields(block)
        except (IndexError, huffman.Undecodable) as error:
            raise Undecodable(str(error)) from error

    def _fields(self, block: bytes) -> list[Field]:
        found: list[Field] = []
        position, room = self._resized(block), self._list_bytes
        while position < len(block):
            octet = block[position]
            if octet & 0x80:
                number, position = integer(block, position, 0x7F)
                field = self.table[number]
            elif octet & 0x40:
                field, position = self._literal(block, position, 0x3F)
                self.table.add(field)
            elif octet & 0x20:
                raise Undecodable("a change of the table's size behind a field")
            else:
                field, position = self._literal(block, position, 0x0F)
            room -= size(field)
            if room >= 0:
                found.append(field)
        if room < 0:
            raise TooLarge
        return found

    def _resized(self, block: bytes) -> int:
        position = 0
        while block[position : position + 1] and block[position] & 0xE0 == 0x20:
            most, position = integer(block, position, 0x1F)
            if most > DEFAULT_BYTES:
                raise Undecodable("a table larger than was allowed")
            self.table.resize(most)
        return position

    def _literal(self, block: bytes, position: int, mask: int) -> tuple[Field, int]:
        number, position = integer(block, position, mask)
        if number:
            name = self.table[number][0]
        else:
            name, position = text(block, position)
        value, position = text(block, position)
        return (name, value), position


def text(block: bytes, position: int) -> tuple[str, int]:
    """A text and the position behind it."""
    is_huffman = block[position] & 0x80
    length, position = integer(block, position, 0x7F)
    end = position + length
    octets = block[position:end]
    if len(octets) != length:
        raise Undecodable("a text that ends behind the block")
    return (huffman.decoded(octets) if is_huffman else octets).decode("latin-1"), end


def integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """An integer, whose first octet has it in the bits of the mask, and the position behind it (RFC 7541, 5.1)."""
    number = block[position] & mask
    position += 1
    if number < mask:
        return number, position
    for shift in range(0, 7 * INTEGER_OCTETS_AT_MOST, 7):
        octet = block[position]
        position += 1
        number += (octet & 0x7F) << shift
        if not octet & 0x80:
            return number, position
    raise Undecodable("an integer that is too large")
