"""Routes, requests and answers of the administrative API."""

from typing import Any

import httpx
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from headgate.v1 import (
    account_pb2,
    account_service_pb2,
    balance_pb2,
    balance_service_pb2,
    chat_pb2,
    gateway_pb2,
    gateway_service_pb2,
    key_pb2,
    key_service_pb2,
    usage_pb2,
    usage_service_pb2,
)

from tests.rest_bridge.admin.conftest import Bridge, Refusal

ID = "0190b3c4-0000-7000-8000-000000000001"


async def test_a_key_is_made_from_a_body_and_told_in_an_envelope(served_bridge: Bridge) -> None:
    key = key_pb2.Key(id=ID, kind=key_pb2.KEY_KIND_PRIVATE, label="ci", state=key_pb2.KEY_STATE_ACTIVE)
    served_bridge.core.answers["CreateKey"] = [key_service_pb2.CreateKeyResponse(key=key, secret="sk-hg-1")]
    body = {"kind": "private", "label": "ci", "allowed_models": ["a", "b/c"], "expires_in": "3600s"}
    status, document = await served_bridge.ask("POST", "/api/v1/keys", json=body)
    assert served_bridge.core.request == key_service_pb2.CreateKeyRequest(
        kind=key_pb2.KEY_KIND_PRIVATE, label="ci", allowed_models=["a", "b/c"], expires_in=Duration(seconds=3600)
    )
    assert (status, document["message"], document["data"]["secret"]) == (200, "Key created.", "sk-hg-1")
    assert document["data"]["key"] == {
        "id": ID,
        "account_id": "",
        "kind": "private",
        "label": "ci",
        "description": "",
        "project": "",
        "allowed_models": [],
        "masked_secret": "",
        "state": "active",
    }


async def test_the_caller_is_passed_on_and_answers_are_not_kept(bridge: Bridge) -> None:
    response = await bridge.http.get("/api/v1/keys", headers={"authorization": "Bearer sk-hg-1", "x-request-id": "m-1"})
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-request-id"] == "m-1"
    assert bridge.core.metadata["authorization"] == "Bearer sk-hg-1"
    assert bridge.core.metadata["x-headgate-dialect"] == "admin"


@pytest.mark.parametrize("kind", ["private", "KEY_KIND_PRIVATE"])
async def test_an_enum_is_taken_in_short_and_in_full(bridge: Bridge, kind: str) -> None:
    await bridge.ask("POST", "/api/v1/keys", json={"kind": kind, "label": "ci"})
    await bridge.ask("GET", f"/api/v1/keys?kind={kind}")
    assert [request.kind for request in bridge.core.requests] == [key_pb2.KEY_KIND_PRIVATE] * 2


@pytest.mark.parametrize(("given", "seconds"), [("3600s", 3600), (3600, 3600), ("-1s", -1), (-1, -1)])
async def test_a_duration_is_taken_as_text_and_as_seconds(bridge: Bridge, given: Any, seconds: int) -> None:
    await bridge.ask("POST", f"/api/v1/keys/{ID}/rotate", json={"expires_in": given})
    assert bridge.core.request == key_service_pb2.RotateKeyRequest(id=ID, expires_in=Duration(seconds=seconds))


async def test_a_body_of_which_everything_is_optional_may_be_left_out(bridge: Bridge) -> None:
    status, document = await bridge.ask("POST", f"/api/v1/keys/{ID}/rotate")
    assert (status, document["message"]) == (200, "Key rotated.")
    assert bridge.core.request == key_service_pb2.RotateKeyRequest(id=ID)


async def test_a_page_is_a_list_with_its_token_beside(bridge: Bridge) -> None:
    bridge.core.answers["ListAccounts"] = [
        account_service_pb2.ListAccountsResponse(accounts=[account_pb2.Account(id=ID, name="a")], next_page_token="t")
    ]
    status, document = await bridge.ask("GET", "/api/v1/accounts?page_size=1&page_token=s&external_ref=e%2B1")
    assert bridge.core.request == account_service_pb2.ListAccountsRequest(
        page_size=1, page_token="s", external_ref="e+1"
    )
    assert (status, document["message"], document["next_page_token"]) == (200, "Accounts listed.", "t")
    assert [account["id"] for account in document["data"]] == [ID]


