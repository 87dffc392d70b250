import asyncio
import json

import pytest

from gateway_core.config import Config, LogConfig, ModelConfig, PriceConfig, ProviderConfig, TargetConfig
from gateway_core.telemetry.log import configure_log
from headgate_cli.models import show
from headgate_cli.price import per_million
from tests.support.gateway import running
from tests.support.upstream import Upstream, json_answer

SMALL = ModelConfig(
    targets=(TargetConfig(provider="echo", model="echo"),),
    price=PriceConfig.model_validate({"input_per_million": "0.15", "output_per_million": "0.60"}),
    context_length=128_000,
)


@pytest.fixture(autouse=True)
def quiet() -> None:
    """The gateway in this process tells of calls elsewhere than among what the command prints."""
    configure_log(LogConfig(level="warning"))


async def test_the_table_has_a_row_for_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    async with running(Config(models={"small": SMALL})) as gateway:
        assert await show(None, gateway.grpc_address, as_json=False) == 0
    heading, small, echo = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert heading[:3] == ["MODEL", "PROVIDER", "CONTEXT"]
    assert small == ["small", "echo", "128,000", "0.15", "0.60"]
    assert echo == ["echo/echo", "echo"]


async def test_over_rest_the_table_shows_what_the_list_says(
    upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.script(json_answer({"object": "list", "data": [{"id": "tiny", "max_model_len": 2048}, {"id": "b"}]}))
    lab = ProviderConfig(kind="openai", base_url=upstream.base_url)
    async with running(Config(models={"small": SMALL}, providers={"lab": lab})) as gateway:
        assert await show(gateway.http_url, None, as_json=False) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert list(rows) == ["MODEL", "small", "echo/echo", "lab/b", "lab/tiny"]
    assert rows["lab/tiny"] == ["lab", "2,048"]
    assert rows["small"] == ["echo", "128,000", "0.15", "0.6"]


def test_prices_of_one_token_become_those_of_a_million() -> None:
    pricing = {"prompt": "0.00000015", "completion": "0.0000006", "input_cache_read": "0", "request": "1"}
    assert per_million(pricing) == {
        "input_per_million": "0.15",
        "output_per_million": "0.6",
        "cached_input_per_million": "0",
    }


@pytest.mark.parametrize("price", ["-1", "free", "NaN", None, {}, "Infinity"])
def test_what_is_no_price_is_not_shown(price: object) -> None:
    assert per_million({"prompt": price}) == {}


@pytest.mark.parametrize("way", ["url", "grpc"])
async def test_json_is_what_the_gateway_answered(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(Config()) as gateway:
        url, grpc = (gateway.http_url, None) if way == "url" else (None, gateway.grpc_address)
        await asyncio.wait_for(show(url, grpc, as_json=True), 20)
    document = json.loads(capsys.readouterr().out)
    (listed,) = document["data" if way == "url" else "models"]
    assert listed["id"] == "echo/echo"
