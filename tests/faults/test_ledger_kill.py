"""The short form of `make faults`."""

import random
from pathlib import Path

import pytest

from tests.faults.ledger import kill_again_and_again
from tests.support.postgres import PostgresServer, postgres_server

__all__ = ["postgres_server"]


@pytest.mark.slow
async def test_a_killed_process_loses_and_doubles_nothing(tmp_path: Path) -> None:
    counts = await kill_again_and_again(tmp_path, f"sqlite:///{tmp_path}/data/headgate.db", 5, random.Random(7))
    assert counts["whole"]
    assert counts["interrupted"]
    assert counts["cancelled"]
    assert counts["covered"]
    assert counts["pieces of interrupted"]


@pytest.mark.slow
async def test_a_killed_process_loses_and_doubles_nothing_on_postgresql(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    counts = await kill_again_and_again(tmp_path, await postgres_server.new_database(), 2, random.Random(8))
    assert counts["whole"]
