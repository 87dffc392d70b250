"""A request to OpenAI becomes one to a host that differs from it, by what its row says."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from gateway_core.known.hosts import Quirks
from gateway_core.upstream.json_text import Document

FOREIGN = ("annotations", "cache_control", "extra_content", "images", "reasoning_details")
"""Fields of other vendors' formats that callers bring back with answers, or write where they ask several vendors."""

WISHES = frozenset({"cache_control"})
"""Those that callers write themselves."""


class Unmet(NamedTuple):
    """Something that the host does not take."""

    name: str
    """A parameter's, or a path."""
    may_refuse: bool = True
    """Whether the call may be refused for it. False: it comes with what models said earlier, and is nobody's wish."""


def adapt(document: Document, quirks: Quirks) -> list[Unmet]:
    """Changes a request for a host, in place; what was left out of it."""
    unmet = [*messages(document, quirks), *tools(document, quirks)]
    if quirks.foreign_fields is not None:
        unmet += foreign(document, [name for name in FOREIGN if name not in quirks.foreign_fields])
    if quirks.one_answer and document.get("n") == 1:
        del document["n"]
    if quirks.one_answer and document.pop("n", None) is not None:
        unmet.append(Unmet("n"))
    form = document.get("response_format")
    if form is not None and quirks.response_formats is not None and form.get("type") not in quirks.response_formats:
        del document["response_format"]
        unmet.append(Unmet("response_format"))
    if not quirks.stream_options:
        document.pop("stream_options", None)
    for name, other in quirks.renamed_parameters.items():
        if name in document:
            value = document.pop(name)
            document.setdefault(other, value)
    return unmet


def messages(document: Document, quirks: Quirks) -> Iterator[Unmet]:
    """Changes the messages; yields what was left out of them."""
    for index, message in enumerate(document.get("messages", ())):
        if not quirks.developer_role and message["role"] == "developer":
            message["role"] = "system"
        if not quirks.message_names and message["role"] not in ("tool", "function") and "name" in message:
            del message["name"]
            yield Unmet(f"messages[{index}].name")
        if quirks.reasoning_field == "reasoning" and "reasoning_content" in message:
            message["reasoning"] = message.pop("reasoning_content")
        if quirks.reasoning_field == "none":
            for name in ("reasoning_content", "reasoning_details"):
                if message.pop(name, None) is not None:
                    yield Unmet(f"messages[{index}].{name.partition('_content')[0]}", may_refuse=False)


def foreign(document: Document, refused: list[str]) -> Iterator[Unmet]:
    """Leaves fields of other vendors' formats out that would be refused; yields them."""
    for path, item in items(document):
        for name in refused:
            # Answers tell of empty lists too.
            if item.pop(name, None):
                yield Unmet(f"{path}.{name}", may_refuse=name in WISHES)


def items(document: Document) -> Iterator[tuple[str, Document]]:
    """What may have fields of other vendors, by its path: messages, their parts and calls, and tools."""
    for index, message in enumerate(document.get("messages", ())):
        path = f"messages[{index}]"
        yield path, message
        for name in ("content", "tool_calls"):
            inner = message.get(name)
            if type(inner) is list:
                yield from ((f"{path}.{name}[{n}]", item) for n, item in enumerate(inner) if type(item) is dict)
    for index, tool in enumerate(document.get("tools", ())):
        if type(tool) is dict:
            yield f"tools[{index}]", tool
            if type(tool.get("function")) is dict:
                yield f"tools[{index}].function", tool["function"]


def tools(document: Document, quirks: Quirks) -> Iterator[Unmet]:
    """Changes the tools and the choice among them; yields what was left out."""
    for index, tool in enumerate(document.get("tools", ())):
        function: dict[str, Any] = tool.get("function", {})
        if not quirks.strict_tools and function.pop("strict", None):
            yield Unmet(f"tools[{index}].function.strict")
    choice = document.get("tool_choice")
    if choice is None or quirks.tool_choices is None or choice in quirks.tool_choices:
        return
    del document["tool_choice"]
    if choice == "none":
        # Without tools none can be called.
        document.pop("tools", None)
    else:
        yield Unmet("tool_choice")
