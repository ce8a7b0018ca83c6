"""Migrations: they make exactly the schema, up and down on data, and survive a crash."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from privacy.database import open_engine, prepare, reading
from privacy.schema import REVISION_TABLE, metadata


def test_migrations_make_exactly_the_schema(database_url: str) -> None:
    """Alembic finds no difference between a migrated database and the tables of privacy/schema.py."""
    engine = open_engine(database_url)
    prepare(engine)
    with reading(engine) as connection:
        options = {"version_table": REVISION_TABLE, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    engine.dispose()
