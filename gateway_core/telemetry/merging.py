"""The metrics of several workers as one text, in which each sample tells whose it is.

Sums would fall when a worker ends, which Prometheus takes for a new beginning of all of them.
"""

import re

# https://prometheus.io/docs/instrumenting/exposition_formats/: a sample is a line "name{labels} value" or "name value".
SAMPLE = re.compile(rb"^([A-Za-z_:][A-Za-z0-9_:]*)([{ ])", re.MULTILINE)
FAMILY = re.compile(rb"^# HELP (\S+)", re.MULTILINE)
END = b"# EOF\n"
LABEL = b"worker"


def labelled(text: bytes, worker: int) -> bytes:
    """The text of one worker, with the worker's number as a label of each sample."""
    own = b'%b="%d"' % (LABEL, worker)

    def with_label(match: re.Match[bytes]) -> bytes:
        return b"%b{%b," % (match[1], own) if match[2] == b"{" else b"%b{%b} " % (match[1], own)

    return SAMPLE.sub(with_label, text)


def merged(texts: list[bytes]) -> bytes:
    """One text of several: the samples of a family stand together, behind one HELP and one TYPE."""
    families: dict[bytes, list[bytes]] = {}
    for text in texts:
        starts = [match.start() for match in FAMILY.finditer(text)]
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
            lines = text[start:end].removesuffix(END).splitlines(keepends=True)
            name = lines[0].split(maxsplit=3)[2]
            known = families.get(name)
            if known is None:
                families[name] = lines
            else:
                known.extend(line for line in lines if not line.startswith(b"#"))
    last = END if any(text.endswith(END) for text in texts) else b""
    return b"".join(line for lines in families.values() for line in lines) + last
