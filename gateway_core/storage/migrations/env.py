"""What Alembic runs to bring a database up to date: on the connection, and in the transaction, of migration.py."""

from alembic import context

from gateway_core.storage.tables.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
