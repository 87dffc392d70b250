"""The servers that are measured, one row each; the name in the table is the name of the row.

To add one, add a row: how it is started before the mock upstream, what it speaks, and when it cannot be run here.
"""

import sys

from bench import envoy, headgate
from bench.envoy import ENVOY
from bench.headgate import ALL_ON
from bench.server import Place, Server

FLOOR = "grpc.aio floor"
DIRECT = "direct"
"""Rows that others are compared to, as Envoy's is."""


def _present() -> str | None:
    return None


def _direct_command(place: Place) -> list[str]:
    return [sys.executable, "-m", "bench.mock", "--port", str(place.http_port)]


def _floor_command(place: Place) -> list[str]:
    return [sys.executable, "-m", "bench.floor", "--port", str(place.grpc_port)]


SERVERS = (
    Server(DIRECT, frozenset({"http"}), _direct_command, _present),
    Server(ENVOY, frozenset({"http"}), envoy.command, envoy.absence, everywhere=True),
    Server("headgate", frozenset({"http", "chat"}), headgate.bare_command, headgate.absence, model_prefix="mock/"),
    Server(
        "headgate, ledger",
        frozenset({"http", "chat"}),
        headgate.kept_command,
        headgate.absence,
        model_prefix="mock/",
    ),
    headgate.all_on(ALL_ON),
    Server(FLOOR, frozenset({"floor"}), _floor_command, _present, everywhere=True),
)
