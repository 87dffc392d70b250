"""The metadata of a call to the core, which are all text."""

from collections.abc import Iterator, Sequence
from typing import Any


class Texts(Sequence[tuple[str, str]]):
    """Pairs, as gRPC takes metadata. A core in the same process takes the columns, which nobody changes once sent."""

    __slots__ = ("columns",)

    def __init__(self, keys: tuple[str, ...], values: list[str]) -> None:
        """Takes all keys, and the value of each."""
        self.columns = (keys, values)

    def __len__(self) -> int:
        return len(self.columns[0])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(*self.columns, strict=True)

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]
