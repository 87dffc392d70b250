"""Gateways, whose versions never change, and plans."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, Table, Text, text

from gateway_core.storage.tables.schema import Document, Id, metadata

gateways = Table(
    "gateways",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("slug", Text, nullable=False),
    Column("version", BigInteger, nullable=False),  # the current row of gateway_versions
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("deleted_us", BigInteger),
    Index(
        "gateways_account_id_slug",
        "account_id",
        "slug",
        unique=True,
        sqlite_where=text("deleted_us IS NULL"),
        postgresql_where=text("deleted_us IS NULL"),
    ),
    Index("gateways_account_id_created_us_id", "account_id", "created_us", "id"),
)

gateway_versions = Table(
    "gateway_versions",
    metadata,
    Column("gateway_id", Id, ForeignKey("gateways.id"), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),  # from 1
    Column("message", LargeBinary, nullable=False),  # headgate.v1.Gateway, serialized, without secrets
    Column("secret", LargeBinary),  # sealed key of the gateway's own endpoint; null: none
    Column("key_id", Id),  # who made the version; null: the program
    Column("created_us", BigInteger, nullable=False),
)

plans = Table(
    "plans",
    metadata,
    Column("name", Text, primary_key=True),
    Column("document", Document, nullable=False),  # what the plan says
    Column("version", BigInteger, nullable=False),  # from 1; each change adds one
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("deleted_us", BigInteger),
)
