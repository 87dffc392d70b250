"""One call made by a program in another language, and what it learned."""

import asyncio
import json
import os
import signal
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate
from grpc import StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tests.support.gateway import served

SECONDS = 60
PAGE = '<!doctype html><meta charset="utf-8"><title>A page</title><body><script type="module" src="/page.js"></script>'


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked for."""

    method: str
    request: dict[str, Any]
    """Proto3 JSON."""
    metadata: dict[str, str] = field(default_factory=dict)
    seconds: float = 30
    """Until its deadline."""
    leave_at: int = 0
    """Messages after which the caller cancels; 0: never."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    messages: list[dict[str, Any]]
    """Proto3 JSON, with the contract's names."""
    code: int
    message: str
    details: list[dict[str, Any]]
    """Proto3 JSON."""
    initial: dict[str, list[str]]
    trailing: dict[str, list[str]]

    @property
    def status(self) -> StatusCode:
        """The status."""
        return next(status for status in StatusCode if status.value[0] == self.code)

    def told(self, name: str) -> str:
        """A value of the trailing metadata."""
        (value,) = self.trailing[name]
        return value


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call goes."""

    address: str
    authority: Path | None
    """Whose certificate is believed; None: there is no TLS."""


async def outcome(program: Sequence[str | Path], call: Call, place: Place) -> Outcome:
    """What a program learns that takes the call as its argument."""
    authority = "" if place.authority is None else str(place.authority)
    asked = json.dumps({**asdict(call), "address": place.address, "authority": authority})
    return Outcome(**json.loads(await output_of(*program, asked)))


async def output_of(*command: str | Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None) -> str:
    """What a program prints; fails where it fails."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env={**environment(), **(variables or {})}, stdout=pipe, stderr=pipe
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return out.decode()


def environment() -> dict[str, str]:
    """That of the tests, less proxies: every address is this machine's."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


class Page:
    """A web page of its own origin, whose program makes calls and tells their outcomes."""

    def __init__(self, browser: str, script: str) -> None:
        """Takes the program of a browser, and the page's."""
        self._browser = browser
        self.script = script
        self._asked: dict[str, Any] = {}
        self._told: asyncio.Future[Any] | None = None
        self.origin = ""
        """ "http://127.0.0.1:PORT"."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Page"]:
        """Serves it for as long as the context lasts."""
        routes = [
            Route("/", self._show),
            Route("/page.js", self._run),
            Route("/call", self._ask),
            Route("/outcome", self._tell, methods=["POST"]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), log_config=None, lifespan="off")
        async with served(uvicorn.Server(config)) as self.origin:
            yield self

    async def outcome(self, asked: dict[str, Any], authority: Path | None) -> Any:
        """What the page tells, opened in a browser that believes a certificate; None: those that the system believes."""
        self._asked, self._told = asked, asyncio.get_running_loop().create_future()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            trust = [] if authority is None else [f"--ignore-certificate-errors-spki-list={fingerprint(authority)}"]
            process = await asyncio.create_subprocess_exec(
                *(
                    self._browser,
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--no-first-run",
                ),
                *("--no-proxy-server", "--disable-background-networking", f"--user-data-dir={profile}", *trust),
                *("--remote-debugging-port=0", f"{self.origin}/"),
                env={**environment(), "HOME": profile},
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                # Debian's program is a script that waits for the browser, which has processes of its own.
                start_new_session=True,
            )
            try:
                return await asyncio.wait_for(self._told, SECONDS)
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    async def made(self, call: Call, place: Place) -> Outcome:
        """What the page learns of a call."""
        told = await self.outcome({**asdict(call), "address": place.address}, place.authority)
        assert "fault" not in told, told["fault"]
        return Outcome(**told)

    async def _show(self, _: Request) -> Response:
        return HTMLResponse(PAGE)

    async def _run(self, _: Request) -> Response:
        return Response(self.script, media_type="text/javascript")

    async def _ask(self, _: Request) -> Response:
        return JSONResponse(self._asked)

    async def _tell(self, request: Request) -> Response:
        assert self._told is not None
        told = await request.json()
        if not self._told.done():
            self._told.set_result(told)
        return Response()


def fingerprint(certificate: Path) -> str:
    """Of the public key in a certificate, as Chromium takes it."""
    key = load_pem_x509_certificate(certificate.read_bytes()).public_key()
    return b64encode(sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()).decode()
