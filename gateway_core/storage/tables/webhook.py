"""Webhooks that are to be sent or were, and what accounts have been told of."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table, Text, text

from gateway_core.storage.tables.schema import Id, metadata

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("type", Text, nullable=False),  # "balance.low"
    Column("body", Text, nullable=False),  # JSON, as it is sent each time
    Column("attempts", Integer, nullable=False),  # begun
    Column("due_us", BigInteger, nullable=False),  # the next attempt; while one runs, when it is taken for lost
    Column("claimed_by", Id),  # processes.id of who sends it; null: nobody
    Column("status_code", Integer),  # of the last answer; null: none
    Column("error", Text),  # of the last attempt; null: none
    Column("delivered", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),  # delivered, or given up; null: to be sent
    Index("webhooks_account_id_id", "account_id", "id"),
    Index(
        "webhooks_due_us", "due_us", sqlite_where=text("ended_us IS NULL"), postgresql_where=text("ended_us IS NULL")
    ),
    Index(
        "webhooks_ended_us",
        "ended_us",
        sqlite_where=text("ended_us IS NOT NULL"),
        postgresql_where=text("ended_us IS NOT NULL"),
    ),
)

# What is not told again before something else has happened: a balance that is low, until it is no longer.
webhook_marks = Table(
    "webhook_marks",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True),
    Column("type", Text, primary_key=True),  # as webhooks.type
    Column("subject", Text, primary_key=True),  # keys.id; "": the account itself
    Column("created_us", BigInteger, nullable=False),
)