async def test_a_response_of_several_parts_is_told_whole(bridge: Bridge) -> None:
    total = usage_pb2.UsageSummary(request_count=2, cost_usd="0.000123")
    bridge.core.answers["SummarizeUsage"] = [usage_service_pb2.SummarizeUsageResponse(total=total)]
    query = "group_by=day&start_time=2026-01-01T00:00:00Z&include_sub_accounts=true&status=failed"
    _, document = await bridge.ask("GET", f"/api/v1/usage/summary?{query}")
    assert bridge.core.request == usage_service_pb2.SummarizeUsageRequest(
        group_by=usage_pb2.USAGE_GROUPING_DAY,
        start_time=Timestamp(seconds=1_767_225_600),
        include_sub_accounts=True,
        status=usage_pb2.USAGE_STATUS_FAILED,
    )
    assert document["data"]["total"]["cost_usd"] == "0.000123"
    assert (document["data"]["summaries"], document["next_page_token"]) == ([], "")


async def test_a_deleted_thing_is_told_with_no_data(bridge: Bridge) -> None:
    assert await bridge.ask("DELETE", f"/api/v1/keys/{ID}") == (200, {"message": "Key deleted.", "data": {}})
    assert bridge.core.request.id == ID


async def test_a_time_and_a_large_number_are_told_so_that_every_reader_reads_them(bridge: Bridge) -> None:
    limits = [balance_pb2.LimitState(limit=2**53 - 1, remaining=2**53), balance_pb2.LimitState(reset_time=Timestamp())]
    balance = balance_pb2.Balance(limits=limits, balance_usd="-0.000123")
    bridge.core.answers["GetBalance"] = [balance_service_pb2.GetBalanceResponse(balance=balance)]
    _, document = await bridge.ask("GET", "/api/v1/balance")
    first, second = document["data"]["limits"]
    assert (first["limit"], first["remaining"]) == (2**53 - 1, str(2**53))
    assert (second["reset_time"], first["measure"]) == ("1970-01-01T00:00:00Z", "unspecified")
    assert document["data"]["balance_usd"] == "-0.000123"


@pytest.mark.parametrize("collection", ["gateways", "ai-gateways"])
async def test_a_gateway_is_found_by_its_slug_under_both_names(bridge: Bridge, collection: str) -> None:
    endpoint = gateway_pb2.OwnEndpoint(base_url="https://x.test", model="m", api_key="secret", masked_api_key="s...t")
    parameters = chat_pb2.ChatCompletionSpec(temperature=0.5)
    gateway = gateway_pb2.Gateway(id=ID, endpoint=endpoint, parameters=parameters, metadata={"a": "b"})
    bridge.core.answers["GetGateway"] = [gateway_service_pb2.GetGatewayResponse(gateway=gateway)]
    _, document = await bridge.ask("GET", f"/api/v1/{collection}/support:50c3")
    assert bridge.core.request.id == "support:50c3"
    assert document["data"]["endpoint"] == {"base_url": "https://x.test", "model": "m", "masked_api_key": "s...t"}
    assert (document["data"]["parameters"]["temperature"], document["data"]["metadata"]) == (0.5, {"a": "b"})
    assert "model" not in document["data"]


async def test_what_a_gateway_was_given_is_told_without_what_is_empty(bridge: Bridge) -> None:
    overrides, parameters = gateway_pb2.GatewayOverrides(), chat_pb2.ChatCompletionSpec(temperature=0, stop=["a"])
    gateway = gateway_pb2.Gateway(id=ID, overrides=overrides, parameters=parameters)
    bridge.core.answers["GetGateway"] = [gateway_service_pb2.GetGatewayResponse(gateway=gateway)]
    _, document = await bridge.ask("GET", f"/api/v1/gateways/{ID}")
    assert (document["data"]["parameters"], document["data"]["overrides"]) == ({"temperature": 0, "stop": ["a"]}, {})
    assert document["data"]["name"] == ""


