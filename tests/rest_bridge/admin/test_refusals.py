"""What every route of the administrative API refuses, and how it names what is wrong."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from grpc import StatusCode

from rest_bridge.dialects.admin.behavior import is_output_only
from rest_bridge.dialects.admin.binding import MASK, VARIABLE, Binding, bindings
from rest_bridge.dialects.admin.schema import INTEGER64, PLAIN, SECONDS
from tests.rest_bridge.admin.conftest import Bridge, Refusal

BINDINGS = {f"{binding.verb} {binding.template}": binding for binding in bindings()}
ROUTES = list(BINDINGS)
WITH_BODY = [route for route, binding in BINDINGS.items() if binding.body]
WITH_QUERY = [route for route, binding in BINDINGS.items() if binding.body != "*"]
WITH_MASK = [route for route, binding in BINDINGS.items() if binding.resource]
PAGED = [route for route, binding in BINDINGS.items() if "page_token" in binding.method.input_type.fields_by_name]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def path_of(binding: Binding) -> str:
    return VARIABLE.sub("x1", binding.template)


def body_message(binding: Binding) -> Descriptor:
    found = binding.body_field.message_type if binding.body_field else binding.method.input_type
    assert found
    return found


def wrong_values(field: FieldDescriptor) -> Iterator[tuple[Any, str]]:
    """Values that a field cannot take, each with where the fault lies below the field."""
    if field.message_type and field.message_type.GetOptions().map_entry:
        yield from (("x", ""), ([], ""), ({"a": []}, ".a"))
    elif field.is_repeated:
        yield from (("x", ""), ({}, ""), ([None], "[0]"), ([True], "[0]"))
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield from ((1, ""), (["x"], ""), (True, ""))
    elif field.type == FieldDescriptor.TYPE_ENUM:
        yield from ((1, ""), ("nothing", ""), ("Private", ""))
    elif field.message_type:
        yield from ((True, ""), ("x", ""), ([], ""))
    else:
        yield from (("x", ""), ({}, ""), (2**70, ""))


@pytest.mark.parametrize("route", WITH_BODY)
async def test_a_wrong_type_is_named_by_its_path(bridge: Bridge, route: str) -> None:
    binding = BINDINGS[route]
    for field in body_message(binding).fields:
        for value, below in wrong_values(field):
            refused = await bridge.refused(binding.verb, path_of(binding), json={field.name: value})
            assert refused == (400, field.name + below), value
    assert not bridge.core.requests


@pytest.mark.parametrize("route", WITH_BODY)
async def test_an_unknown_field_is_named_by_its_path(bridge: Bridge, route: str) -> None:
    binding = BINDINGS[route]
    path = path_of(binding)
    assert await bridge.refused(binding.verb, path, json={"nothing": None}) == (400, "nothing")
    for field in body_message(binding).fields:
        if field.message_type and not field.is_repeated and not field.message_type.full_name.startswith("google."):
            refused = await bridge.refused(binding.verb, path, json={field.name: {"nothing": 1}})
            assert refused == (400, f"{field.name}.nothing")
    assert not bridge.core.requests


@pytest.mark.parametrize("route", WITH_BODY)
async def test_a_body_that_is_no_object_or_too_large_or_compressed_is_refused(bridge: Bridge, route: str) -> None:
    binding = BINDINGS[route]
    for content in (b"[]", b"1", b"null", b"{", b"\xff", b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}"):
        assert await bridge.refused(binding.verb, path_of(binding), content=content) == (400, None)
    assert await bridge.refused(binding.verb, path_of(binding), content=b" " * 100_001) == (413, None)
    coded = {"content-encoding": "gzip"}
    assert (await bridge.refused(binding.verb, path_of(binding), content=b"{}", headers=coded))[0] == 415
    assert not bridge.core.requests


@pytest.mark.parametrize("route", ROUTES)
async def test_an_unknown_parameter_is_named(bridge: Bridge, route: str) -> None:
    binding = BINDINGS[route]
    refused = await bridge.refused(binding.verb, f"{path_of(binding)}?nothing=1")
    assert refused == (400, "nothing")
    for name in (name.partition(".")[0] for name in binding.variables):
        assert await bridge.refused(binding.verb, f"{path_of(binding)}?{name}=1") == (400, name)
    if binding.body:
        field = body_message(binding).fields[0].name
        given = f"{binding.body}.{field}" if binding.body_field else field
        assert await bridge.refused(binding.verb, f"{path_of(binding)}?{given}=1") == (400, given)
    assert not bridge.core.requests


@pytest.mark.parametrize("route", WITH_QUERY)
async def test_a_wrong_parameter_is_named(bridge: Bridge, route: str) -> None:
    binding = BINDINGS[route]
    taken = {binding.body, MASK, *(name.partition(".")[0] for name in binding.variables)}
    for field in binding.method.input_type.fields:
        if field.name in taken:
            continue
        twice = f"{path_of(binding)}?{field.name}=true&{field.name}=true"
        assert await bridge.refused(binding.verb, twice) == (400, field.name)
        if field.type != FieldDescriptor.TYPE_STRING:
            for value in ("x", "", "1.5", "99999999999999999999", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z"):
                refused = await bridge.refused(binding.verb, f"{path_of(binding)}?{field.name}={value}")
                assert refused == (400, field.name), value
    assert not bridge.core.requests


@pytest.mark.parametrize("route", WITH_MASK)
async def test_a_bad_mask_is_refused(bridge: Bridge, route: str) -> None:
    binding = BINDINGS[route]
    resource = body_message(binding)
    fixed = next(field.name for field in resource.fields if is_output_only(field))
    text = next(field.name for field in resource.fields if field.type == FieldDescriptor.TYPE_STRING)
    for mask in ("nothing", "", "*", f"{text},nothing", f"{text}.x", f"{text},,", fixed, "createTime"):
        refused = await bridge.refused(binding.verb, f"{path_of(binding)}?{MASK}={mask}", json={})
        assert refused == (400, MASK), mask
    assert not bridge.core.requests


@pytest.mark.parametrize("route", WITH_MASK)
async def test_a_body_that_names_another_thing_than_the_path_is_refused(bridge: Bridge, route: str) -> None:
    binding = BINDINGS[route]
    [variable] = binding.variables
    name = variable.rpartition(".")[2]
    assert await bridge.refused("PATCH", path_of(binding), json={name: "another"}) == (400, name)
    assert (await bridge.ask("PATCH", path_of(binding), json={name: "x1"}))[0] == 200
    assert name not in bridge.core.request.update_mask.paths


@pytest.mark.parametrize("route", PAGED)
async def test_a_bad_page_token_is_the_cores_to_refuse(bridge: Bridge, route: str) -> None:
    binding = BINDINGS[route]
    bridge.core.answers[binding.method.name] = [
        Refusal(StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_REQUEST", "No page.", {"param": "page_token"})
    ]
    assert await bridge.refused("GET", f"{path_of(binding)}?page_token=%00%ff") == (400, "page_token")
    assert len(bridge.core.requests) == 1


@pytest.mark.parametrize("path", sorted({path_of(binding) for binding in BINDINGS.values()}))
async def test_a_wrong_method_is_refused_with_those_that_are_right(bridge: Bridge, path: str) -> None:
    right = {binding.verb for binding in BINDINGS.values() if path_of(binding) == path}
    right |= {"HEAD"} if "GET" in right else set()
    for method in set(METHODS) - right:
        response = await bridge.http.request(method, path)
        assert response.status_code == 405
        assert set(response.headers["allow"].split(", ")) == right
        assert set(response.json()) == {"error", "details"}
    assert not bridge.core.requests


@pytest.mark.parametrize(
    ("method", "path", "body", "meant"),
    [
        ("POST", "/api/v1/keys", {"expire_time": "x"}, "expires_in"),
        ("POST", "/api/v1/keys", {"Kind": "private"}, "kind"),
        ("POST", "/api/v1/gateways", {"parameters": {"temprature": 1}}, "parameters.temperature"),
        ("POST", "/api/v1/plans", {"windows": [{"window_second": 1}]}, "windows[0].window_seconds"),
        ("GET", "/api/v1/keys?pagesize=1", None, "page_size"),
    ],
)
async def test_a_name_that_is_not_there_is_told_the_one_that_may_be_meant(
    bridge: Bridge, method: str, path: str, body: Any, meant: str
) -> None:
    _, document = await bridge.ask(method, path, **({} if body is None else {"json": body}))
    assert document["error"].endswith(f" Did you mean '{meant}'?")


@pytest.mark.parametrize("name", ["create_time", "x" * 5000, "zzz"])
async def test_a_name_that_is_like_none_is_told_nothing_more(bridge: Bridge, name: str) -> None:
    _, document = await bridge.ask("POST", "/api/v1/keys", json={name: 1})
    assert "mean" not in document["error"]


async def test_a_number_that_is_too_large_is_said_to_be_so(bridge: Bridge) -> None:
    _, document = await bridge.ask(
        "POST", "/api/v1/gateways", content=b'{"parameters": {"max_tokens": 99999999999999999999}}'
    )
    assert document["error"] == "Invalid 'parameters.max_tokens': the number is too large for an integer of 64 bits."
    content = b'{"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": 99999999999999999999}'
    _, document = await bridge.ask("POST", "/v1/chat/completions", content=content)
    assert document["error"]["message"] == "Invalid 'max_tokens': the number is too large for an integer of 64 bits."


async def test_the_core_names_values_as_rest_writes_them(bridge: Bridge) -> None:
    message = "gateway.instructions_role must be ROLE_SYSTEM or ROLE_DEVELOPER, not MY_ROLE."
    bridge.core.answers["CreateGateway"] = [
        Refusal(StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_REQUEST", message)
    ]
    _, document = await bridge.ask("POST", "/api/v1/gateways", json={"name": "a"})
    assert document["error"] == "gateway.instructions_role must be 'system' or 'developer', not MY_ROLE."


async def test_only_one_of_a_choice_may_be_given(bridge: Bridge) -> None:
    body = {"name": "g", "model": "small", "endpoint": {"base_url": "https://x.test", "model": "m"}}
    assert await bridge.refused("POST", "/api/v1/gateways", json=body) == (400, "endpoint")


async def test_a_fault_deep_in_a_gateway_is_named_by_its_path(bridge: Bridge) -> None:
    for parameters, path in (
        ({"temperature": "hot"}, "temperature"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"logit_bias": {"5": "x"}}, "logit_bias.5"),
        ({"response_format": {"json_schema": {"strict": 1}}}, "response_format.json_schema.strict"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 2**63}, "seed"),
    ):
        body = {"name": "g", "parameters": parameters}
        refused = await bridge.refused("POST", "/api/v1/gateways", json=body)
        assert refused == (400, f"parameters.{path}")


async def test_what_the_core_blames_is_named_by_its_path_in_the_body(bridge: Bridge) -> None:
    for core, told in (
        ("gateway.parameters.seed", "parameters.seed"),
        ("gateway.gateway.name", "gateway.name"),
        ("gateway", "gateway"),
        ("update_mask", "update_mask"),
    ):
        message = f"{core} must be another."
        bridge.core.answers["CreateGateway"] = [
            Refusal(StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_REQUEST", message, {"param": core})
        ]
        response = await bridge.http.post("/api/v1/gateways", json={"name": "a"})
        assert (response.status_code, response.headers["x-headgate-request-id"]) == (400, "r-1")
        details = {"reason": "invalid_request", "param": told}
        assert response.json() == {"error": f"{told} must be another.", "details": details}


def test_every_field_that_can_be_given_has_a_type_that_can_be_read() -> None:
    seen: set[str] = set()
    left = [binding.method.input_type for binding in BINDINGS.values()]
    known = {*PLAIN, FieldDescriptor.TYPE_ENUM, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_MESSAGE}
    while left:
        message = left.pop()
        if message.full_name in seen or message.full_name.startswith("google."):
            continue
        seen.add(message.full_name)
        for field in message.fields:
            assert field.type in known, field.full_name
            if field.message_type:
                left.append(field.message_type)
    assert len(seen) > 30
    assert INTEGER64["maximum"] > SECONDS["maximum"]
