"""What is announced arrives at least once, however receivers and processes end, and is given up after a while."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import UpdateAccountRequest

from gateway_core.identity.accounts import Accounts
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.identifier import now_us
from gateway_core.storage.webhook import claim, forget_ended, next_due
from gateway_core.webhooks import courier
from gateway_core.webhooks.sender import Outcome
from gateway_core.webhooks.webhooks import Webhooks
from tests.gateway_core.webhooks.conftest import Post, config
from tests.gateway_core.webhooks.program import sending
from tests.support.upstream import Answer, Received, Silence, answer
from tests.support.webhook_receiver import OK, hooks_url, types


@asynccontextmanager
async def open_(webhooks: Webhooks) -> AsyncIterator[None]:
    webhooks.open()
    try:
        yield
    finally:
        await webhooks.close()


async def until(holds: Callable[[], Awaitable[bool]], within: float = 15) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not await holds():
        assert loop.time() < deadline
        await asyncio.sleep(0.02)


async def ended(post: Post, account_id: str) -> list[Any]:
    """The rows, once all of them have ended."""

    async def holds() -> bool:
        return all(row.ended_us is not None for row in await post.rows(account_id))

    await until(holds)
    return await post.rows(account_id)


async def test_what_is_announced_before_the_start_and_after_it_arrives_once(post: Post) -> None:
    account = await post.account()
    async with open_(post.webhooks()):
        await post.receiver.received(1)
        await post.announce(account, n=1)
        await post.receiver.received(2)
        rows = await ended(post, account)
    assert types(post.receiver) == ["key.created", "key.deleted"]
    assert [(row.delivered, row.attempts, row.status_code, row.error) for row in rows] == [(True, 1, 204, None)] * 2
    assert [request.body.decode() for request in post.receiver.requests] == [row.body for row in rows]
    assert post.counts == ["delivered", "delivered"]


async def test_what_is_rolled_back_is_told_to_nobody(post: Post) -> None:
    account = await post.account(webhook_events=["key.deleted"])

    async def failing() -> None:
        async with post.store.database.transaction() as connection:
            await post.webhooks().outbox.announce(connection, account, "key.deleted", {})
            raise LookupError

    with pytest.raises(LookupError):
        await failing()
    assert await post.rows(account) == []


async def test_an_account_gets_what_it_wants_only(post: Post) -> None:
    wanting = await post.account(webhook_events=["credit.added"])
    silent = await post.account(webhook_url="")
    async with post.store.database.transaction() as connection:
        outbox = post.webhooks().outbox
        assert await outbox.announce(connection, wanting, "credit.added", {})
        assert not await outbox.announce(connection, wanting, "key.deleted", {})
        assert not await outbox.announce(connection, silent, "credit.added", {})
        assert not await post.webhooks(enabled=False).outbox.announce(connection, wanting, "credit.added", {})
    assert [row.type for row in await post.rows(wanting)] == ["credit.added"]


async def test_an_endpoint_that_recovers_gets_the_same_again(post: Post) -> None:
    post.receiver.script(answer(status=500), [], OK)
    account = await post.account()
    async with open_(post.webhooks(timeout_seconds=0.2)):
        (row,) = await ended(post, account)
    assert (row.delivered, row.attempts) == (True, 3)
    assert len({(request.body, request.headers["x-headgate-delivery"]) for request in post.receiver.requests}) == 1
    assert post.counts == ["retried", "retried", "delivered"]


@pytest.mark.parametrize("settings", [{"attempts": 3}, {"give_up_seconds": 0.3, "backoff_seconds": 0.05}])
async def test_an_endpoint_that_never_does_is_given_up(post: Post, settings: dict[str, Any]) -> None:
    post.receiver.script(answer(status=500))
    account = await post.account()
    async with open_(post.webhooks(**settings)):
        (row,) = await ended(post, account)
    assert not row.delivered
    assert (row.status_code, row.error) == (500, "The endpoint answered with status 500.")
    assert row.attempts == len(post.receiver.requests) == settings.get("attempts", row.attempts)
    assert post.counts == ["retried"] * (row.attempts - 1) + ["failed"]


async def test_waits_double_up_to_an_hour_and_half_of_them_is_chance(post: Post) -> None:
    sent = courier.Courier(post.store.database, post.webhooks().sender, config(backoff_seconds=5).webhooks)
    failed = Outcome(500, "x")
    for attempts, longest in ((1, 5), (2, 10), (5, 80), (40, 3600), (100, 3600)):
        waits = {sent.backoff_seconds(attempts, failed) for _ in range(100)}
        assert longest / 2 <= min(waits) < max(waits) <= longest
    assert sent.backoff_seconds(1, failed._replace(retry_after_seconds=120)) == 120


async def test_one_of_an_account_is_sent_at_a_time_and_a_slow_one_delays_no_other(post: Post) -> None:
    post.receiver.script(lambda request: [Silence()] if "slow" in request.path else OK)
    slow = await post.account(webhook_url=f"{hooks_url(post.receiver)}&slow", webhook_events=["key.deleted"])
    quick = await post.account(webhook_events=["key.deleted"])
    for account in (slow, quick):
        for n in range(3):
            await post.announce(account, n=n)
    async with open_(post.webhooks()):
        await ended(post, quick)
        assert Counter("slow" in request.path for request in post.receiver.requests) == {True: 1, False: 3}
    # What was being sent is there again at once.
    async with post.store.database.reading() as connection:
        assert (await next_due(connection) or 0) <= now_us()


async def test_an_endpoint_that_is_gone_ends_all_that_waits(post: Post) -> None:
    post.receiver.script(answer(status=410))
    account = await post.account()
    await post.announce(account)
    async with open_(post.webhooks()):
        rows = await ended(post, account)
    assert len(post.receiver.requests) == 1
    assert [(row.delivered, row.status_code) for row in rows] == [(False, 410), (False, None)]
    assert "no endpoint any more" in rows[1].error
    async with post.store.database.transaction() as connection:
        assert not await post.webhooks().outbox.announce(connection, account, "key.deleted", {})


async def test_what_waits_goes_to_the_endpoint_of_now(post: Post) -> None:
    account = await post.account(webhook_url="http://127.0.0.1:1/")
    accounts = Accounts(post.store, post.webhooks())
    moved = Account(id=account, webhook_url=hooks_url(post.receiver))
    await accounts.update(post.operator, UpdateAccountRequest(account=moved))
    async with open_(post.webhooks()):
        await ended(post, account)
    assert types(post.receiver) == ["key.created"]


async def test_a_claim_is_one_processs_until_it_ends(post: Post) -> None:
    for _ in range(5):
        await post.account()
    soon = now_us() + 500_000

    async def claimed(process: str, until_us: int) -> set[str]:
        async with post.store.database.transaction() as connection:
            return {row.id for row in await claim(connection, process, until_us, 10)}

    first, second = await asyncio.gather(claimed("a" * 36, soon), claimed("b" * 36, soon))
    assert len(first | second) == 5
    assert not first & second

    async def has_lapsed() -> bool:
        return await claimed("c" * 36, now_us() + 10**9) == first | second

    await until(has_lapsed)


async def test_a_process_that_dies_between_sending_and_noting_has_another_send_the_same_again(
    post: Post, database_url: str, tmp_path: Path
) -> None:
    account = await post.account()
    killed = asyncio.Event()
    async with sending(database_url, tmp_path, 0.3) as process:

        def killing(request: Received) -> Answer:
            if not killed.is_set():
                process.kill()
                process.wait()
                killed.set()
            return OK

        post.receiver.script(killing)
        await asyncio.wait_for(killed.wait(), 30)
    async with open_(post.webhooks()):
        (row,) = await ended(post, account)
    assert (row.delivered, row.attempts) == (True, 2)
    first, second = post.receiver.requests
    assert first.headers["x-headgate-delivery"] == second.headers["x-headgate-delivery"] == row.id
    assert first.body == second.body


async def test_of_two_processes_one_sends_each(post: Post, database_url: str, tmp_path: Path) -> None:
    accounts = [await post.account(webhook_events=["key.deleted"]) for _ in range(4)]
    async with sending(database_url, tmp_path, 30), sending(database_url, tmp_path, 30), open_(post.webhooks()):
        for n in range(10):
            await asyncio.gather(*(post.announce(account, n=n) for account in accounts))
        for account in accounts:
            await ended(post, account)
    counts = Counter(request.headers["x-headgate-delivery"] for request in post.receiver.requests)
    assert len(counts) == 40
    assert set(counts.values()) == {1}


async def test_what_has_ended_is_listed_for_a_week(post: Post) -> None:
    account = await post.account()
    await post.announce(account)
    post.receiver.script(OK, answer(status=500))
    async with open_(post.webhooks(backoff_seconds=60)):
        await post.receiver.received(2)
    async with post.store.database.transaction() as connection:
        await forget_ended(connection, now_us() + 1)
    assert [row.type for row in await post.rows(account)] == ["key.deleted"]


async def test_what_fails_once_is_tried_again(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await post.account()
    look, failures = courier.Courier.round, [StorageUnavailable("away"), LookupError()]

    async def failing(self: courier.Courier) -> float:
        if failures:
            raise failures.pop()
        return await look(self)

    monkeypatch.setattr(courier.Courier, "round", failing)
    async with open_(post.webhooks()):
        (row,) = await ended(post, account)
    assert row.delivered


async def test_a_fault_of_the_senders_own_counts_as_an_attempt(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await post.account()
    webhooks = post.webhooks(attempts=1)

    async def broken(*_: object) -> None:
        raise LookupError("secret detail")

    monkeypatch.setattr(webhooks.sender, "send", broken)
    async with open_(webhooks):
        (row,) = await ended(post, account)
    assert row.error == "Headgate failed; the log tells why."
