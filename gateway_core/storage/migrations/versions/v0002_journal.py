"""Calls that are open have a table of their own: the journal."""

import json
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")

OPENED = (
    *("id", "request_id", "process_id", "account_id", "key_id", "gateway_id", "gateway_version", "operation"),
    *("dialect", "streamed", "requested_model", "started_us", "tag", "metadata", "price_multiplier"),
    *("reserved_pico_usd", "input_usd_per_million", "cached_input_usd_per_million", "cache_write_usd_per_million"),
    *("output_usd_per_million", "input_audio_usd_per_million", "output_audio_usd_per_million", "reserve_units"),
)
CHECKPOINT = (
    *("id", "provider", "response_model", "attempt_count", "prompt_tokens", "cached_tokens", "cache_write_tokens"),
    *("prompt_audio_tokens", "completion_tokens", "reasoning_tokens", "completion_audio_tokens"),
    *("estimated_prompt_tokens", "delivered_tokens"),
)


def upgrade() -> None:
    """Makes the journal, and moves into it what dead processes left open."""
    journal = op.create_table(
        "ledger_journal",
        sa.Column("process_id", ID, primary_key=True),
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("body", sa.Text(), nullable=False),
        sqlite_with_rowid=False,
    )
    connection = op.get_bind()
    requests = sa.table("ledger_requests", *(sa.column(name) for name in {*OPENED, *CHECKPOINT, "status"}))
    is_open = requests.c.status == "open"
    rows = connection.execute(sa.select(requests).where(is_open).order_by(requests.c.process_id)).mappings().all()
    for process_id, calls in groupby(rows, key=lambda row: row["process_id"]):
        body = json.dumps(journaled(list(calls)))
        connection.execute(journal.insert().values(process_id=process_id, number=0, body=body))
    connection.execute(requests.delete().where(is_open))
    op.drop_index("ledger_requests_open", "ledger_requests")
    op.drop_column("ledger_requests", "checkpoint_us")
    # It was what open calls have reserved, which the journal knows.
    op.drop_column("balances", "reserved_pico_usd")


def journaled(calls: list[Any]) -> list[list[list[Any]]]:
    """The calls as a row of the journal has them."""
    opened = []
    for call in calls:
        values = dict(call)
        document = values["metadata"]
        # JSON within JSON: the driver decodes it on PostgreSQL only.
        values["metadata"] = document if document is None or isinstance(document, str) else json.dumps(document)
        values["streamed"] = bool(values["streamed"])
        opened.append([values[name] for name in OPENED])
    return [opened, [[call[name] for name in CHECKPOINT] for call in calls]]
