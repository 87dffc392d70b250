"""Draws a flame graph of folded stacks, which py-spy records: `python -m bench.flame STACKS SVG`.

Each line is a stack, its frames from the outermost on with ";" between them, and how often it was seen:

    py-spy record --gil --format raw --output STACKS --pid PID
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

WIDTH = 1200
ROW = 17
LEAST = 1.2
"""Pixels: what is narrower is left out, with all that it calls."""
LETTER = 6.3
COLOURS: Mapping[str, str] = {
    "rest_bridge": "#7aa6e8",
    "gateway_core/inprocess": "#9fc5c8",
    "gateway_core/pipeline": "#e8b26a",
    "gateway_core/metering": "#e08f7d",
    "gateway_core/storage": "#d98cae",
    "gateway_core/telemetry": "#c3a3dc",
    "gateway_core/upstream": "#8fc48a",
    "gateway_core/providers": "#b9cf7a",
    "gateway_core": "#e6cd7e",
}
OTHER = "#c9c9c9"
LINE = re.compile(r"(.*) (\d+)")
PLACE = re.compile(r"^(.*) \((.*?)(?::\d+)?\)$")


@dataclass(slots=True)
class Frame:
    """A function, called by what is above it."""

    name: str
    count: int = 0
    called: dict[str, "Frame"] = field(default_factory=dict)


def tree(lines: Iterable[str], root: str) -> Frame:
    """The stacks that go through a function whose name contains `root`, from there on; all where it is empty."""
    top = Frame("all")
    for line in lines:
        found = LINE.fullmatch(line.strip())
        if found is None:
            continue
        frames = [named(frame) for frame in found[1].split(";")]
        starts = [at for at, frame in enumerate(frames) if root in frame]
        if not starts:
            continue
        count = int(found[2])
        at = top
        at.count += count
        for frame in frames[starts[0] :]:
            at = at.called.setdefault(frame, Frame(frame))
            at.count += count
    return top


def named(frame: str) -> str:
    """A frame without its line, and with its file as the package has it."""
    found = PLACE.fullmatch(frame)
    if found is None:
        return frame
    _, installed, library = found[2].rpartition("site-packages/")
    return f"{found[1]} ({library if installed else found[2]})"


def shares(frame: Frame) -> Counter[str]:
    """How often each package was at work itself, and not what it calls."""
    found = Counter({package_of(frame.name): frame.count - sum(each.count for each in frame.called.values())})
    for called in frame.called.values():
        found += shares(called)
    return found


def package_of(name: str) -> str:
    """The package in which a function is: one of Headgate's, or "other"."""
    return next((package for package in COLOURS if f"({package}/" in name), "other")


def rectangles(frame: Frame, left: float, scale: float, depth: int) -> Iterator[tuple[Frame, float, float, int]]:
    """A frame and those that it calls: with left edge, width and depth."""
    width = frame.count * scale
    if width < LEAST:
        return
    yield frame, left, width, depth
    for called in sorted(frame.called.values(), key=lambda each: -each.count):
        yield from rectangles(called, left, scale, depth + 1)
        left += called.count * scale


def colour(name: str) -> str:
    """That of the package in which a function is."""
    return COLOURS.get(package_of(name), OTHER)


def svg(top: Frame) -> str:
    """The picture: what calls is above what it calls, and as wide as all of that; a title tells the share."""
    found = list(rectangles(top, 0, WIDTH / max(1, top.count), 0))
    height = ROW * (1 + max((depth for *_, depth in found), default=0)) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="ui-monospace, monospace" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for frame, left, width, depth in found:
        share = f"{100 * frame.count / top.count:.1f} %"
        short = frame.name.partition(" (")[0]
        text = escape(short[: max(0, int((width - 6) / LETTER))]) if width > 4 * LETTER else ""
        parts.append(
            f'<g><title>{escape(frame.name)}: {share}</title><rect x="{left:.1f}" y="{depth * ROW + 2}" '
            f'width="{max(0.5, width - 0.6):.1f}" height="{ROW - 1}" rx="1" fill="{colour(frame.name)}"/>'
            f'<text x="{left + 3:.1f}" y="{depth * ROW + 14}" fill="#111111">{text}</text></g>'
        )
    return "\n".join([*parts, "</svg>", ""])


def main(arguments: list[str]) -> int:
    """Reads stacks, writes the picture, and prints each package's own share."""
    parser = argparse.ArgumentParser(prog="python -m bench.flame", description=__doc__.partition("\n")[0])
    parser.add_argument("stacks", type=Path)
    parser.add_argument("svg", type=Path)
    parser.add_argument("--root", default="", help="only what is called by functions whose name contains this")
    options = parser.parse_args(arguments)
    with options.stacks.open(encoding="utf-8") as lines:
        top = tree(lines, options.root)
    if not top.count:
        parser.error(f"{options.stacks}: no stack with {options.root!r}")
    options.svg.write_text(svg(top), encoding="utf-8")
    for package, count in shares(top).most_common():
        print(f"{100 * count / top.count:5.1f} %  {package}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
