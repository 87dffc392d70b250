"""Ten minutes of mixed load on `headgate serve`, whose vendors fail three times in ten, each time in another way.

Nothing hangs, no answer is told as whole that is not, the ledger is right, attempts are few, and memory stays flat.
`python -m tests.faults.storm --minutes 10` is `make storm`. Two servers run at once: of one the first targets fail, of
the other all do.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import yaml
from grpc import aio
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from tests.faults.process import open_file_count, rss_bytes
from tests.faults.storm_callers import Callers
from tests.faults.storm_proof import ledger, wrongs
from tests.faults.storm_report import Report, gauge, printed, problems
from tests.faults.storm_vendor import Vendor
from tests.headgate_cli.program import Serving, started
from tests.support.kept import ROOT, SECRET_KEY
from tests.support.upstream import Upstream, never_accepting, reached

FAULT_RATE = 0.3
VARIANTS = {"the first targets fail": ("lab",), "all targets fail": ("lab", "spare", "claude")}
PRICE = {"input_per_million": 1, "output_per_million": 2}
PATIENCE = {"connect_seconds": 0.3, "first_byte_seconds": 0.5, "idle_seconds": 0.5, "total_seconds": 10}
CLAUDE = "claude-3-haiku-20240307"
SAMPLES = 40
PRINTED_PROBLEMS, PRINTED_CHARACTERS = 30, 2000
RICH_USD, POOR_USD = "1000000", "0.05"


@dataclass(slots=True)
class Storm:
    """One server, its vendors and its callers."""

    name: str
    failing: tuple[str, ...]
    home: Path
    chance: Random
    vendors: dict[str, Vendor] = field(default_factory=dict)
    upstreams: dict[str, Upstream] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    """Lines of the server's log that tell of an error of its own."""

    async def run(self, callers: int, seconds: float) -> Report:
        """Lets it storm for so long, and what came of it."""
        async with AsyncExitStack() as stack:
            for name, kind, voice in (
                ("lab", "openai", ""),
                ("spare", "openai", "B: "),
                ("claude", "anthropic", "C: "),
            ):
                rate = FAULT_RATE if name in self.failing else 0.0
                self.vendors[name] = vendor = Vendor(kind, voice, Random(self.chance.random()), rate)
                self.upstreams[name] = upstream = await stack.enter_async_context(Upstream())
                upstream.script(vendor.answer)
            nowhere = stack.enter_context(never_accepting())
            program = await stack.enter_async_context(self.serving(nowhere))
            clients = await stack.enter_async_context(self.calling(program))
            report = await self.load(clients, program.process.pid, callers, seconds)
            await self.calm(clients, report)
            report.exit_code = await self.ended(program)
        report.errors = self.errors
        report.proof, requests, attempts = await ledger(self.home / "data" / "headgate.db")
        report.requests = requests
        report.wrong_rows = wrongs(report.seen, requests, attempts, self.vendors["claude"].prefilled)
        report.vendors = self.vendors
        return report

    @asynccontextmanager
    async def serving(self, nowhere: str) -> AsyncIterator[Serving]:
        config = self.home / "headgate.yaml"
        config.write_text(yaml.safe_dump(self.configuration(nowhere)))
        secrets = {"HEADGATE_ROOT_KEY": ROOT, "HEADGATE_SECRET_KEY": SECRET_KEY}
        process = await started("serve", "--config", str(config), home=self.home, variables=secrets)
        program = Serving(process, [])
        reading: asyncio.Task[None] | None = None
        try:
            await program.line("curl")
            reading = asyncio.create_task(self.read_log(process))
            yield program
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            if reading is not None:
                await reading

    async def read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            with suppress(ValueError):
                if json.loads(line)["event"] == "provider_alarm":
                    continue
            self.errors.append(line.decode(errors="replace").rstrip())

    async def ended(self, program: Serving) -> int:
        program.process.send_signal(signal.SIGTERM)
        return await program.code()

    @asynccontextmanager
    async def calling(self, program: Serving) -> AsyncIterator[Callers]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        async with (
            httpx.AsyncClient(base_url=program.url, timeout=60, trust_env=False, limits=limits) as http,
            DefaultAsyncHttpxClient(trust_env=False) as sdk_http,
            aio.insecure_channel(program.grpc) as channel,
        ):
            keys = {"root": ROOT, **{name: await account(http, name, usd) for name, usd in ACCOUNTS.items()}}
            sdk = AsyncOpenAI(base_url=f"{program.url}/v1", api_key="x", max_retries=0, http_client=sdk_http)
            yield Callers(program.url, channel, http, sdk, tuple(MODELS), keys)

    async def load(self, clients: Callers, pid: int, callers: int, seconds: float) -> Report:
        loop = asyncio.get_running_loop()
        report = Report(self.name, clients.seen)
        ends_at = loop.time() + seconds

        async def call(chance: Random) -> None:
            while loop.time() < ends_at:
                await clients.one(chance)

        tasks = [asyncio.create_task(call(Random(self.chance.random()))) for _ in range(callers)]
        away = asyncio.create_task(self.go_away_now_and_then(ends_at))
        began = loop.time()
        for number in range(SAMPLES):
            await asyncio.wait(tasks, timeout=max(0.0, began + seconds * (number + 1) / SAMPLES - loop.time()))
            report.sizes.append(rss_bytes(pid))
            report.files.append(open_file_count(pid))
            self.forget()
        await asyncio.gather(*tasks, away)
        report.seconds = loop.time() - began
        return report

    async def go_away_now_and_then(self, ends_at: float) -> None:
        """Has the first vendor refuse connections for a moment."""
        loop = asyncio.get_running_loop()
        while loop.time() < ends_at:
            await asyncio.sleep(min(self.chance.uniform(5, 40), max(0.0, ends_at - loop.time())))
            await self.upstreams["lab"].go()
            await asyncio.sleep(self.chance.uniform(0.05, 1.0))
            await self.upstreams["lab"].come()

    def forget(self) -> None:
        for upstream in self.upstreams.values():
            upstream.requests.clear()
            upstream.connections[:] = [each for each in upstream.connections if not each.closed.is_set()]

    async def calm(self, clients: Callers, report: Report) -> None:
        """What must be so soon after the last call."""
        metrics = ""
        for _ in range(100):
            metrics = (await clients.http.get("/metrics")).text
            if not gauge(metrics, "headgate_calls_in_flight"):
                break
            await asyncio.sleep(0.05)
        report.in_flight = {
            name: gauge(metrics, name) for name in ("headgate_calls_in_flight", "headgate_calls_queued")
        }
        report.metrics = metrics
        with suppress(AssertionError):
            await reached(lambda: not self.answering())
        report.still_answering = self.answering()

    def answering(self) -> int:
        """Connections on which a vendor still answers, though nobody waits for it."""
        open_ones = [each for upstream in self.upstreams.values() for each in upstream.connections]
        return sum(not each.closed.is_set() and each.is_answering for each in open_ones)

    def configuration(self, nowhere: str) -> dict[str, Any]:
        def provider(name: str) -> dict[str, Any]:
            kind = self.vendors[name].kind
            url = self.upstreams[name].base_url
            url = url if kind == "openai" else url.removesuffix("/v1")
            return {"kind": kind, "base_url": url, "api_key": "k", "lists_models": False, "timeouts": PATIENCE}

        void = {"kind": "openai", "base_url": nowhere, "lists_models": False, "timeouts": PATIENCE}
        return {
            "listen": {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0"},
            "log": {"level": "error", "format": "json"},
            "providers": {**{name: provider(name) for name in self.vendors}, "void": void},
            "models": {name: {**row, "price": PRICE, "context_length": 32768} for name, row in MODELS.items()},
            "routing": {"circuit": {"open_seconds": 1}},
        }


def target(provider: str, model: str, context_length: int) -> dict[str, Any]:
    return {"provider": provider, "model": model, "context_length": context_length}


LARGE, PREFILLED = target("spare", "large", 32768), target("claude", CLAUDE, 32768)
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"targets": [target("lab", "tiny", 8192), LARGE]},
    "hedged": {"targets": [target("lab", "swift", 8192), LARGE], "hedge": True, "first_token_seconds": 0.3},
    "held": {"targets": [target("lab", "calm", 8192), LARGE], "hold_back_seconds": 0.05},
    "spread": {"targets": [target("lab", "wide", 8192), LARGE], "strategy": "least_busy"},
    "joined": {"targets": [target("lab", "begun", 8192), PREFILLED]},
    "three": {"targets": [target("void", "none", 8192), target("lab", "third", 8192), LARGE, PREFILLED]},
}
ACCOUNTS = {"rich": RICH_USD, "other": RICH_USD, "poor": POOR_USD}


