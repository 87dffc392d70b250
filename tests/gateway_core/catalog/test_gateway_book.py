"""Tests of gateways as they are kept."""

import uuid
from typing import Any

import pytest
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.gateway_pb2 import Gateway, OwnEndpoint
from sqlalchemy import select

from gateway_core.call import Caller
from gateway_core.catalog.gateway import secret_place, slugs
from gateway_core.errors import InvalidRequest, NotFound
from gateway_core.storage.gateway import GatewayRow
from gateway_core.storage.tables.catalog import gateway_versions
from tests.gateway_core.catalog.conftest import Desk
from tests.support.upstream import reached

KEY = "sk-own-0123456789abcdef"
URL = "https://own.example/v1"


def support(**values: Any) -> Gateway:
    return Gateway(**{"name": "support", "model": "small", **values})


def own(**values: Any) -> Gateway:
    return Gateway(name="own", endpoint=OwnEndpoint(base_url=URL, model="mine", **values))


async def rows(desk: Desk, gateway_id: str) -> list[Any]:
    async with desk.store.database.reading() as connection:
        query = select(gateway_versions).where(gateway_versions.c.gateway_id == gateway_id)
        return list(await connection.execute(query.order_by(gateway_versions.c.version)))


async def test_a_gateway_gets_an_id_a_slug_and_its_first_version(desk: Desk, caller: Caller) -> None:
    made = await desk.book.create(caller, support(instructions="Be kind."))
    assert uuid.UUID(made.id).version == 7
    assert made.slug == f"support:{made.id[-4:]}"
    assert (made.version, made.account_id) == (1, caller.account_id)
    assert made.create_time == made.update_time
    assert await desk.book.get(caller, made.id) == made
    assert await desk.book.get(caller, made.slug) == made


