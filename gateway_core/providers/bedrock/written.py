"""A request on its way to Converse, and what becomes of the parts of it that Converse has no word for."""

from dataclasses import dataclass, field

from gateway_core.call import Rewrite
from gateway_core.upstream.closed_schema import clean_schema
from gateway_core.upstream.json_text import Document, json_object

CACHE_CONTROL = "cache_control"
"""Anthropic's word for a mark of the prompt cache, which callers of OpenAI's API send to gateways too."""

UNTAKEN = "left out, Bedrock takes none back"

TTLS = frozenset({"5m", "1h"})
"""How long Bedrock keeps what it caches, where it is told."""


@dataclass(slots=True)
class Written:
    """What was written, and what was not."""

    document: Document = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """What was left out, by its path, and why: refused or dropped, as the configuration says."""
    rewrites: list[Rewrite] = field(default_factory=list)
    """What was said in another way, or is not wanted back."""

    def forget(self, path: str) -> None:
        """Notes what came with an earlier answer and is not taken back: nobody's wish, so that none is refused."""
        self.rewrites.append(Rewrite(path, UNTAKEN))

    def leave_out(self, path: str, because: str = "the provider {} does not take it") -> None:
        """Notes what was left out, and why; {} is the provider's name."""
        self.left_out.setdefault(path, because)

    def closed(self, schema: Document, path: str) -> Document:
        """A schema that Bedrock takes; tells what keywords it does without."""
        changed: set[str] = set()
        cleaned: Document = clean_schema(schema, changed)
        if changed:
            reason = f"changed, Bedrock does not hold answers to {', '.join(sorted(changed))}"
            self.rewrites.append(Rewrite(path, reason))
        return cleaned

    def extra(self, extra_json: str, path: str, *, is_answer: bool = False) -> Document | None:
        """Notes the unknown fields of a part as left out; but a mark for the prompt cache becomes a block.

        Takes whether it is of an earlier answer, with which such fields come.
        """
        if not extra_json:
            return None
        point = None
        for name, value in json_object(extra_json, f"{path}.extra_json").items():
            if name == CACHE_CONTROL:
                point = cache_point(value.get("ttl") if isinstance(value, dict) else None)
            elif is_answer:
                # Answers tell of empty lists too.
                if value:
                    self.forget(f"{path}.{name}")
            else:
                self.leave_out(f"{path}.{name}")
        return point


def cache_point(ttl: object) -> Document:
    """The block that marks what stands before it for the prompt cache."""
    point: Document = {"type": "default"}
    if isinstance(ttl, str) and ttl in TTLS:
        point["ttl"] = ttl
    return {"cachePoint": point}
