"""What an idle open stream costs in memory: servers started anew, many streams held open, and all finished."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench.figures import MEBIBYTE, Figures
from bench.mock import HELD_MODEL
from bench.open_streams import FINISH_SECONDS, OpenStreams, StreamsJob
from bench.process import DidNotStart, Surroundings, line_of, most_open_files, running
from bench.run import Run
from bench.scenario import Options, Wire
from bench.server import Server

MOST_STREAMS = 10_000
"""The ports of the loopback would bear more; the goal asks for these."""
OTHER_FILES = 200
"""Open files that a server has beside those of its streams."""
KIBIBYTE = 1024
WIRES: tuple[tuple[Wire, str], ...] = (("http", "REST"), ("chat", "gRPC"))


def most_streams(wire: Wire, open_files: int) -> int:
    """How many streams a server can hold: over HTTP/1.1 each has two files, the caller's and the upstream's."""
    free = open_files - OTHER_FILES
    return min(MOST_STREAMS, free // 2 if wire == "http" else free)


def memory(servers: Sequence[Server], options: Options, directory: Path) -> Iterator[Figures]:
    """A row for each server and wire."""
    for server in servers:
        for wire, name in WIRES:
            if wire in server.wires:
                print(f"{options.open_streams} open streams: {server.name}, {name} …", file=sys.stderr, flush=True)
                yield {"server": server.name, "wire": name} | _figures(server, wire, options, directory)


def _figures(server: Server, wire: Wire, options: Options, directory: Path) -> Figures:
    limit = most_streams(wire, most_open_files())
    with ExitStack() as stack:
        run = Run(options, directory, stack)
        one = run.start(server)
        if one is None:
            return {"flaw": next(iter(run.found.flaws.values()))}
        job = StreamsJob(
            wire=wire,
            port=one.place.http_port if wire == "http" else one.place.grpc_port,
            mock_port=run.mock_port,
            server_pid=one.pid,
            model=one.model(HELD_MODEL),
            streams=min(options.open_streams, limit),
            path=server.path,
            key=one.asking.key,
        )
        found = _found(job, run.cores.load, directory)
    wanted = "" if job.streams == options.open_streams else f"the hard limit of open files ({most_open_files()})"
    return figures_of_streams(found) | {"limited_by": wanted}


def _found(job: StreamsJob, cores: frozenset[int], directory: Path) -> OpenStreams:
    log = directory / "open_streams.log"
    command = [sys.executable, "-m", "bench.open_streams"]
    with running(command, Surroundings(cores, os.environ), log, piped=True) as process:
        try:
            said = line_of(process, json.dumps(asdict(job)), 4 * FINISH_SECONDS)
        except DidNotStart as error:
            return OpenStreams(flaw=f"{error}; {log.read_text(errors='replace').strip()[-400:]}")
    return OpenStreams(**json.loads(said))


def figures_of_streams(found: OpenStreams) -> Figures:
    """Memory in KiB for each stream and in MiB in all."""
    grown = found.bytes_open - found.bytes_before
    return {
        "streams": found.streams,
        "whole": found.whole,
        "kib_per_stream": round(grown / KIBIBYTE / found.streams, 1) if found.streams else None,
        "mib_before": round(found.bytes_before / MEBIBYTE, 1),
        "mib_open": round(found.bytes_open / MEBIBYTE, 1),
        "mib_after": round(found.bytes_after / MEBIBYTE, 1),
        "open_seconds": round(found.open_seconds, 2),
        "finish_seconds": round(found.finish_seconds, 2),
        "flaw": found.flaw,
    }
