"""The reference page: an OpenAPI document as HTML, which can be read without any script."""

import re
from collections.abc import Iterator
from html import escape
from typing import Any

VERBS = ("get", "post", "patch", "put", "delete")


def page(document: dict[str, Any]) -> str:
    """The whole page."""
    info = document["info"]
    by_tag = {tag["name"]: tag["description"] for tag in document["tags"]}
    sections = "".join(section(document, name, text) for name, text in by_tag.items())
    entries = "".join(f'<li><a href="#{anchor(name)}">{escape(name)}</a></li>' for name in by_tag)
    schemas = "".join(schema_entry(name, schema) for name, schema in document["components"]["schemas"].items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title>"
        '<link rel="stylesheet" href="/docs/page.css"><script src="/docs/page.js" defer></script></head><body>'
        f"<header><h1>{escape(info['title'])} API</h1><p>{escape(info['description'])}</p>"
        '<p><a href="/openapi.json">openapi.json</a></p>'
        '<input id="filter" type="search" placeholder="Filter" aria-label="Filter" hidden></header>'
        f'<nav><ul>{entries}<li><a href="#schemas">Schemas</a></li></ul></nav><main>{sections}'
        f'<section id="schemas"><h2>Schemas</h2>{schemas}</section></main></body></html>'
    )


def section(document: dict[str, Any], name: str, text: str) -> str:
    """The operations of one tag."""
    entries = "".join(
        operation(verb, path, described)
        for path, item in document["paths"].items()
        for verb, described in item.items()
        if verb in VERBS and name in described["tags"]
    )
    return f'<section id="{anchor(name)}"><h2>{escape(name)}</h2><p>{escape(text)}</p>{entries}</section>'


def operation(verb: str, path: str, described: dict[str, Any]) -> str:
    """One operation."""
    rows = [
        (parameter["name"], f"{parameter['in']}, {kind(parameter['schema'])}", parameter.get("description", ""))
        for parameter in described.get("parameters", [])
    ]
    body = described.get("requestBody")
    request = body_part("Body", body["content"]) if body else ""
    success = body_part("Answer", described["responses"]["200"]["content"])
    refused = ", ".join(status for status in described["responses"] if status != "200")
    return (
        f'<details class="entry" id="{escape(described["operationId"])}">'
        f'<summary><b class="{verb}">{verb.upper()}</b> <code>{escape(path)}</code> '
        f"<span>{escape(described['summary'])}</span></summary>"
        f"<p>{escape(described['description'])}</p>{table(rows)}{request}{success}"
        f"<p>Other statuses: {refused}</p></details>"
    )


def body_part(title: str, content: dict[str, Any]) -> str:
    """What is sent or answered, in each of its forms."""
    return "".join(
        f"<h4>{title} <small>{escape(media)}</small></h4>{schema_part(form['schema'])}"
        for media, form in content.items()
    )


def schema_part(schema: dict[str, Any]) -> str:
    """A schema: a table of its fields, or what it is."""
    if "properties" in schema:
        return table(list(rows_of(schema)))
    return f"<p>{kind(schema)}</p>"


def schema_entry(name: str, schema: dict[str, Any]) -> str:
    """A schema that others refer to."""
    text = escape(schema.get("description", ""))
    return (
        f'<details class="entry" id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<p>{text}</p>{schema_part(schema)}</details>"
    )


def rows_of(schema: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, kind and description of each field."""
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        mark = ", required" if name in required else ""
        yield name, kind(field) + mark, field.get("description", "")


def table(rows: list[tuple[str, str, str]]) -> str:
    """A table of names, kinds (HTML) and descriptions."""
    if not rows:
        return ""
    body = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{of}</td><td>{escape(text)}</td></tr>" for name, of, text in rows
    )
    return f"<table><thead><tr><th>Name</th><th>Kind</th><th>Meaning</th></tr></thead><tbody>{body}</tbody></table>"


def kind(schema: dict[str, Any]) -> str:
    """What a value is, as HTML: a link where it is a schema of its own."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    for several in ("allOf", "anyOf"):
        if several in schema:
            return " or ".join(kind(part) for part in schema[several])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {kind(schema['items'])}"
    types = schema.get("type", "any")
    plain = " or ".join(types) if isinstance(types, list) else str(types)
    return escape(f"{plain} ({schema['format']})" if "format" in schema else plain)


def anchor(name: str) -> str:
    """The id of a section."""
    return "tag-" + re.sub(r"[^a-z0-9]+", "-", name.lower())
