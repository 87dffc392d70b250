"""What all tables are made of: the metadata with its naming rules, and the types of columns."""

from sqlalchemy import JSON, MetaData, String
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

# Compared byte by byte: an index then serves ranges and cursors, whatever the locale of a PostgreSQL server.
Id = String(36).with_variant(String(36, collation="C"), "postgresql")
Document = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