async def test_a_change_names_what_its_body_names_and_null_clears(bridge: Bridge) -> None:
    body = {"name": "new", "metadata": {"a": "b"}, "prefill": None, "parameters": {"temperature": 1}, "version": 7}
    await bridge.ask("PATCH", f"/api/v1/gateways/{ID}", json=body)
    request = bridge.core.request
    assert list(request.update_mask.paths) == ["name", "metadata", "prefill", "parameters.temperature"]
    parameters = chat_pb2.ChatCompletionSpec(temperature=1)
    assert request.gateway == gateway_pb2.Gateway(id=ID, name="new", metadata={"a": "b"}, parameters=parameters)


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({"parameters": {"temperature": None, "stop": ["a"]}}, ["parameters.temperature", "parameters.stop"]),
        ({"parameters": {"response_format": {"type": "text"}}}, ["parameters.response_format"]),
        ({"parameters": {}}, ["parameters"]),
        ({"parameters": None}, ["parameters"]),
        ({"overrides": {"parameters": []}}, ["overrides"]),
        ({"endpoint": {"api_key": None, "masked_api_key": "s...t"}}, ["endpoint.api_key"]),
        ({"endpoint": {"base_url": "https://x.test", "model": "m", "api_key": "s"}}, ["endpoint"]),
        ({"model": None, "endpoint": {"model": "m"}}, ["model", "endpoint.model"]),
        ({"id": ID, "slug": "s", "version": 3}, []),
        ({}, []),
    ],
)
async def test_a_change_of_an_object_changes_what_the_object_names(
    bridge: Bridge, body: dict[str, Any], paths: list[str]
) -> None:
    status, _ = await bridge.ask("PATCH", f"/api/v1/gateways/{ID}", json=body)
    assert (status, list(bridge.core.request.update_mask.paths)) == (200, paths)


async def test_a_change_with_a_mask_names_what_the_mask_names(bridge: Bridge) -> None:
    await bridge.ask("PATCH", f"/api/v1/keys/{ID}?update_mask=label,expire_time", json={"label": "x", "id": ID})
    request = bridge.core.request
    assert list(request.update_mask.paths) == ["label", "expire_time"]
    assert request.key == key_pb2.Key(id=ID, label="x")


@pytest.mark.parametrize(("field", "value"), [("kind", "public"), ("kind", "KEY_KIND_PUBLIC"), ("account_id", "b")])
async def test_a_change_of_what_cannot_be_changed_is_refused(bridge: Bridge, field: str, value: str) -> None:
    key = key_pb2.Key(id=ID, kind=key_pb2.KEY_KIND_PRIVATE, account_id="a")
    bridge.core.answers["GetKey"] = [key_service_pb2.GetKeyResponse(key=key)]
    assert await bridge.refused("PATCH", f"/api/v1/keys/{ID}", json={"label": "x", field: value}) == (400, field)
    assert [type(request).__name__ for request in bridge.core.requests] == ["GetKeyRequest"]
    as_it_is = {"label": "x", "kind": "KEY_KIND_PRIVATE", "account_id": "a", "state": "expired"}
    assert (await bridge.ask("PATCH", f"/api/v1/keys/{ID}", json=as_it_is))[0] == 200
    assert list(bridge.core.request.update_mask.paths) == ["label"]


async def test_a_change_of_what_is_not_there_is_told_so_whatever_it_names(bridge: Bridge) -> None:
    bridge.core.answers["GetKey"] = [Refusal(StatusCode.NOT_FOUND, "ERROR_REASON_NOT_FOUND", "No key.")]
    assert await bridge.refused("PATCH", f"/api/v1/keys/{ID}", json={"kind": "public"}) == (404, None)


async def test_what_was_told_may_be_sent_back(bridge: Bridge) -> None:
    account = account_pb2.Account(id=ID, name="a", is_root=True, create_time=Timestamp(seconds=1))
    bridge.core.answers["GetAccount"] = [account_service_pb2.GetAccountResponse(account=account)]
    _, told = await bridge.ask("GET", f"/api/v1/accounts/{ID}")
    status, _ = await bridge.ask("PATCH", f"/api/v1/accounts/{ID}", json=told["data"])
    assert status == 200
    assert not {"id", "is_root", "create_time"} & set(bridge.core.request.update_mask.paths)
    assert bridge.core.request.account == account_pb2.Account(id=ID, name="a")


