"""Brings the tables up to date, in one transaction that only one process at a time can hold."""

import logging
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from gateway_core.storage.errors import SchemaTooNew

FOLDER = Path(__file__).parent / "migrations"

log = structlog.get_logger("headgate.storage")


def upgrade(connection: Connection) -> None:
    """Runs the migrations that the database lacks; raises SchemaTooNew where it has one that is not known here.

    Takes a connection in a transaction that holds the lock; the transaction is the caller's to commit.
    """
    # Alembic tells each step at INFO: what matters is told below.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    before = MigrationContext.configure(connection).get_current_heads()
    unknown = set(before) - {revision.revision for revision in script.walk_revisions()}
    if unknown:
        raise SchemaTooNew(
            f"The database is at revision {', '.join(sorted(unknown))}, which a newer version of Headgate made: "
            "start that version, or restore a backup."
        )
    head = script.get_current_head()
    if before == (head,):
        return
    command.upgrade(config, "head")
    log.info("database_migrated", before=", ".join(before) or None, after=head)
