"""Accounts and their keys."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, text

from gateway_core.storage.tables.schema import Document, Id, metadata

accounts = Table(
    "accounts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("root", Boolean, nullable=False),  # the operator's own; there is one
    Column("parent_id", Id, ForeignKey("accounts.id")),  # null for the root account only
    Column("name", Text, nullable=False),
    Column("external_ref", Text),  # the parent's own name for it
    Column("plan", Text),  # plans.name; null: none
    Column("spend_cap_pico_usd", BigInteger),  # null: none
    Column("requests_per_minute", Integer),  # null: as the plan says
    Column("default_tag", Text),
    Column("allowed_models", Document),  # list of names; null: all
    Column("metadata", Document),  # names and values of the owner's; null: none
    Column("hook_secret", LargeBinary),  # sealed
    Column("hook_secret_us", BigInteger),  # when it was made
    Column("webhook_url", Text),  # null: nothing is sent
    Column("webhook_events", Document),  # list of types; null: all
    Column("webhook_stopped_us", BigInteger),  # when the endpoint said that it is gone; null: it has not
    Column("low_balance_pico_usd", BigInteger),  # null: none is low
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("deleted_us", BigInteger),
    Index("accounts_one_root", "root", unique=True, sqlite_where=text("root"), postgresql_where=text("root")),
    Index(
        "accounts_parent_id_external_ref",
        "parent_id",
        "external_ref",
        unique=True,
        sqlite_where=text("deleted_us IS NULL AND external_ref IS NOT NULL"),
        postgresql_where=text("deleted_us IS NULL AND external_ref IS NOT NULL"),
    ),
    Index("accounts_parent_id_created_us_id", "parent_id", "created_us", "id"),
    Index(
        "accounts_webhook",
        "id",
        sqlite_where=text("webhook_url IS NOT NULL"),
        postgresql_where=text("webhook_url IS NOT NULL"),
    ),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("kind", Text, nullable=False),  # "private", "public"
    Column("label", Text, nullable=False),
    Column("description", Text),
    Column("project", Text),
    Column("lookup", Text, nullable=False),  # the part of the key by which the row is found; not secret
    Column("hash", LargeBinary, nullable=False),  # SHA-256 of the whole key, 32 bytes
    Column("masked", Text, nullable=False),  # as it is listed
    Column("expires_us", BigInteger),  # null: never
    Column("allowed_models", Document),  # list of names; null: those of the account
    Column("last_used_us", BigInteger),  # null: not yet
    Column("successor_id", Id, ForeignKey("keys.id")),  # at whose first use this key dies; null: not rotated
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("deleted_us", BigInteger),
    Index("keys_lookup", "lookup", unique=True),
    Index("keys_account_id_created_us_id", "account_id", "created_us", "id"),
    Index(
        "keys_successor_id",
        "successor_id",
        sqlite_where=text("successor_id IS NOT NULL"),
        postgresql_where=text("successor_id IS NOT NULL"),
    ),
)
