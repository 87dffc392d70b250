"""The table of known models, and how it fills what a configuration leaves open."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.model_pb2 import Model
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.catalog.catalog import Catalog
from gateway_core.catalog.known import Known, OfSnapshots, host_of, with_known_models
from gateway_core.catalog.listing import Listing
from gateway_core.config import Config, ProviderConfig
from gateway_core.known.hosts import known_hosts
from gateway_core.known.models import SNAPSHOT, ModelFacts, known_model, known_models
from gateway_core.server import all_prices

ROWS = list({id(row): row for row in known_models().values()}.values())
OPENAI = {"host": "openai", "api_key": "k"}


def config(models: dict[str, Any] | None = None, providers: dict[str, Any] | None = None, **fields: Any) -> Config:
    return Config.model_validate({"providers": providers or {"openai": OPENAI}, "models": models or {}, **fields})


def to(*targets: str, **fields: Any) -> dict[str, Any]:
    pairs = (target.partition("/")[::2] for target in targets)
    return {"targets": [{"provider": provider, "model": model} for provider, model in pairs], **fields}


def catalog(of: Config) -> Catalog:
    return Catalog(with_known_models(of), Listing({}, every_seconds=60))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.host}/{row.model}")
def test_a_row_names_a_known_host_its_source_and_parameters_of_the_contract(row: ModelFacts) -> None:
    assert row.host in {host.name for host in known_hosts().hosts if host.ended is None and host.models_of is None}
    assert row.source.startswith("https://")
    refused = row.unsupported_parameters | row.unsupported_while_reasoning
    assert refused <= set(ChatCompletionSpec.DESCRIPTOR.fields_by_name)
    assert row.context_length is not None
    assert (row.max_output_tokens or 1) <= row.context_length
    assert SNAPSHOT.search(row.model) is None
    if row.price is not None:
        assert 0 < row.price.input_per_million <= row.price.output_per_million
        assert (row.price.cached_input_per_million or 0) <= row.price.input_per_million


def test_there_are_about_forty_and_none_stands_twice() -> None:
    names = [(row.host, name) for row in ROWS for name in (row.model, *row.aliases)]
    assert len(ROWS) >= 40
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("model", ["gpt-5-2025-08-07", "gpt-5-20250807"])
def test_a_snapshot_is_what_its_model_is(model: str) -> None:
    assert known_model("openai", model) is known_model("openai", "gpt-5")


@given(st.sampled_from(["a", "a-2025-08-07", "b", "b-20250807", "none", "c", "c-2025-08-07"]))
def test_what_is_asked_for_with_a_default_is_what_is_found_by_name(name: str) -> None:
    values = OfSnapshots({"a": 1, "b": 0, "b-20250807": 2, "c": 3}, {"a", "b"})
    assert values.get(name) == Mapping.get(values, name)
    assert values.get(name, 7) == Mapping.get(values, name, 7)


@given(model=st.text(max_size=30))
def test_another_name_is_not_known(model: str) -> None:
    facts = known_model("openai", model)
    assert facts is None or facts.model == SNAPSHOT.sub("", model)


@pytest.mark.parametrize(
    ("row", "host"),
    [
        ({"host": "groq"}, "groq"),
        ({"host": "openai", "base_url": "http://127.0.0.1:1/v1"}, "openai"),
        ({"host": "azure", "base_url": "https://r.openai.azure.com/openai/v1"}, "openai"),
        ({"kind": "openai", "base_url": "https://api.openai.com/v1"}, "openai"),
        ({"kind": "anthropic", "base_url": "https://api.anthropic.com"}, "anthropic"),
        ({"kind": "openai", "base_url": "https://api.openai.com.example/v1"}, None),
        ({"kind": "openai", "base_url": "http://127.0.0.1:8000/v1"}, None),
        ({"kind": "echo"}, None),
    ],
)
def test_a_provider_is_known_by_its_host_or_its_server(row: dict[str, Any], host: str | None) -> None:
    assert host_of(ProviderConfig.model_validate(row)) == host


def test_what_a_row_leaves_open_is_what_is_known() -> None:
    row = with_known_models(config({"big": to("openai/gpt-5")})).models["big"]
    assert (row.context_length, row.max_output_tokens) == (400_000, 128_000)
    assert row.price is not None
    assert (row.price.input_per_million, row.price.cached_input_per_million) == (Decimal("1.25"), Decimal("0.125"))
    assert row.input_modalities == ("text", "image")
    assert row.features is not None
    assert "tools" in row.features
    assert row.targets[0].context_length == 400_000


def test_what_a_row_says_counts() -> None:
    price = {"input_per_million": "7", "output_per_million": "8"}
    own = to("openai/gpt-5", price=price, context_length=1000, max_output_tokens=10, features=[])
    row = with_known_models(config({"big": {**own, "input_modalities": ["text"]}})).models["big"]
    assert row.price is not None
    assert row.price.input_per_million == 7
    assert (row.context_length, row.max_output_tokens, row.input_modalities) == (1000, 10, ("text",))
    assert row.features == frozenset()
    assert row.targets[0].context_length == 1000


def test_of_several_targets_what_holds_for_all_is_known() -> None:
    several = with_known_models(config({"any": to("openai/gpt-5", "openai/gpt-4o")})).models["any"]
    assert several.price is None
    assert (several.context_length, several.max_output_tokens) == (128_000, 16_384)
    assert several.features is not None
    assert "reasoning" not in several.features
    assert [target.context_length for target in several.targets] == [400_000, 128_000]
    half = with_known_models(config({"any": to("openai/gpt-5", "openai/mine")})).models["any"]
    assert (half.price, half.context_length, half.features) == (None, None, None)


def test_prices_are_known_of_what_is_asked_directly_and_the_configurations_count_first() -> None:
    assert all_prices(config())["openai/gpt-4o-mini"].texts[0] == "0.15"
    assert all_prices(config())["openai/gpt-4o-mini-2024-07-18"].texts[0] == "0.15"
    assert all_prices(config()).get("openai/gpt-4o-mini-realtime") is None
    own = to("openai/gpt-4o-mini", price={"input_per_million": "9", "output_per_million": "9"})
    assert all_prices(with_known_models(config({"small": own})))["openai/gpt-4o-mini"].texts[0] == "9"


async def test_the_table_can_be_turned_off() -> None:
    off = config({"big": to("openai/gpt-5")}, known_models=False)
    assert with_known_models(off).models["big"].price is None
    assert dict(all_prices(off)) == {}
    assert all_prices(off).get("openai/gpt-5-20250807") is None
    assert Known(off).facts("openai", "gpt-5") is None
    assert catalog(off).targets("openai/gpt-5")[0].unsupported == catalog(off).targets("openai/mine")[0].unsupported
    assert await catalog(off).model("openai/gpt-5") == Model(
        id="openai/gpt-5", owned_by="openai", targets=[{"provider": "openai", "model": "gpt-5"}]
    )


def test_a_target_tells_what_its_model_refuses_and_can_do() -> None:
    of = catalog(config({"own": to("openai/gpt-5", supported_parameters=["temperature"], features=["prefill"])}))
    (direct,) = of.targets("openai/gpt-5")
    assert {"temperature", "top_p", "top_k"} <= direct.unsupported
    assert direct.features is not None
    assert "reasoning" in direct.features
    (own,) = of.targets("own")
    assert "temperature" not in own.unsupported
    assert "top_p" in own.unsupported
    assert own.features == frozenset({"prefill"})
    (other,) = of.targets("openai/mine")
    assert (other.features, "temperature" in other.unsupported) == (None, False)


def test_what_a_model_refuses_while_it_reasons_is_apart() -> None:
    of = catalog(config({"own": to("openai/gpt-6-luna", supported_parameters=["temperature"])}))
    (direct,) = of.targets("openai/gpt-6-luna")
    assert "temperature" not in direct.unsupported
    assert "temperature" in direct.unsupported_while_reasoning
    (own,) = of.targets("own")
    assert "temperature" not in own.unsupported_while_reasoning
    assert "top_p" in own.unsupported_while_reasoning


async def test_a_list_tells_what_is_known_and_of_which_day() -> None:
    of = catalog(config({"big": to("openai/gpt-5"), "mine": to("openai/mine")}))
    big, mine = await of.models()
    assert (big.context_length, big.price.output_per_million, big.facts_date) == (400_000, "10", "2026-11-21")
    assert list(big.features) == ["json_schema", "parallel_tools", "reasoning", "tools"]
    assert (mine.facts_date, mine.HasField("price"), list(mine.features)) == ("", False, [])
    direct = await of.model("openai/gpt-5")
    assert (direct.context_length, direct.price.input_per_million) == (400_000, "1.25")
    assert of.context_length("openai/gpt-5") == 400_000
    assert of.facts("openai/gpt-5").max_output_tokens == 128_000
