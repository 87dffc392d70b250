"""The first tables: accounts, keys, gateways, plans, money, and what processes share."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Creates the tables."""
    _create_accounts()
    _create_keys()
    _create_plans()
    _create_gateways()
    _create_gateway_versions()
    _create_ledger_attempts()
    _create_ledger_requests()
    _create_balances()
    _create_credits()
    _create_idempotency_keys()
    _create_changes()
    _create_processes()
    _create_rate_windows()
    _create_settings()
    _create_leases()


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", ID, primary_key=True),
        sa.Column("root", sa.Boolean(), nullable=False),
        sa.Column("parent_id", ID, sa.ForeignKey("accounts.id")),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("external_ref", sa.Text()),
        sa.Column("plan", sa.Text()),
        sa.Column("spend_cap_pico_usd", sa.BigInteger()),
        sa.Column("requests_per_minute", sa.Integer()),
        sa.Column("default_tag", sa.Text()),
        sa.Column("allowed_models", DOCUMENT),
        sa.Column("metadata", DOCUMENT),
        sa.Column("hook_secret", sa.LargeBinary()),
        sa.Column("hook_secret_us", sa.BigInteger()),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("deleted_us", sa.BigInteger()),
    )
    _create_index("accounts_one_root", "accounts", ["root"], unique=True, where="root")
    _create_index("accounts_parent_id_created_us_id", "accounts", ["parent_id", "created_us", "id"])
    _create_index(
        "accounts_parent_id_external_ref",
        "accounts",
        ["parent_id", "external_ref"],
        unique=True,
        where="deleted_us IS NULL AND external_ref IS NOT NULL",
    )


def _create_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", ID, primary_key=True),
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("project", sa.Text()),
        sa.Column("lookup", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("masked", sa.Text(), nullable=False),
        sa.Column("expires_us", sa.BigInteger()),
        sa.Column("allowed_models", DOCUMENT),
        sa.Column("last_used_us", sa.BigInteger()),
        sa.Column("successor_id", ID, sa.ForeignKey("keys.id")),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("deleted_us", sa.BigInteger()),
    )
    _create_index("keys_account_id_created_us_id", "keys", ["account_id", "created_us", "id"])
    _create_index("keys_lookup", "keys", ["lookup"], unique=True)
    _create_index("keys_successor_id", "keys", ["successor_id"], where="successor_id IS NOT NULL")


