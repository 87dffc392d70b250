"""Accounts may have an endpoint that is told what happens to them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Adds the columns and the tables."""
    op.add_column("accounts", sa.Column("webhook_url", sa.Text()))
    op.add_column("accounts", sa.Column("webhook_events", DOCUMENT))
    op.add_column("accounts", sa.Column("webhook_stopped_us", sa.BigInteger()))
    op.add_column("accounts", sa.Column("low_balance_pico_usd", sa.BigInteger()))
    _create_index("accounts_webhook", "accounts", ["id"], where="webhook_url IS NOT NULL")
    op.create_table(
        "webhooks",
        sa.Column("id", ID, primary_key=True),
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.Column("claimed_by", ID),
        sa.Column("status_code", sa.Integer()),
        sa.Column("error", sa.Text()),
        sa.Column("delivered", sa.Boolean(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger()),
    )
    _create_index("webhooks_account_id_id", "webhooks", ["account_id", "id"])
    _create_index("webhooks_due_us", "webhooks", ["due_us"], where="ended_us IS NULL")
    _create_index("webhooks_ended_us", "webhooks", ["ended_us"], where="ended_us IS NOT NULL")
    op.create_table(
        "webhook_marks",
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("type", sa.Text(), primary_key=True),
        sa.Column("subject", sa.Text(), primary_key=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
    )


def _create_index(name: str, table: str, columns: list[str], *, where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
