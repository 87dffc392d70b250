"""kill -9 of `headgate serve` at random instants under load, and the proof that its ledger lost and doubled nothing.

`python -m tests.faults.ledger --runs 300 --postgresql 30` is `make faults`.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import SecretStr
from sqlalchemy import select

from gateway_core.metering.price import usd_text
from gateway_core.storage.database import Database
from gateway_core.storage.ledger_proof import proof
from gateway_core.storage.location import location
from gateway_core.storage.tables.metering import ledger_requests
from tests.headgate_cli.program import serving
from tests.support.openai_vendor import completion, event
from tests.support.postgres import installations, running
from tests.support.upstream import Answer, Delay, Received, Upstream, json_answer, sse_answer

CALLERS = 12
LONGEST_SECONDS = 0.8
PRICE = {"input_per_million": "1", "output_per_million": "2"}
PIECES = 12
PIECE = "abcd"  # a token as the ledger estimates them


@dataclass(slots=True)
class Run:
    """What callers saw until the process was killed."""

    asked: set[str] = field(default_factory=set)
    whole: dict[str, int] = field(default_factory=dict)
    """By request id: what an answer that was seen whole must have cost, in picodollars."""
    seen_tokens: Counter[str] = field(default_factory=Counter)
    """By request id: what was seen of a stream."""


def used(number: int) -> dict[str, int]:
    return {"prompt_tokens": number, "completion_tokens": PIECES, "total_tokens": number + PIECES}


def cost(number: int) -> int:
    return (number + 2 * PIECES) * 10**6


def vendor_answer(received: Received) -> Answer:
    """Answers at the pace of the request: its user message says the number of its tokens, and how long to wait."""
    body: Any = received.json()
    number, milliseconds = map(int, body["messages"][0]["content"].split())
    pause = Delay(milliseconds / 1000)
    if not body.get("stream"):
        message = {"role": "assistant", "content": PIECE * PIECES}
        return [pause, *json_answer(completion(message, usage=used(number)))]
    steps: list[Any] = []
    for _ in range(PIECES):
        steps += [pause, event({"content": PIECE})]
    end = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "tiny",
        "choices": [],
        "usage": used(number),
    }
    return sse_answer([*steps, event({}, "stop"), end])


async def call_on_and_on(client: httpx.AsyncClient, run: Run, chance: random.Random) -> None:
    """Calls until the server is gone."""
    while True:
        request_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        number, stream = chance.randrange(1, 1000), chance.random() < 0.6
        leaves_after = chance.randrange(1, PIECES) if chance.random() < 0.2 else None
        run.asked.add(request_id)
        try:
            pause = chance.randrange(0, 30)
            await call(client, run, request_id, number, stream=stream, milliseconds=pause, leaves_after=leaves_after)
        except httpx.HTTPError:
            return


async def call(
    client: httpx.AsyncClient,
    run: Run,
    request_id: str,
    number: int,
    *,
    stream: bool,
    milliseconds: int,
    leaves_after: int | None,
) -> None:
    """Asks, and reads the answer to its end, or leaves a stream after so many pieces."""
    body: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": f"{number} {milliseconds}"}]}
    headers = {"x-request-id": request_id}
    if not stream:
        response = await client.post("/v1/chat/completions", json=body, headers=headers)
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["message"]["content"] == PIECE * PIECES
        assert response.headers["x-headgate-cost"] == usd_text(cost(number))
        run.whole[request_id] = cost(number)
        return
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                run.whole[request_id] = cost(number)
            elif line.startswith("data: "):
                choices = json.loads(line.removeprefix("data: ")).get("choices") or [{}]
                run.seen_tokens[request_id] += bool((choices[0].get("delta") or {}).get("content"))
            if run.seen_tokens[request_id] == leaves_after:
                return


@asynccontextmanager
async def loaded(url: str, run: Run, chance: random.Random) -> AsyncIterator[None]:
    """Callers that go on until the server is gone; it must be killed at the end of the block."""
    # Connections that are kept alive could be found dead by their next call: of that the ledger knows nothing.
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        tasks = [
            asyncio.create_task(call_on_and_on(client, run, random.Random(chance.random()))) for _ in range(CALLERS)
        ]
        yield
        await asyncio.gather(*tasks)


async def prove(database_url: str, runs: list[Run], counts: Counter[str]) -> None:
    """Reads the ledger after a restart: nothing lost, nothing doubled, nothing open, and the balances agree."""
    run = runs[-1]
    async with Database(location(SecretStr(database_url), Path())) as database, database.reading() as connection:
        proved = await proof(connection)
        assert proved.faults == ()
        assert proved.open_count == 0
        found = [dict(row) for row in (await connection.execute(select(ledger_requests))).mappings()]
    ids = Counter(row["request_id"] for row in found)
    assert all(number == 1 for number in ids.values()), "a call was counted twice"
    rows = {row["request_id"]: row for row in found}
    assert set(rows) <= set().union(*(each.asked for each in runs))
    lost = [request_id for request_id in run.whole if request_id not in rows]
    assert not lost, "an answer was delivered and has no record"
    for request_id, pico in run.whole.items():
        row = rows[request_id]
        assert (row["status"], row["charged_pico_usd"]) == ("ok", pico), row
    for request_id in run.asked & set(rows):
        row = rows[request_id]
        counts[row["status"]] += 1
        if row["status"] in ("interrupted", "cancelled"):
            assert row["delivered_tokens"] <= PIECES
            counts[f"charged {row['status']}"] += bool(row["charged_pico_usd"])
    counts["whole"] += len(run.whole)


async def kill_again_and_again(home: Path, database_url: str, count: int, chance: random.Random) -> Counter[str]:
    """As many runs; what was counted. Raises AssertionError where the ledger is wrong."""
    counts: Counter[str] = Counter()
    runs: list[Run] = []
    async with Upstream() as vendor:
        vendor.script(vendor_answer)
        config = home / "headgate.yaml"
        config.write_text(yaml.safe_dump(configuration(vendor.base_url, database_url)))
        for number in range(count + 1):
            async with serving("--config", str(config), home=home) as program:
                if runs:
                    await prove(database_url, runs, counts)
                if number == count:
                    break
                runs.append(Run())
                async with loaded(program.url, runs[-1], chance):
                    await asyncio.sleep(chance.random() * LONGEST_SECONDS)  # the instant of the kill
                    program.process.kill()
            print(f"\r{number + 1}/{count} {dict(counts)}", end="", file=sys.stderr, flush=True)
    return counts


def configuration(vendor_url: str, database_url: str) -> dict[str, Any]:
    return {
        "authentication": "optional",
        "database_url": database_url,
        "listen": {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"},
        "log": {"level": "error"},
        "providers": {"lab": {"kind": "openai", "base_url": vendor_url, "api_key": "k", "lists_models": False}},
        "models": {"small": {"targets": [{"provider": "lab", "model": "tiny"}], "price": PRICE}},
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--postgresql", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as servers:
        home = Path(directory)
        counts = await kill_again_and_again(home, f"sqlite:///{home}/data/headgate.db", options.runs, chance)
        print(f"\nSQLite: {options.runs} runs: nothing lost, nothing doubled, ledger = balances. {dict(counts)}")
        if options.postgresql:
            server = servers.enter_context(running(next(installations())))
            counts = await kill_again_and_again(home, await server.new_database(), options.postgresql, chance)
            print(f"\nPostgreSQL: {options.postgresql} runs: the same. {dict(counts)}")


if __name__ == "__main__":
    asyncio.run(main())