async def test_a_failure_is_told_in_an_error_document_with_its_status(bridge: Bridge) -> None:
    metadata = {"resource": "key", "id": ID}
    bridge.core.answers["GetKey"] = [Refusal(StatusCode.NOT_FOUND, "ERROR_REASON_NOT_FOUND", "No key.", metadata)]
    status, document = await bridge.ask("GET", f"/api/v1/keys/{ID}")
    assert (status, document) == (404, {"error": "No key.", "details": {**metadata, "reason": "not_found"}})


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        (StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", 401),
        (StatusCode.UNAUTHENTICATED, "KEY_EXPIRED", 401),
        (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", 403),
        (StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", 409),
        (StatusCode.FAILED_PRECONDITION, "CONFLICT", 409),
        (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", 429),
        (StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", 501),
    ],
)
async def test_every_failure_has_the_shape_of_this_api(
    bridge: Bridge, code: StatusCode, reason: str, status: int
) -> None:
    bridge.core.answers["ListKeys"] = [Refusal(code, f"ERROR_REASON_{reason}", "It is so.")]
    told = {"error": "It is so.", "details": {"reason": reason.lower()}}
    assert await bridge.ask("GET", "/api/v1/keys") == (status, told)


async def test_openai_keeps_its_shapes_beside(bridge: Bridge) -> None:
    refusal = Refusal(StatusCode.UNAUTHENTICATED, "ERROR_REASON_UNAUTHENTICATED", "No key.")
    bridge.core.answers["ListModels"] = [refusal]
    for path in ("/v1/models", "/api/v1/models", "/api/v1/open-ai/models"):
        status, document = await bridge.ask("GET", path)
        assert (status, document["error"]["type"]) == (401, "authentication_error")


async def test_a_document_in_pieces_is_written_as_it_is(served_bridge: Bridge) -> None:
    pieces = [HttpBody(content_type="text/csv; charset=utf-8", data=b"id,co"), HttpBody(data=b"st\r\n1,2\r\n")]
    served_bridge.core.answers["ExportUsageRecords"] = [
        usage_service_pb2.ExportUsageRecordsResponse(body=piece) for piece in pieces
    ]
    response = await served_bridge.http.get("/api/v1/usage/export?tag=a%20b&end_time=2026-01-01T00:00:00%2B01:00")
    assert served_bridge.core.request == usage_service_pb2.ExportUsageRecordsRequest(
        tag="a b", end_time=Timestamp(seconds=1_767_225_600 - 3600)
    )
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.content == b"id,cost\r\n1,2\r\n"


async def test_a_document_that_fails_at_once_has_a_status_of_its_own(bridge: Bridge) -> None:
    bridge.core.answers["ExportUsageRecords"] = [Refusal(StatusCode.PERMISSION_DENIED, "", "No.")]
    assert await bridge.refused("GET", "/api/v1/usage/export") == (403, None)


async def test_a_document_that_fails_on_its_way_is_broken_off(served_bridge: Bridge) -> None:
    piece = usage_service_pb2.ExportUsageRecordsResponse(body=HttpBody(content_type="text/csv", data=b"id"))
    served_bridge.core.answers["ExportUsageRecords"] = [piece, Refusal(StatusCode.INTERNAL, "", "No.")]
    with pytest.raises(httpx.RemoteProtocolError):
        await served_bridge.http.get("/api/v1/usage/export")


async def test_a_head_has_the_headers_of_a_get_and_no_body(served_bridge: Bridge) -> None:
    got, headed = await served_bridge.http.get("/api/v1/keys"), await served_bridge.http.head("/api/v1/keys")
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


async def test_a_key_in_the_query_is_no_parameter_of_the_call(bridge: Bridge) -> None:
    status, _ = await bridge.ask("GET", "/api/v1/keys?api-key=sk-hg-1")
    assert status == 200


async def test_a_path_that_is_not_there_is_refused_in_this_shape(bridge: Bridge) -> None:
    for path in (f"/api/v1/keys/{ID}/nothing", "/api/v1/keys/", "/api/v1/usage/nothing", "/api/v1/usage", "/api/v1"):
        assert await bridge.refused("GET", path) == (404, None)
    assert await bridge.refused("POST", "/api/v1/key", json={}) == (404, None)
    status, document = await bridge.ask("POST", "/api/v1/open-ai/nothing")
    assert (status, document["error"]["message"]) == (404, "There is no POST /api/v1/open-ai/nothing.")


async def test_the_alias_answers_alike(bridge: Bridge) -> None:
    body = orjson.dumps({"name": "g", "model": "small", "instructions_role": "developer"})
    for collection in ("gateways", "ai-gateways"):
        status, _ = await bridge.ask("POST", f"/api/v1/{collection}", content=body)
        assert status == 200
    first, second = bridge.core.requests
    assert first == second
