"""Tests of what a gateway must be."""

from typing import Any

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.gateway_pb2 import Gateway, GatewayOverrides, OwnEndpoint
from headgate.v1.message_pb2 import ROLE_DEVELOPER, ROLE_USER, ChatMessage

from gateway_core.catalog.catalog import Catalog
from gateway_core.catalog.listing import Listing
from gateway_core.config_file import parse
from gateway_core.errors import InvalidRequest
from gateway_core.metering.plan import Plans
from gateway_core.services.askable import AskedBy
from gateway_core.services.gateway import rules
from gateway_core.upstream.reach import Reach
from tests.gateway_core.catalog.conftest import CONFIG

PARSED = parse(CONFIG, "headgate.yaml", {})
CATALOG = Catalog(PARSED, Listing({}, every_seconds=60))
ASKED_BY = AskedBy(Plans(PARSED), lambda name: False)


def checked(**values: Any) -> None:
    rules(CATALOG, Reach(), ASKED_BY).check(Gateway(**{"name": "support", "model": "small", **values}))


def parameters(**values: Any) -> dict[str, Any]:
    return {"parameters": ChatCompletionSpec(**values)}


def endpoint(**values: Any) -> dict[str, Any]:
    return {"model": None, "endpoint": OwnEndpoint(**{"base_url": "https://own.example/v1", "model": "m", **values})}


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("name", {"name": ""}),
    ("name", {"name": "x" * 65}),
    ("name", {"name": " x"}),
    ("name", {"name": "openai/gpt"}),
    ("name", {"name": "a:b"}),
    ("name", {"name": "a\nb"}),
    ("model", {"model": None}),
    ("model", {"model": ""}),
    ("model", {"model": "nobody/small"}),
    ("model", {"model": "support:50c3"}),
    ("model", {"model": "01900000-0000-7000-8000-0000000050c3"}),
    ("instructions", {"instructions": ""}),
    ("instructions_role", {"instructions_role": ROLE_USER}),
    ("instructions_placement", {"instructions_placement": 9}),
    ("context_overflow_action", {"context_overflow_action": 9}),
    ("user_prompt_template", {"user_prompt_template": "Say it."}),
    ("prefill", {"prefill": "{"}),
    ("prefill", {"model": "lab/any", "prefill": ""}),
    ("context_limit_tokens", {"context_limit_tokens": 0}),
    ("context_limit_tokens", {"context_limit_tokens": 4097}),
    ("overrides.parameters[1]", {"overrides": GatewayOverrides(parameters=["seed", "sead"])}),
    ("overrides.parameters[0]", {"overrides": GatewayOverrides(parameters=["messages"])}),
    ("metadata.", {"metadata": {"": "x"}}),
    ("metadata.a", {"metadata": {"a": "x" * 513}}),
    ("metadata", {"metadata": {str(number): "" for number in range(17)}}),
    ("parameters.model", parameters(model="small")),
    ("parameters.messages", parameters(messages=[ChatMessage(role=ROLE_USER, text="x")])),
    ("parameters.prefill", parameters(prefill="x")),
    ("parameters.top_k", parameters(top_k=3)),
    ("parameters.temperature", parameters(temperature=-1)),
    ("parameters.top_p", parameters(top_p=1.5)),
    ("parameters.max_completion_tokens", parameters(max_completion_tokens=513)),
    ("parameters.flavour", parameters(extra_json='{"flavour": 1}')),
    ("endpoint.base_url", endpoint(base_url="")),
    ("endpoint.base_url", endpoint(base_url="ftp://own.example/v1")),
    ("endpoint.base_url", endpoint(base_url="https://me:secret@own.example/v1")),
    ("endpoint.base_url", endpoint(base_url="https://own.example/v1?a=b")),
    ("endpoint.base_url", endpoint(base_url="https://own.example:99999/v1")),
    ("endpoint.base_url", endpoint(base_url="http://127.0.0.1/v1")),
    ("endpoint.base_url", endpoint(base_url="http://[::1]/v1")),
    ("endpoint.base_url", endpoint(base_url="http://localhost./v1")),
    ("endpoint.base_url", endpoint(base_url="http://169.254.169.254/latest")),
    ("endpoint.model", endpoint(model="")),
    ("endpoint.api_key", endpoint(api_key="sk-a\r\nx: y")),
    ("parameters.extra_json", {**endpoint(), **parameters(extra_json='{"seed": 1}')}),
]


@pytest.mark.parametrize(("param", "values"), REFUSED, ids=[f"{param}-{n}" for n, (param, _) in enumerate(REFUSED)])
def test_a_gateway_that_cannot_be_is_refused_by_the_name_of_the_field(param: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as failure:
        checked(**values)
    assert failure.value.metadata["param"].startswith(f"gateway.{param}")
    assert "secret" not in failure.value.message


@pytest.mark.parametrize(
    "values",
    [
        {"name": "x" * 64},
        {"name": "Grüße aus 東京"},
        {"instructions": "Be kind.", "instructions_role": ROLE_DEVELOPER},
        {"model": "lab/any", "prefill": "{"},
        {"context_limit_tokens": 4096},
        {"overrides": GatewayOverrides(parameters=["*", "prefill"])},
        parameters(temperature=0, max_completion_tokens=512),
        {**endpoint(), **parameters(extra_json='{"flavour": 1}', top_k=3)},
    ],
)
def test_a_gateway_that_can_be_passes(values: dict[str, Any]) -> None:
    checked(**values)


def test_a_parameter_that_the_contract_does_not_know_is_refused() -> None:
    spec = ChatCompletionSpec.FromString(b"\xf8\x3f\x01")  # field 1023, a number
    assert len(UnknownFieldSet(spec)) == 1
    with pytest.raises(InvalidRequest) as failure:
        checked(parameters=spec)
    assert failure.value.metadata["param"] == "gateway.parameters"
