"""The description of the REST API: whole, true, and shown on a page that needs nothing from elsewhere."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import headgate.v1
import hypothesis
import pytest
import schemathesis
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from rest_bridge.app import server
from rest_bridge.dialects.admin.binding import bindings, services
from rest_bridge.dialects.admin.comments import comments
from rest_bridge.dialects.admin.openapi import document
from tests.rest_bridge.admin.conftest import CONFIG, Bridge, scripted
from tests.rest_bridge.admin.threaded import threaded
from tests.support.gateway import served

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 15
# What a string must be, by the last word of its field's name.
SAID = {"json": "{}", "type": "text/csv"}
DOCUMENT = document()
OPERATIONS = sorted(described["operationId"] for item in DOCUMENT["paths"].values() for verb, described in item.items())
ROOT = Path(next(iter(headgate.v1.__path__))).parents[1]


def filled(message: Message, depth: int = 4) -> Message:
    """A message with something in every field, as deep as told."""
    if message.DESCRIPTOR.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        return message
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                continue
            if depth:
                inner = getattr(message, field.name)
                filled(inner.add() if field.is_repeated else inner, depth - 1)
                if not field.is_repeated:
                    inner.SetInParent()
        elif field.type == field.TYPE_STRING:
            put(message, field, SAID.get(field.name.rpartition("_")[2], "1"))
        elif field.type == field.TYPE_BYTES:
            put(message, field, b"" if field.name == "json" else b"a,b\r\n")
        elif field.type == field.TYPE_ENUM:
            put(message, field, 1)
        else:
            put(message, field, field.type == field.TYPE_BOOL or 2**31 - 1)
    return message


def put(message: Message, field: Any, value: Any) -> None:
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    async with scripted() as (core, app), served(server(app, CONFIG, "127.0.0.1", 0)) as url:
        for service in services():
            for method in service.methods:
                core.answers[method.name] = [filled(GetMessageClass(method.output_type)())]
        yield url


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with threaded(serving()) as told:
        yield told


@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_is_sent_the_answer_is_one_that_is_described(url: str, operation: str) -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=schema.find_operation_by_id(operation).as_strategy())
    def check(case: Any) -> None:
        response = case.call(base_url=url)
        case.validate_response(response, checks=CHECKS)

    check()


async def test_the_document_is_served(bridge: Bridge) -> None:
    status, served_document = await bridge.ask("GET", "/openapi.json")
    assert (status, served_document["openapi"]) == (200, "3.1.0")
    assert served_document == DOCUMENT


def test_every_binding_and_every_variable_is_described() -> None:
    described = {(verb.upper(), path) for path, item in DOCUMENT["paths"].items() for verb in item}
    for binding in bindings():
        path = re.sub(r"\{[a-z_.]*?([a-z_]+)\}", r"{\1}", binding.template)
        assert (binding.verb, path) in described
        given = DOCUMENT["paths"][path][binding.verb.lower()]["parameters"]
        named = [parameter["name"] for parameter in given if parameter["in"] == "path"]
        assert named == re.findall(r"\{(\w+)\}", path)
    assert len(OPERATIONS) == len(set(OPERATIONS)) == len(described) == len(bindings()) + 3


def test_every_reference_leads_somewhere_and_everything_is_referred_to() -> None:
    referred = set(re.findall(r"'#/components/(\w+)/(\w+)'", str(DOCUMENT)))
    for part in ("schemas", "responses"):
        there = set(DOCUMENT["components"][part])
        assert {name for group, name in referred if group == part} == there


def test_every_operation_and_field_has_words() -> None:
    for item in DOCUMENT["paths"].values():
        for described in item.values():
            assert described["summary"]
            assert all(parameter["description"] for parameter in described.get("parameters", []))
    assert DOCUMENT["components"]["schemas"]["KeyChange"]["properties"]["label"]["description"].startswith("Label, 1")


def test_what_only_one_side_sets_is_described_to_that_side() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert "api_key" in schemas["OwnEndpointInput"]["properties"]
    assert "api_key" not in schemas["OwnEndpointSettings"]["properties"]
    assert "id" in schemas["Gateway"]["properties"]
    assert "id" not in schemas["GatewayInput"]["properties"]
    assert schemas["GatewayInput"]["required"] == ["name"]
    assert "required" not in schemas["GatewayChange"]
    assert schemas["GatewayChange"]["additionalProperties"] is False


def test_what_is_given_has_the_bounds_that_the_comments_of_the_contract_tell() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    label, queued = schemas["KeyChange"]["properties"]["label"], schemas["PlanInput"]["properties"]["queue_seconds"]
    assert (label["minLength"], label["maxLength"]) == (1, 64)
    assert (queued["minimum"], queued["maximum"]) == (1, 3600)
    assert schemas["PlanInput"]["properties"]["context_limit_tokens"]["minimum"] == 1
    penalty = schemas["ChatCompletionSpecInput"]["properties"]["presence_penalty"]
    assert (penalty["minimum"], penalty["maximum"]) == (-2, 2)
    assert "minLength" not in schemas["Key"]["properties"]["label"]
    listed = {given["name"]: given["schema"] for given in DOCUMENT["paths"]["/api/v1/keys"]["get"]["parameters"]}
    assert (listed["page_size"]["minimum"], listed["page_size"]["maximum"]) == (0, 1000)


def test_nobody_is_asked_for_the_unspecified_value_of_an_enum() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert "unspecified" in schemas["Gateway"]["properties"]["instructions_placement"]["enum"]
    assert schemas["GatewayInput"]["properties"]["instructions_placement"]["enum"] == ["before", "after", None]
    listed = {given["name"]: given["schema"] for given in DOCUMENT["paths"]["/api/v1/keys"]["get"]["parameters"]}
    assert listed["kind"]["enum"] == ["private", "public"]


def test_the_comments_are_those_that_protoc_reads(tmp_path: Path) -> None:
    out = tmp_path / "set"
    includes = [
        f"-I{ROOT}",
        f"-I{Path(protoc.__file__).parent / '_proto'}",
        f"-I{Path(annotations_pb2.__file__).parents[2]}",
    ]
    sources = [str(path) for path in sorted(ROOT.glob("headgate/v1/*.proto"))]
    assert protoc.main(["protoc", *includes, "--include_source_info", f"--descriptor_set_out={out}", *sources]) == 0
    theirs = {}
    for file in FileDescriptorSet.FromString(out.read_bytes()).file:
        for location in file.source_code_info.location:
            if location.leading_comments and (name := name_at(file, list(location.path))):
                theirs[f"{file.package}.{name}"] = " ".join(location.leading_comments.split())
    assert len(theirs) > 500
    assert comments() == theirs


def name_at(file: Any, path: list[int]) -> str:
    """The name of what stands at a path of a FileDescriptorProto; "" for the package."""
    names, found = [], file
    for number, index in zip(path[::2], path[1::2], strict=False):
        found = getattr(found, found.DESCRIPTOR.fields_by_number[number].name)[index]
        names.append(found.name)
    return ".".join(names) if len(path) % 2 == 0 else ""


class Links(HTMLParser):
    """Collects what a page loads and runs."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "src" or (name == "href" and tag == "link"):
                self.loaded.append(value or "")
            elif name == "style" or name.startswith("on"):
                self.inline.append(name)
            elif name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.targets.append(value or "")
        if tag == "style":
            self.inline.append(tag)


async def test_the_page_loads_only_what_is_beside_it_and_allows_nothing_else(bridge: Bridge) -> None:
    page = await bridge.http.get("/docs")
    links = Links()
    links.feed(page.text)
    assert sorted(links.loaded) == ["/docs/page.css", "/docs/page.js"]
    assert links.inline == []
    assert {target for target in links.targets if target.startswith("#")} <= {f"#{name}" for name in links.ids}
    assert len(links.ids) == len(set(links.ids))
    for path, kind in (("/docs", "text/html"), ("/docs/page.css", "text/css"), ("/docs/page.js", "text/javascript")):
        response = await bridge.http.get(path)
        assert (response.status_code, response.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert not re.search(r"unsafe|https?:|\*", policy)
        assert "://" not in response.text.replace("https://", "", response.text.count("https://api.example.com"))


async def test_the_page_tells_every_operation_without_a_script(bridge: Bridge) -> None:
    text = (await bridge.http.get("/docs")).text
    for operation in OPERATIONS:
        assert f'id="{operation}"' in text
    assert "<script>" not in text


async def test_a_description_is_only_read(bridge: Bridge) -> None:
    for path in ("/openapi.json", "/docs"):
        assert await bridge.refused("POST", path) == (405, None)
