"""What processes share: who they are, what changed, leases of limits, and single values."""

from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, Index, Integer, LargeBinary, Table, Text

from gateway_core.storage.tables.schema import Id, metadata

processes = Table(
    "processes",
    metadata,
    Column("id", Id, primary_key=True),  # Database.process_id: another one at each start
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),  # its last sign of life
    Column("ended_us", BigInteger),  # null: it runs, or was killed
    Index("processes_ended_us_seen_us", "ended_us", "seen_us"),
)

# One row for each thing that changes; versions rise over all rows. Only SQLite needs it: PostgreSQL notifies.
changes = Table(
    "changes",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("key", Text, primary_key=True),  # "": anything of the topic
    Column("version", BigInteger, nullable=False),
    Column("process_id", Id, nullable=False),  # who changed it
    Index("changes_version", "version", unique=True),
)

rate_windows = Table(
    "rate_windows",
    metadata,
    Column("scope", Text, primary_key=True),  # what is limited: "key:<id>:requests:60"
    Column("window_start_us", BigInteger, primary_key=True, autoincrement=False),
    Column("granted", BigInteger, nullable=False),  # to all holders together
    Column("expires_us", BigInteger, nullable=False),  # when the row may be deleted
    Index("rate_windows_expires_us", "expires_us"),
)

leases = Table(
    "leases",
    metadata,
    Column("id", Id, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("window_start_us", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),  # processes.id
    Column("units", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["scope", "window_start_us"], ["rate_windows.scope", "rate_windows.window_start_us"], ondelete="CASCADE"
    ),
    Index("leases_scope_window_start_us", "scope", "window_start_us"),
    Index("leases_holder", "holder"),
    Index("leases_expires_us", "expires_us"),
)

settings = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)