async def account(http: httpx.AsyncClient, name: str, usd: str) -> str:
    """Makes an account with a balance; its key."""
    headers = {"authorization": f"Bearer {ROOT}"}
    made = (await http.post("/api/v1/accounts", json={"name": name}, headers=headers)).raise_for_status().json()["data"]
    credit = {"account_id": made["account"]["id"], "amount_usd": usd, "reference": "storm"}
    (await http.post("/api/v1/balance/credits", json=credit, headers=headers)).raise_for_status()
    key: str = made["secret"]
    return key


async def storm(home: Path, seed: int, callers: int, seconds: float) -> list[Report]:
    """All variants at once."""
    storms = []
    for number, (name, failing) in enumerate(VARIANTS.items()):
        own = home / str(number)
        own.mkdir()
        storms.append(Storm(name, failing, own, Random(f"{seed} {name}")))
    return await asyncio.gather(*(each.run(callers // len(VARIANTS), seconds) for each in storms))


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--callers", type=int, default=12)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.callers} callers, {options.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        reports = await storm(Path(directory), options.seed, options.callers, 60 * options.minutes)
    wrong = {report.name: list(problems(report)) for report in reports}
    for report in reports:
        print(printed(report))
    for name, found in wrong.items():
        print(f"\nwrong where {name}: {len(found) or 'nothing'}")
        print("\n".join(problem[:PRINTED_CHARACTERS] for problem in found[:PRINTED_PROBLEMS]))
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
