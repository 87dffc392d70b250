"""A network of namespaces on one machine (ip-netns(8)): each has an address and a cable, which can be pulled."""

import asyncio
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HUB = "hub"
COMMAND_SECONDS = 20


class CannotConnect(Exception):
    """A command that the system refused, and what it said."""


def hindrance() -> str | None:
    """Why there can be no namespaces here. None: there can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    missing = [name for name in ("ip", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"there is no program {missing[0]!r} (iproute2, util-linux)"
    name = f"hg{secrets.token_hex(3)}"
    for command in (["ip", "netns", "add", name], ["ip", "-n", name, "link", "add", "br0", "type", "bridge"]):
        made = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS)
        if made.returncode:
            break
    subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=COMMAND_SECONDS)
    return f"no right to make network namespaces: {made.stderr.strip()}" if made.returncode else None


class Network:
    """A hub with a cable to this process's own namespace, and one to each that is added."""

    def __init__(self) -> None:
        """Chooses names and addresses that nobody else is likely to have."""
        self._token = f"hg{secrets.token_hex(3)}"
        self._prefix = f"10.{100 + secrets.randbelow(100)}.{secrets.randbelow(256)}"
        self._hosts: dict[str, int] = {}

    @property
    def subnet(self) -> str:
        """All its addresses: "10.150.7.0/24"."""
        return f"{self._prefix}.0/24"

    @property
    def own_address(self) -> str:
        """That of this process."""
        return f"{self._prefix}.1"

    def address(self, name: str) -> str:
        """That of a namespace."""
        return f"{self._prefix}.{self._hosts[name]}"

    def command(self, name: str, *command: str | Path, user: tuple[int, int] | None = None) -> list[str]:
        """A command as it runs in a namespace, as somebody (user and group) where that is given."""
        as_user = [] if user is None else ["-S", str(user[0]), "-G", str(user[1])]
        return ["nsenter", f"--net=/run/netns/{self._namespace(name)}", *as_user, *map(str, command)]

    async def add(self, name: str) -> str:
        """A namespace with a cable; its address."""
        self._hosts[name] = host = len(self._hosts) + 2
        namespace, hub = self._namespace(name), self._namespace(HUB)
        await run("ip", "netns", "add", namespace)
        await run("ip", "-n", hub, "link", "add", f"p{host}", "type", "veth", "peer", "name", "e0", "netns", namespace)
        await run("ip", "-n", hub, "link", "set", f"p{host}", "master", "br0", "up")
        await run("ip", "-n", namespace, "address", "add", f"{self._prefix}.{host}/24", "dev", "e0")
        await run("ip", "-n", namespace, "link", "set", "e0", "up")
        await run("ip", "-n", namespace, "link", "set", "lo", "up")
        return self.address(name)

    async def cut(self, name: str) -> None:
        """Pulls the cable: what is sent is lost, and nobody is told."""
        await run("ip", "-n", self._namespace(HUB), "link", "set", f"p{self._hosts[name]}", "down")

    async def mend(self, name: str) -> None:
        """Puts it back."""
        await run("ip", "-n", self._namespace(HUB), "link", "set", f"p{self._hosts[name]}", "up")

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _open(self) -> None:
        hub = self._namespace(HUB)
        await run("ip", "netns", "add", hub)
        await run("ip", "-n", hub, "link", "add", "br0", "type", "bridge")
        await run("ip", "-n", hub, "link", "set", "br0", "up")
        await run("ip", "link", "add", self._token, "type", "veth", "peer", "name", "p1", "netns", hub)
        await run("ip", "-n", hub, "link", "set", "p1", "master", "br0", "up")
        await run("ip", "address", "add", f"{self.own_address}/24", "dev", self._token)
        await run("ip", "link", "set", self._token, "up")

    async def _close(self) -> None:
        # A cable goes with either of its ends.
        for name in (*self._hosts, HUB):
            await run("ip", "netns", "del", self._namespace(name), check=False)

    def _namespace(self, name: str) -> str:
        return f"{self._token}-{name}"


async def run(*command: str, check: bool = True) -> None:
    """Runs a command to its end; raises CannotConnect."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
    if check and process.returncode:
        raise CannotConnect(f"{' '.join(command)}: {said.decode().strip()}")


class Program:
    """A program in a namespace, which can be killed and started again."""

    def __init__(
        self, command: list[str], log: Path, environment: Mapping[str, str], directory: str | Path = "/"
    ) -> None:
        """Takes the whole command, and where it writes."""
        self._command = command
        self._log = log
        self._environment = dict(environment)
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def said(self) -> str:
        """The end of what it has written."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""

    async def start(self) -> None:
        """Starts it; its output is added to the log."""
        with self._log.open("ab") as out:
            settings: Any = {"stdin": asyncio.subprocess.DEVNULL, "stdout": out, "stderr": out}
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, cwd=self._directory, **settings
            )

    async def send(self, number: int, *, within: float = 30) -> int:
        """Sends a signal, and waits for the end; the exit status."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), within)