def _create_plans() -> None:
    op.create_table(
        "plans",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("document", DOCUMENT, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("deleted_us", sa.BigInteger()),
    )


def _create_gateways() -> None:
    op.create_table(
        "gateways",
        sa.Column("id", ID, primary_key=True),
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("deleted_us", sa.BigInteger()),
    )
    _create_index("gateways_account_id_created_us_id", "gateways", ["account_id", "created_us", "id"])
    _create_index(
        "gateways_account_id_slug", "gateways", ["account_id", "slug"], unique=True, where="deleted_us IS NULL"
    )


def _create_gateway_versions() -> None:
    op.create_table(
        "gateway_versions",
        sa.Column("gateway_id", ID, sa.ForeignKey("gateways.id"), primary_key=True),
        sa.Column("version", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("secret", sa.LargeBinary()),
        sa.Column("key_id", ID),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
    )


def _create_ledger_attempts() -> None:
    op.create_table(
        "ledger_attempts",
        sa.Column("ledger_id", ID, primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("http_status", sa.Integer()),
        sa.Column("upstream_request_id", sa.Text()),
        *_token_columns(),
        sa.Column("cost_pico_usd", sa.BigInteger()),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("duration_us", sa.BigInteger()),
        sa.Column("time_to_first_token_us", sa.BigInteger()),
    )


def _create_ledger_requests() -> None:
    op.create_table("ledger_requests", *_ledger_call_columns(), *_token_columns(), *_ledger_money_columns())
    _create_index("ledger_requests_account_id_started_us_id", "ledger_requests", ["account_id", "started_us", "id"])
    _create_index(
        "ledger_requests_gateway_id_started_us_id",
        "ledger_requests",
        ["gateway_id", "started_us", "id"],
        where="gateway_id IS NOT NULL",
    )
    _create_index("ledger_requests_key_id_started_us_id", "ledger_requests", ["key_id", "started_us", "id"])
    _create_index("ledger_requests_open", "ledger_requests", ["process_id", "id"], where="status = 'open'")
    _create_index("ledger_requests_request_id", "ledger_requests", ["request_id"])
    _create_index("ledger_requests_started_us_id", "ledger_requests", ["started_us", "id"])


def _ledger_call_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", ID, primary_key=True),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("process_id", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("key_id", ID),
        sa.Column("gateway_id", ID),
        sa.Column("gateway_version", sa.BigInteger()),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text()),
        sa.Column("streamed", sa.Boolean(), nullable=False),
        sa.Column("requested_model", sa.Text(), nullable=False),
        sa.Column("response_model", sa.Text()),
        sa.Column("provider", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("finish_reason", sa.Text()),
        sa.Column("attempt_count", sa.Integer(), nullable=False, server_default=sa.text("0")),
    ]


def _token_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("prompt_tokens", sa.BigInteger()),
        sa.Column("cached_tokens", sa.BigInteger()),
        sa.Column("cache_write_tokens", sa.BigInteger()),
        sa.Column("prompt_audio_tokens", sa.BigInteger()),
        sa.Column("completion_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("completion_audio_tokens", sa.BigInteger()),
    ]


def _ledger_money_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("estimated_prompt_tokens", sa.BigInteger()),
        sa.Column("delivered_tokens", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("checkpoint_us", sa.BigInteger()),
        sa.Column("input_usd_per_million", sa.Text()),
        sa.Column("cached_input_usd_per_million", sa.Text()),
        sa.Column("cache_write_usd_per_million", sa.Text()),
        sa.Column("output_usd_per_million", sa.Text()),
        sa.Column("input_audio_usd_per_million", sa.Text()),
        sa.Column("output_audio_usd_per_million", sa.Text()),
        sa.Column("price_multiplier", sa.Text()),
        sa.Column("reserved_pico_usd", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("cost_pico_usd", sa.BigInteger()),
        sa.Column("charged_pico_usd", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("reserve_units", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger()),
        sa.Column("duration_us", sa.BigInteger()),
        sa.Column("time_to_first_token_us", sa.BigInteger()),
        sa.Column("tag", sa.Text()),
        sa.Column("metadata", DOCUMENT),
    ]


def _create_balances() -> None:
    op.create_table(
        "balances",
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("settled_pico_usd", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("reserved_pico_usd", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("spent_pico_usd", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("version", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
    )


def _create_credits() -> None:
    op.create_table(
        "credits",
        sa.Column("id", ID, primary_key=True),
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("amount_pico_usd", sa.BigInteger(), nullable=False),
        sa.Column("remaining_pico_usd", sa.BigInteger(), nullable=False),
        sa.Column("lapsed_pico_usd", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("expires_us", sa.BigInteger()),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
    )
    _create_index("credits_account_id_created_us_id", "credits", ["account_id", "created_us", "id"])
    _create_index("credits_account_id_reference", "credits", ["account_id", "reference"], unique=True)
    _create_index(
        "credits_expires_us", "credits", ["expires_us"], where="expires_us IS NOT NULL AND remaining_pico_usd > 0"
    )


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("scope", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("process_id", ID),
        sa.Column("ledger_id", ID),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("response", sa.LargeBinary()),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
    )
    _create_index("idempotency_keys_expires_us", "idempotency_keys", ["expires_us"])


def _create_changes() -> None:
    op.create_table(
        "changes",
        sa.Column("topic", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("process_id", ID, nullable=False),
    )
    _create_index("changes_version", "changes", ["version"], unique=True)


def _create_processes() -> None:
    op.create_table(
        "processes",
        sa.Column("id", ID, primary_key=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger()),
    )
    _create_index("processes_ended_us_seen_us", "processes", ["ended_us", "seen_us"])


def _create_rate_windows() -> None:
    op.create_table(
        "rate_windows",
        sa.Column("scope", sa.Text(), primary_key=True),
        sa.Column("window_start_us", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
    )
    _create_index("rate_windows_expires_us", "rate_windows", ["expires_us"])


def _create_settings() -> None:
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
    )


def _create_leases() -> None:
    op.create_table(
        "leases",
        sa.Column("id", ID, primary_key=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("window_start_us", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scope", "window_start_us"], ["rate_windows.scope", "rate_windows.window_start_us"], ondelete="CASCADE"
        ),
    )
    _create_index("leases_expires_us", "leases", ["expires_us"])
    _create_index("leases_holder", "leases", ["holder"])
    _create_index("leases_scope_window_start_us", "leases", ["scope", "window_start_us"])


def _create_index(name: str, table: str, columns: list[str], *, unique: bool = False, where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
