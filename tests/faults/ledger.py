"""kill -9 of `headgate serve` at random instants under load, and the proof that its ledger lost and doubled nothing.

`python -m tests.faults.ledger --runs 300 --postgresql 30` is `make faults`.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import SecretStr
from sqlalchemy import select

from gateway_core.metering.ledger import CHECKPOINT_SECONDS
from gateway_core.metering.price import usd_text
from gateway_core.storage.database import Database
from gateway_core.storage.ledger_proof import proof
from gateway_core.storage.location import location
from gateway_core.storage.tables.metering import ledger_requests
from tests.headgate_cli.program import serving
from tests.support.openai_vendor import completion, event
from tests.support.postgres import PostgresServer, installations, running
from tests.support.upstream import Answer, Delay, Received, Upstream, json_answer, sse_answer

CALLERS = 12
LONGEST_SECONDS = 1.2
BOUND_SECONDS = CHECKPOINT_SECONDS + 0.25
"""What was delivered so long before the kill is in the ledger: a transaction takes its time on a busy machine."""
PRICE = {"input_per_million": "1", "output_per_million": "2"}
PLAN = {"reserve": {"windows": [{"window_seconds": 21600, "units": 10**6}], "models": [{"model": "covered"}]}}
TARGET = {"provider": "lab", "model": "tiny"}
ROOT_KEY = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
PIECES = 12
PIECE = "abcd"  # a token as the ledger estimates them


@dataclass(slots=True)
class Run:
    """What callers saw until the process was killed."""

    asked: set[str] = field(default_factory=set)
    whole: dict[str, int] = field(default_factory=dict)
    """By request id: what an answer that was seen whole must have cost, in picodollars."""
    seen: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By request id: when the pieces of a stream were seen, of time.monotonic."""
    killed: float = 0.0
    """When the process was killed; of the same clock."""
    may_refuse: bool = False
    """Whether PostgreSQL is stopped meanwhile: whom the process does not know yet it refuses."""
    refused: int = 0


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


@dataclass(frozen=True, slots=True)
class Question:
    """What a caller asks, and how it goes on."""

    request_id: str
    model: str
    number: int
    stream: bool
    milliseconds: int
    """Between two pieces."""
    leaves_after: int | None
    """Pieces. None: it stays to the end."""


