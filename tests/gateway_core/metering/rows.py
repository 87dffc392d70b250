"""What the ledger has, and what it must agree with."""

from operator import itemgetter
from pathlib import Path
from typing import Any

from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk
from headgate.v1.token_usage_pb2 import TokenUsage
from sqlalchemy import func, select

from gateway_core.metering.ledger import Ledger
from gateway_core.metering.ledger_writer import LedgerWriter
from gateway_core.metering.price import Price, price_of_texts
from gateway_core.metering.record import Asked
from gateway_core.storage.database import Database
from gateway_core.storage.journal_file import journal_directory
from gateway_core.storage.location import Location, SqliteFile
from gateway_core.storage.open_calls import open_calls
from gateway_core.storage.tables.metering import balances, ledger_attempts, ledger_requests

PRICE: Price = price_of_texts(("1", None, None, "2", None, None))  # a token in 10^6 picodollars, one out 2 x 10^6


def asked(**values: Any) -> Asked:
    return Asked(**{"request_id": "r", "account_id": "", "operation": "chat", "requested_model": "small", "stream": True, "price": PRICE, **values})  # fmt: skip


async def requests(database: Database) -> list[dict[str, Any]]:
    """Those that have ended, and those that are open."""
    async with database.reading(settled=True) as connection:
        found = await connection.execute(select(ledger_requests))
        rows = [dict(row) for row in found.mappings()] + [vars(call) for call in await open_calls(connection)]
    return sorted(rows, key=itemgetter("id"))


async def attempts(database: Database) -> list[dict[str, Any]]:
    async with database.reading(settled=True) as connection:
        found = await connection.execute(
            select(ledger_attempts).order_by(ledger_attempts.c.ledger_id, ledger_attempts.c.number)
        )
        return [dict(row) for row in found.mappings()]


async def charged_and_moved(database: Database) -> tuple[int, int, int]:
    """What the ledger has charged, by how much balances have moved, and what is still reserved."""
    async with database.reading(settled=True) as connection:
        charged = await connection.scalar(select(func.sum(ledger_requests.c.charged_pico_usd)))
        moved = (
            await connection.execute(
                select(
                    func.sum(balances.c.spent_pico_usd),
                    func.sum(balances.c.settled_pico_usd),
                )
            )
        ).one()
        reserved = sum(call.reserved_pico_usd for call in await open_calls(connection))
    assert (moved[0] or 0) == -(moved[1] or 0)
    return int(charged or 0), int(moved[0] or 0), reserved


def writer_of(ledger: Ledger) -> LedgerWriter:
    """What writes a ledger whose journal is in the database."""
    assert isinstance(ledger._writer, LedgerWriter)
    return ledger._writer


def directory_at(place: Location) -> Path:
    """Where the journals in files are of the processes that have used a fresh database."""
    if isinstance(place, SqliteFile):
        return journal_directory(place.path)
    (directory,) = place.directory.glob("calls-*")
    return directory


def text(content: str) -> ChatCompletionChunk:
    chunk = ChatCompletionChunk(id="1", model="tiny")
    chunk.choices.add(delta=AnswerMessage(content=content))
    return chunk


def told(prompt: int, completion: int) -> ChatCompletionChunk:
    chunk = ChatCompletionChunk(
        id="1", model="tiny", usage=TokenUsage(prompt_tokens=prompt, completion_tokens=completion)
    )
    chunk.choices.add(finish_reason="stop")
    return chunk
