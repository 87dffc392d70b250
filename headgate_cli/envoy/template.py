"""Text with places to fill in: what Envoy's configuration is written in, since its comments are half of its worth.

A line whose first word is `#:` is an order, and so a comment to whatever else reads the template:

    #: if NAME          (or: if not NAME), #: else, #: end
    #: for NAME         once for each mapping of a list, whose values then count before the others; #: end

`${NAME}` stands for a value. A name that has none raises KeyError: it is the template's fault.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Value = str | int | bool | Sequence["Values"]
Values = Mapping[str, Value]

ORDER = re.compile(r"\s*#: (?P<word>if not|if|for|else|end)\b *(?P<name>\w*)$")
PLACE = re.compile(r"\$\{(\w+)\}")


@dataclass(slots=True)
class _Block:
    """What stands between an order and its end."""

    word: str
    name: str
    body: list["str | _Block"] = field(default_factory=list)
    otherwise: list["str | _Block"] = field(default_factory=list)


def filled(template: str, values: Values) -> str:
    """The text of a template; raises KeyError and ValueError for one that makes no sense."""
    whole = _block(iter(template.splitlines()), _Block("", ""))
    return "\n".join(_lines(whole.body, values)) + "\n"


def _block(lines: Iterator[str], block: _Block) -> _Block:
    """The block that the next lines make, up to its end."""
    into = block.body
    for line in lines:
        order = ORDER.match(line)
        if order is None:
            if line.lstrip().startswith("#:"):
                raise ValueError(f"no order of a template: {line.strip()}")
            into.append(line)
        elif order["word"] == "end" and block.word:
            return block
        elif order["word"] in ("end", "else") and not block.word:
            raise ValueError(f"nothing of a template is open: {line.strip()}")
        elif order["word"] == "else":
            into = block.otherwise
        else:
            into.append(_block(lines, _Block(order["word"], order["name"])))
    if block.word:
        raise ValueError(f"a template has no end for: {block.word} {block.name}")
    return block


def _lines(parts: Sequence["str | _Block"], values: Values) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield PLACE.sub(lambda place: str(values[place[1]]), part)
        elif part.word == "for":
            rows = values[part.name]
            assert not isinstance(rows, str | int)
            for row in rows:
                yield from _lines(part.body, {**values, **row})
        else:
            yield from _lines(part.body if bool(values[part.name]) is (part.word == "if") else part.otherwise, values)