async def call_on_and_on(client: httpx.AsyncClient, run: Run, chance: random.Random, key: str) -> None:
    """Calls until the server is gone; without a key as the operator."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    while True:
        question = Question(
            str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            chance.choice(["small", "covered"]),
            chance.randrange(1, 1000),
            stream=chance.random() < 0.6,
            milliseconds=chance.randrange(0, 80),
            leaves_after=chance.randrange(1, PIECES) if chance.random() < 0.2 else None,
        )
        run.asked.add(question.request_id)
        try:
            await call(client, run, question, {**headers, "x-request-id": question.request_id})
        except httpx.HTTPError:
            return


async def call(client: httpx.AsyncClient, run: Run, question: Question, headers: dict[str, str]) -> None:
    """Asks, and reads the answer to its end, or leaves a stream after so many pieces."""
    id_, number = question.request_id, question.number
    content = f"{number} {question.milliseconds}"
    body: dict[str, Any] = {"model": question.model, "messages": [{"role": "user", "content": content}]}
    if not question.stream:
        response = await client.post("/v1/chat/completions", json=body, headers=headers)
        if is_refused(run, response):
            return
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["message"]["content"] == PIECE * PIECES
        assert response.headers["x-headgate-cost"] == usd_text(cost(number))
        run.whole[id_] = cost(number)
        return
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        if is_refused(run, response):
            return
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                run.whole[id_] = cost(number)
            elif line.startswith("data: "):
                choices = json.loads(line.removeprefix("data: ")).get("choices") or [{}]
                run.seen[id_] += [time.monotonic()] * bool((choices[0].get("delta") or {}).get("content"))
            if len(run.seen[id_]) == question.leaves_after:
                return


def is_refused(run: Run, response: httpx.Response) -> bool:
    """Whether an answer is a refusal that had to be expected."""
    is_it = run.may_refuse and response.status_code == 503
    run.refused += is_it
    return is_it


@asynccontextmanager
async def loaded(url: str, run: Run, chance: random.Random, key: str) -> AsyncIterator[None]:
    """Callers that go on until the server is gone; it must be killed at the end of the block."""
    # Connections that are kept alive could be found dead by their next call: of that the ledger knows nothing.
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        tasks = [
            asyncio.create_task(call_on_and_on(client, run, random.Random(chance.random()), key if number % 2 else ""))
            for number in range(CALLERS)
        ]
        yield
        await asyncio.gather(*tasks)


async def prove(home: Path, database_url: str, runs: list[Run], counts: Counter[str]) -> None:
    """Reads the ledger after a restart: nothing lost, nothing doubled, nothing open, and the balances agree."""
    run = runs[-1]
    async with Database(location(SecretStr(database_url), home / "data")) as database, database.reading() as connection:
        proved = await proof(connection)
        assert proved.faults == ()
        assert proved.open_count == 0
        found = [dict(row) for row in (await connection.execute(select(ledger_requests))).mappings()]
    ids = Counter(row["request_id"] for row in found)
    assert all(number == 1 for number in ids.values()), "a call was counted twice"
    rows = {row["request_id"]: row for row in found}
    assert set(rows) <= set().union(*(each.asked for each in runs))
    lost = [request_id for request_id in (*run.whole, *run.seen) if request_id not in rows]
    assert not lost, "an answer was delivered and has no record"
    for request_id, pico in run.whole.items():
        row = rows[request_id]
        assert (row["status"], row["cost_pico_usd"]) == ("ok", pico), row
    for request_id in run.asked & set(rows):
        row = rows[request_id]
        counts[row["status"]] += 1
        counts["covered"] += bool(row["reserve_units"])
        if row["status"] in ("interrupted", "cancelled"):
            prove_broken_off(row, run, counts)
    counts["whole"] += len(run.whole)


def prove_broken_off(row: dict[str, Any], run: Run, counts: Counter[str]) -> None:
    """What was delivered of a stream is charged: all of it where it was cancelled, and else all but the very last."""
    seen = run.seen.get(row["request_id"], [])
    due = seen if row["status"] == "cancelled" else [at for at in seen if at < run.killed - BOUND_SECONDS]
    assert len(due) <= row["delivered_tokens"] <= PIECES, (row, seen, run.killed)
    charged = row["charged_pico_usd"] or row["reserve_units"]
    assert charged or not due, row
    counts[f"pieces of {row['status']}"] += len(due)
    counts[f"charged {row['status']}"] += bool(charged)


async def account(url: str) -> str:
    """The key of a new account that has credit, and a plan whose reserve covers one of the models."""
    operator = {"authorization": f"Bearer {ROOT_KEY}"}
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, headers=operator) as client:
        made = await client.post("/api/v1/accounts", json={"name": "a", "plan": "reserved"})
        told = made.raise_for_status().json()["data"]
        credit = {"account_id": told["account"]["id"], "amount_usd": "1000", "reference": "1"}
        (await client.post("/api/v1/balance/credits", json=credit)).raise_for_status()
    secret: str = told["secret"]
    return secret


async def kill_again_and_again(
    home: Path, database_url: str, count: int, chance: random.Random, server: PostgresServer | None = None
) -> Counter[str]:
    """As many runs; what was counted. Raises AssertionError where the ledger is wrong.

    On a server the journal is in a file and in the database by turns; where it is in a file, the server is away in every
    other run when the process is killed. Then it is started again.
    """
    counts: Counter[str] = Counter()
    runs: list[Run] = []
    key = ""
    async with Upstream() as vendor:
        vendor.script(vendor_answer)
        config = home / "headgate.yaml"
        for number in range(count + 1):
            has_file = server is None or number % 2 == 0
            config.write_text(yaml.safe_dump(configuration(vendor.base_url, database_url, has_file=has_file)))
            variables = {"HEADGATE_ROOT_KEY": ROOT_KEY}
            async with serving("--config", str(config), home=home, variables=variables) as program:
                key = key or await account(program.url)
                if runs:
                    await prove(home, database_url, runs, counts)
                if number == count:
                    break
                runs.append(Run(may_refuse=server is not None and number % 4 == 0))
                async with loaded(program.url, runs[-1], chance, key):
                    await asyncio.sleep(chance.random() * LONGEST_SECONDS)  # the instant of the kill
                    if server is not None and runs[-1].may_refuse:
                        await asyncio.to_thread(server.stop)
                        await asyncio.sleep(chance.random() * LONGEST_SECONDS)
                    runs[-1].killed = time.monotonic()
                    program.process.kill()
                if server is not None and runs[-1].may_refuse:
                    await asyncio.to_thread(server.start)
                    counts["runs without the server"] += 1
                    counts["refused"] += runs[-1].refused
            print(f"\r{number + 1}/{count} {dict(counts)}", end="", file=sys.stderr, flush=True)
    return counts


def configuration(vendor_url: str, database_url: str, *, has_file: bool) -> dict[str, Any]:
    return {
        "ledger_journal": "file" if has_file else "database",
        "authentication": "optional",
        "database_url": database_url,
        "listen": {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"},
        "log": {"level": "error"},
        "providers": {"lab": {"kind": "openai", "base_url": vendor_url, "api_key": "k", "lists_models": False}},
        "models": {name: {"targets": [TARGET], "price": PRICE} for name in ("small", "covered")},
        "plans": {"reserved": PLAN},
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
            url = await server.new_database()
            counts = await kill_again_and_again(home, url, options.postgresql, chance, server)
            print(f"\nPostgreSQL: {options.postgresql} runs: the same. {dict(counts)}")


if __name__ == "__main__":
    asyncio.run(main())
