"""Money: credits, balances, and the ledger of requests and attempts.

The ledger refers to other tables without foreign keys: it outlives what it names, and a row is written for every call.
"""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, text

from gateway_core.storage.tables.schema import Document, Id, metadata

credits = Table(
    "credits",
    metadata,
    Column("id", Id, primary_key=True),
    Column("account_id", Id, ForeignKey("accounts.id"), nullable=False),
    Column("reference", Text, nullable=False),  # the operator's; the same reference again adds nothing
    Column("description", Text),
    Column("amount_pico_usd", BigInteger, nullable=False),
    Column("remaining_pico_usd", BigInteger, nullable=False),  # not yet spent and not lapsed
    Column("lapsed_pico_usd", BigInteger, nullable=False, server_default=text("0")),  # taken back at its expiry
    Column("expires_us", BigInteger),  # null: never
    Column("created_us", BigInteger, nullable=False),
    Index("credits_account_id_reference", "account_id", "reference", unique=True),
    Index("credits_account_id_created_us_id", "account_id", "created_us", "id"),
    Index(
        "credits_expires_us",
        "expires_us",
        sqlite_where=text("expires_us IS NOT NULL AND remaining_pico_usd > 0"),
        postgresql_where=text("expires_us IS NOT NULL AND remaining_pico_usd > 0"),
    ),
)

balances = Table(
    "balances",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True),
    # Credits less what lapsed of them and what was charged.
    Column("settled_pico_usd", BigInteger, nullable=False, server_default=text("0")),
    Column("spent_pico_usd", BigInteger, nullable=False, server_default=text("0")),  # charged since ever: the spend cap
    Column("version", BigInteger, nullable=False, server_default=text("0")),  # each change adds one
    Column("updated_us", BigInteger, nullable=False),
)

# Calls that are open: a row for each transaction that opened some. See journal.py.
ledger_journal = Table(
    "ledger_journal",
    metadata,
    Column("process_id", Id, primary_key=True),  # processes.id: who must close them
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
    sqlite_with_rowid=False,
)

# Calls that have ended.
ledger_requests = Table(
    "ledger_requests",
    metadata,
    Column("id", Id, primary_key=True),
    Column("request_id", Text, nullable=False),  # x-headgate-request-id; a caller may use one twice
    Column("process_id", Id, nullable=False),  # processes.id: who must close it
    Column("account_id", Id, nullable=False),
    Column("key_id", Id),
    Column("gateway_id", Id),
    Column("gateway_version", BigInteger),
    Column("operation", Text, nullable=False),  # "chat_completion"
    Column("dialect", Text),
    Column("streamed", Boolean, nullable=False),
    Column("requested_model", Text, nullable=False),
    Column("response_model", Text),
    Column("provider", Text),
    # "ok", "cancelled", "interrupted", or a name of ErrorReason, in lower case.
    Column("status", Text, nullable=False),
    Column("finish_reason", Text),
    Column("attempt_count", Integer, nullable=False, server_default=text("0")),
    # Tokens as the provider told them, as in TokenUsage: prompt, completion, and subsets of them. Null: not told.
    Column("prompt_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("prompt_audio_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("completion_audio_tokens", BigInteger),
    Column("estimated_prompt_tokens", BigInteger),  # before the call
    Column("delivered_tokens", BigInteger, nullable=False, server_default=text("0")),  # estimated
    # Unit prices at the time: US dollars for a million tokens, as decimal text. Null: not known.
    Column("input_usd_per_million", Text),
    Column("cached_input_usd_per_million", Text),
    Column("cache_write_usd_per_million", Text),
    Column("output_usd_per_million", Text),
    Column("input_audio_usd_per_million", Text),
    Column("output_audio_usd_per_million", Text),
    Column("price_multiplier", Text),
    Column("reserved_pico_usd", BigInteger, nullable=False, server_default=text("0")),
    Column("cost_pico_usd", BigInteger),  # null: not known
    Column("charged_pico_usd", BigInteger, nullable=False, server_default=text("0")),  # by how much the balance moved
    # Millionths of units of the plan's reserve, which have paid instead of the balance.
    Column("reserve_units", BigInteger, nullable=False, server_default=text("0")),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("duration_us", BigInteger),
    Column("time_to_first_token_us", BigInteger),
    Column("tag", Text),
    Column("metadata", Document),  # names and values of the caller's; null: none
    Index("ledger_requests_account_id_started_us_id", "account_id", "started_us", "id"),
    Index("ledger_requests_started_us_id", "started_us", "id"),
    Index("ledger_requests_request_id", "request_id"),
    Index("ledger_requests_key_id_started_us_id", "key_id", "started_us", "id"),
    Index(
        "ledger_requests_gateway_id_started_us_id",
        "gateway_id",
        "started_us",
        "id",
        sqlite_where=text("gateway_id IS NOT NULL"),
        postgresql_where=text("gateway_id IS NOT NULL"),
    ),
)

ledger_attempts = Table(
    "ledger_attempts",
    metadata,
    Column("ledger_id", Id, primary_key=True),  # ledger_requests.id
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 1
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),  # as the provider names it
    Column("status", Text, nullable=False),  # as in ledger_requests
    Column("http_status", Integer),  # null: none came
    Column("upstream_request_id", Text),
    Column("prompt_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("prompt_audio_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("completion_audio_tokens", BigInteger),
    Column("cost_pico_usd", BigInteger),  # null: not known
    Column("started_us", BigInteger, nullable=False),
    Column("duration_us", BigInteger),
    Column("time_to_first_token_us", BigInteger),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("account_id", Id, ForeignKey("accounts.id"), primary_key=True),
    Column("scope", Text, primary_key=True),  # what the key was given to, such as "chat_completion"
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),  # SHA-256 of the request
    Column("process_id", Id),  # who answers it now; null: it is answered
    Column("ledger_id", Id),
    Column("status", Text, nullable=False),  # "open", "done"
    Column("response", LargeBinary),  # serialized; null while it is open
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Index("idempotency_keys_expires_us", "expires_us"),
)
