import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

import pytest
from headgate.v1.model_pb2 import Model

from gateway_core.catalog.catalog import Catalog
from gateway_core.catalog.listing import Listing
from gateway_core.config import Config
from gateway_core.config_file import parse
from gateway_core.errors import ModelNotFound, ProviderUnreachable
from gateway_core.providers import Provider
from tests.support.upstream import reached

CONFIG = """
on_unsupported: reject
providers:
  lab: {kind: openai, base_url: http://lab.test/v1, unsupported_parameters: [seed]}
  spare: {kind: openai, base_url: http://spare.test/v1, on_unsupported: drop}
models:
  small:
    targets: [{provider: lab, model: tiny}, {provider: spare, model: tiny-2}]
    price: {input_per_million: 0.15, cached_input_per_million: 0.075, output_per_million: 0.60}
    unsupported_parameters: [top_k]
    context_length: 4096
"""


class Lister:
    """A provider that lists, fails to, or does not answer."""

    def __init__(self, *ids: str, fails: bool = False, hangs: bool = False) -> None:
        self.ids = ids
        self.fails = fails
        self.hangs = hangs
        self.asked = 0

    async def list_models(self) -> Sequence[Model]:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise ProviderUnreachable("It is not there.", provider="lab")
        return [Model(id=name, created=1, extra_json='{"quantization":"q4"}') for name in self.ids]


def listing(every_seconds: float = 60, first_wait_seconds: float = 0.05, **providers: Lister) -> Listing:
    by_name = cast(Mapping[str, Provider], providers)
    return Listing(by_name, every_seconds=every_seconds, first_wait_seconds=first_wait_seconds)


def config() -> Config:
    return parse(CONFIG, "headgate.yaml", {})


def test_a_row_gives_its_targets_in_order() -> None:
    first, second = Catalog(config(), listing()).targets("small")
    assert (first.provider, first.model, first.on_unsupported) == ("lab", "tiny", "reject")
    assert first.unsupported == {"seed", "top_k"}
    assert (second.provider, second.model, second.on_unsupported) == ("spare", "tiny-2", "drop")


def test_any_model_of_a_provider_can_be_asked_without_a_row() -> None:
    (target,) = Catalog(config(), listing()).targets("lab/org/model:7b")
    assert (target.provider, target.model) == ("lab", "org/model:7b")


@pytest.mark.parametrize("name", ["", "smal", "nobody/tiny", "lab/", "/tiny", "lab", "x" * 5000, "é\n"])
def test_another_name_is_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound) as failure:
        Catalog(config(), listing()).targets(name)
    assert failure.value.metadata["param"] == "model"
    assert len(failure.value.message) < 600


def test_a_slip_is_told_what_it_may_have_meant() -> None:
    with pytest.raises(ModelNotFound, match="Did you mean 'small'"):
        Catalog(config(), listing()).targets("smal")


async def test_a_bare_name_is_told_who_has_it() -> None:
    listed = listing(lab=Lister("llama"))
    listed.start()
    await reached(lambda: "lab" in listed.known())
    with pytest.raises(ModelNotFound, match="Did you mean 'lab/llama'"):
        Catalog(config(), listed).targets("llama")
    await listed.close()


async def test_the_rows_come_first_then_what_the_providers_list() -> None:
    listed = listing(spare=Lister("b", "a"), lab=Lister("z"))
    listed.start()
    catalog = Catalog(config(), listed)
    assert [model.id for model in await catalog.models()] == ["small", "lab/z", "spare/a", "spare/b"]
    assert [model.id for model in await catalog.models("spare")] == ["small", "spare/a", "spare/b"]
    row, other, *_ = await catalog.models()
    assert row.price.output_per_million == "0.6"
    assert row.context_length == 4096
    assert (other.owned_by, other.created, other.extra_json) == ("lab", 1, '{"quantization":"q4"}')
    await listed.close()


async def test_one_model_is_told_even_where_its_provider_does_not_list_it() -> None:
    listed = listing(lab=Lister("z"))
    listed.start()
    catalog = Catalog(config(), listed)
    assert (await catalog.model("lab/z")).created == 1
    assert (await catalog.model("lab/secret")).owned_by == "lab"
    assert (await catalog.model("small")).context_length == 4096
    with pytest.raises(ModelNotFound):
        await catalog.model("nothing")
    await listed.close()


async def test_a_dead_provider_delays_nobody() -> None:
    listed = listing(first_wait_seconds=0.05, lab=Lister(hangs=True), spare=Lister("a"))
    listed.start()
    loop = asyncio.get_running_loop()
    assert list(await listed.models()) == ["spare"]
    began = loop.time()
    assert list(await listed.models()) == ["spare"]
    assert loop.time() - began < 0.05
    await listed.close()


async def test_a_provider_that_fails_keeps_the_list_it_gave_last() -> None:
    lab = Lister("z")
    listed = listing(every_seconds=0.001, lab=lab)
    listed.start()
    await reached(lambda: lab.asked > 1)
    lab.fails = True
    seen = lab.asked
    await reached(lambda: lab.asked > seen + 2)
    assert [model.id for model in (await listed.models())["lab"]] == ["z"]
    lab.fails, lab.ids = False, ("y",)
    await reached(lambda: listed.known()["lab"][0].id == "y")
    await listed.close()