async def test_a_slug_grows_until_it_is_unique_in_the_account(
    desk: Desk, caller: Caller, stranger: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter([f"01900000-0000-7000-8000-0000000{start}50c3" for start in ("1", "2", "3")])
    monkeypatch.setattr("gateway_core.catalog.gateway_book.new_id", lambda: next(ids))
    made = [await desk.book.create(who, support()) for who in (caller, caller, stranger)]
    assert [gateway.slug for gateway in made] == ["support:50c3", "support:250c3", "support:50c3"]


def test_the_longest_slug_has_the_whole_id() -> None:
    assert slugs("a", "01900000-0000-7000-8000-00000000beef")[-1] == "a:0190000000007000800000000000beef"


async def test_each_change_adds_a_version_and_leaves_the_others(desk: Desk, caller: Caller) -> None:
    made = await desk.book.create(caller, support(instructions="One."))
    changed = await desk.book.update(caller, Gateway(id=made.id, instructions="Two."), None)
    assert (changed.version, changed.instructions, changed.model) == (2, "Two.", "small")
    assert changed.update_time.ToMicroseconds() > made.update_time.ToMicroseconds()
    kept = await rows(desk, made.id)
    assert [Gateway.FromString(row.message).instructions for row in kept] == ["One.", "Two."]


async def test_a_change_that_changes_nothing_makes_no_version(desk: Desk, caller: Caller) -> None:
    made = await desk.book.create(caller, support(instructions="One."))
    assert await desk.book.update(caller, made, None) == made


async def test_a_field_that_the_mask_names_and_that_is_not_set_is_cleared(desk: Desk, caller: Caller) -> None:
    parameters = ChatCompletionSpec(temperature=0.5, seed=1)
    made = await desk.book.create(caller, support(instructions="One.", parameters=parameters))
    paths = ["instructions", "parameters.temperature"]
    changed = await desk.book.update(caller, Gateway(id=made.id, name="ignored"), paths)
    assert not changed.HasField("instructions")
    assert changed.parameters == ChatCompletionSpec(seed=1)
    assert changed.name == "support"


@pytest.mark.parametrize("path", ["id", "version", "nothing", "name.more", "parameters.nothing", "", "metadata.a"])
async def test_a_mask_that_names_no_field_to_change_is_refused(desk: Desk, caller: Caller, path: str) -> None:
    made = await desk.book.create(caller, support())
    with pytest.raises(InvalidRequest) as failure:
        await desk.book.update(caller, Gateway(id=made.id, name="x"), [path])
    assert failure.value.metadata["param"] == "update_mask"


async def test_a_new_name_gives_a_new_slug_and_the_old_one_ends(desk: Desk, caller: Caller) -> None:
    made = await desk.book.create(caller, support())
    changed = await desk.book.update(caller, Gateway(id=made.slug, name="help"), None)
    assert changed.slug == f"help:{made.id[-4:]}"
    assert desk.cache.find(caller.account_id, made.slug) is None
    found = desk.cache.find(caller.account_id, changed.slug)
    assert found is not None
    assert found.use.version == 2


async def test_a_key_is_sealed_and_told_by_its_mask_only(desk: Desk, caller: Caller) -> None:
    made = await desk.book.create(caller, own(api_key=KEY))
    assert not made.endpoint.HasField("api_key")
    assert made.endpoint.masked_api_key == "sk-o…cdef"
    (row,) = await rows(desk, made.id)
    assert KEY.encode() not in row.message + row.secret
    assert desk.store.box.open(row.secret, secret_place(made.id, URL)) == KEY
    assert KEY not in repr(desk.cache.find(caller.account_id, made.id))


async def test_a_key_stays_while_the_address_does(desk: Desk, caller: Caller) -> None:
    made = await desk.book.create(caller, own(api_key=KEY))
    changed = await desk.book.update(caller, Gateway(id=made.id, endpoint=OwnEndpoint(base_url=URL, model="m2")), None)
    assert changed.endpoint.masked_api_key == made.endpoint.masked_api_key
    assert (await rows(desk, made.id))[1].secret is not None


@pytest.mark.parametrize(
    ("endpoint", "paths"),
    [
        (OwnEndpoint(base_url="https://thief.example/v1", model="mine"), None),
        (OwnEndpoint(base_url="https://thief.example/v1"), ["endpoint.base_url"]),
        (OwnEndpoint(base_url=URL + "/", model="mine"), None),
        (OwnEndpoint(base_url=URL, model="mine", api_key=""), None),
        (OwnEndpoint(), ["endpoint.api_key"]),
    ],
)
async def test_a_key_goes_nowhere_else_and_can_be_removed(
    desk: Desk, caller: Caller, endpoint: OwnEndpoint, paths: list[str] | None
) -> None:
    made = await desk.book.create(caller, own(api_key=KEY))
    changed = await desk.book.update(caller, Gateway(id=made.id, endpoint=endpoint), paths)
    assert not changed.endpoint.HasField("masked_api_key")
    assert (await rows(desk, made.id))[1].secret is None


async def test_what_is_deleted_is_gone_and_its_versions_stay(desk: Desk, caller: Caller) -> None:
    made = await desk.book.create(caller, support())
    await desk.book.delete(caller, made.slug)
    assert desk.cache.find(caller.account_id, made.id) is None
    with pytest.raises(NotFound):
        await desk.book.get(caller, made.id)
    with pytest.raises(NotFound):
        await desk.book.delete(caller, made.id)
    assert len(await rows(desk, made.id)) == 1


async def test_another_accounts_gateway_is_not_there(desk: Desk, caller: Caller, stranger: Caller) -> None:
    made = await desk.book.create(caller, support())
    for name in (made.id, made.slug):
        for act in (
            desk.book.get(stranger, name),
            desk.book.update(stranger, Gateway(id=name, name="mine"), None),
            desk.book.delete(stranger, name),
        ):
            with pytest.raises(NotFound) as failure:
                await act
            assert failure.value.metadata == {"resource": "gateway", "id": name}
    assert (await desk.book.page(stranger, 0, "", "")).gateways == []
    assert desk.cache.find(stranger.account_id, made.id) is None


async def test_pages_have_every_gateway_once_the_newest_first(desk: Desk, caller: Caller) -> None:
    made = [(await desk.book.create(caller, support(name=f"g{number}"))).id for number in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        page = await desk.book.page(caller, 2, token, "")
        seen += [gateway.id for gateway in page.gateways]
        token = page.next_token
        if not token:
            break
    assert seen == made[::-1]


async def test_a_list_can_be_of_those_whose_name_contains_a_text(desk: Desk, caller: Caller) -> None:
    for name in ("50% off", "50 off", "other"):
        await desk.book.create(caller, support(name=name))
    page = await desk.book.page(caller, 0, "", "50%")
    assert [gateway.name for gateway in page.gateways] == ["50% off"]


@pytest.mark.parametrize("token", ["x", "MTIz", "====", "é", "LTE6YQ"])
async def test_a_token_that_no_page_gave_is_refused(desk: Desk, caller: Caller, token: str) -> None:
    with pytest.raises(InvalidRequest) as failure:
        await desk.book.page(caller, 0, token, "")
    assert failure.value.metadata["param"] == "page_token"


async def test_another_process_knows_within_a_second(desk: Desk, other_desk: Desk, caller: Caller) -> None:
    made = await desk.book.create(caller, support())
    await reached(lambda: other_desk.cache.find(caller.account_id, made.slug) is not None)
    await desk.book.update(caller, Gateway(id=made.id, name="help"), None)
    await reached(lambda: other_desk.cache.find(caller.account_id, made.slug) is None)
    await desk.book.delete(caller, made.id)
    await reached(lambda: other_desk.cache.find(caller.account_id, made.id) is None)


async def test_what_was_there_before_the_start_is_known(
    desk: Desk, caller: Caller, request: pytest.FixtureRequest
) -> None:
    made = await desk.book.create(caller, support())
    await desk.cache.close()
    again = type(desk.cache)()
    await again.start(desk.store.database)
    try:
        found = again.find(caller.account_id, made.id)
        assert found is not None
        assert found.message == made
    finally:
        await again.close()


def test_a_row_does_not_show_its_message() -> None:
    row = GatewayRow("i", "a", "n", "n:1", 1, 1, 1, b"message", b"secret")
    assert "b'" not in repr(row)
