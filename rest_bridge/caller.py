"""Whose request it is: the connection's address, or what proxies that are believed say of it."""

import re

ADDRESS = re.compile(rb"[\x21-\x7e]{1,64}")
PROXIES_AT_MOST = 20
"""Of how many addresses at the end of a list the caller is found."""


def forwarded_caller(peer: str, forwarded: bytes | None, trusted: frozenset[str]) -> str:
    """The caller's address; takes the peer's, X-Forwarded-For, and whose word for it is believed ("*": everybody's)."""
    if not forwarded or (peer not in trusted and "*" not in trusted):
        return peer
    address = peer
    # Each proxy appends whom it saw: the last one that is no proxy of ours is the caller.
    for part in reversed([part.strip() for part in forwarded.split(b",")[-PROXIES_AT_MOST:]]):
        if not ADDRESS.fullmatch(part):
            break
        address = part.decode("ascii")
        if address not in trusted and "*" not in trusted:
            break
    return address
