"""The Huffman code of HPACK: texts out of bits."""

from collections.abc import Sequence
from functools import lru_cache

# Bits of each octet's code, and at the end of EOS's (RFC 7541, Appendix B). The code is canonical: that is all of it.
LENGTHS = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19,
    22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
    27, 27, 27, 26, 30,
)  # fmt: skip
EOS = 256

PADDING_BITS_AT_MOST = 7
CACHED_AT_MOST = 256
CACHED_BYTES = 64

Step = tuple[int, bytes]
"""The state after four bits, and the octets that they completed."""


class Undecodable(ValueError):
    """No encoder makes such bits."""


def tree() -> list[list[int]]:
    """Nodes, the first the root: for 0 and for 1 a node's number, or ~octet."""
    nodes = [[0, 0]]
    code = last = 0
    for octet in sorted(range(len(LENGTHS)), key=lambda octet: (LENGTHS[octet], octet)):
        length = LENGTHS[octet]
        code <<= length - last
        last = length
        node = 0
        for place in range(length - 1, 0, -1):
            bit = code >> place & 1
            if not nodes[node][bit]:
                nodes.append([0, 0])
                nodes[node][bit] = len(nodes) - 1
            node = nodes[node][bit]
        nodes[node][code & 1] = ~octet
        code += 1
    return nodes


def steps(nodes: Sequence[Sequence[int]]) -> list[Step | None]:
    """By 16 * node + four bits: where they lead. None: to EOS, which no text has."""
    return [step(nodes, node, bits) for node in range(len(nodes)) for bits in range(16)]


def step(nodes: Sequence[Sequence[int]], node: int, bits: int) -> Step | None:
    """One of them."""
    completed = b""
    for place in (3, 2, 1, 0):
        node = nodes[node][bits >> place & 1]
        if node == ~EOS:
            return None
        if node < 0:
            completed += bytes((~node,))
            node = 0
    return 16 * node, completed


def paddings(nodes: Sequence[Sequence[int]]) -> frozenset[int]:
    """The states in which a text may end: at the beginning of a code, or some ones later."""
    found, node = [0], 0
    for _ in range(PADDING_BITS_AT_MOST):
        node = nodes[node][1]
        found.append(16 * node)
    return frozenset(found)


_nodes = tree()
STEPS = steps(_nodes)
PADDINGS = paddings(_nodes)


def decoded(bits: bytes) -> bytes:
    """The octets that they stand for; raises Undecodable."""
    return _known(bits) if len(bits) <= CACHED_BYTES else _decoded(bits)


def _decoded(bits: bytes) -> bytes:
    pieces = []
    state = 0
    for octet in bits:
        for four in (octet >> 4, octet & 15):
            found = STEPS[state + four]
            if found is None:
                raise Undecodable("EOS in a text")
            state, completed = found
            if completed:
                pieces.append(completed)
    if state not in PADDINGS:
        raise Undecodable("a text that ends within a code")
    return b"".join(pieces)


_known = lru_cache(CACHED_AT_MOST)(_decoded)
