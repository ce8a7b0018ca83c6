"""Migrations: they make exactly the schema, keep every value up and down, and a crash leaves all or nothing."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from database_child import ROOT, run_child, start_child, was_killed
from database_rows import content, fill
from sqlalchemy import Engine, inspect

from privacy.database import migrate, open_engine, prepare, reading, writing
from privacy.errors import (
    DatabaseError,
    DatabaseMissing,
    NewerSchema,
    OlderSchema,
    UnknownSchema,
    WouldLoseRows,
)
from privacy.failpoints import FAILPOINTS
from privacy.revisions import revision_of
from privacy.schema import REVISION_TABLE, REVISIONS, metadata

ROWS = 40
NEWER_THAN_0001 = {"consents", "quotas", "publications"}

MIGRATE = """
import sys
from privacy.database import migrate, open_engine
url, target, point, nth = sys.argv[1:]
migrate(open_engine(url), target, discard=True, failpoint=kill_at(point, int(nth)))
"""
PREPARE = """
import sys
from privacy.database import open_engine, prepare
prepare(open_engine(sys.argv[1]))
"""


def revision(engine: Engine) -> str | None:
    """The revision that a database has."""
    with reading(engine) as connection:
        return revision_of(connection, "the database")


@pytest.fixture
def engine(database_url: str) -> Engine:
    """An empty database of each kind."""
    return open_engine(database_url)


def test_migrations_make_exactly_the_schema(engine: Engine) -> None:
    """Alembic finds no difference between a migrated database and the tables of privacy/schema.py."""
    prepare(engine)
    options = {"version_table": REVISION_TABLE, "compare_type": True, "compare_server_default": True}
    with reading(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_the_comparison_sees_a_difference(engine: Engine) -> None:
    """A column, a type and a table too many are each found."""
    prepare(engine)
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE intruder (a INTEGER)")
        connection.exec_driver_sql("ALTER TABLE quotas ADD COLUMN intruder INTEGER")
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": REVISION_TABLE})
        assert len(compare_metadata(context, metadata)) == 2


def test_sqlite_tables_are_those_of_the_schema_to_the_last_option(tmp_path: Path) -> None:
    """What Alembic does not compare (WITHOUT ROWID) is compared by the statements that SQLite keeps."""
    migrated, direct = open_engine(tmp_path / "migrated.db"), open_engine(tmp_path / "direct.db")
    prepare(migrated)
    with writing(direct) as connection:
        metadata.create_all(connection)
    query = f"SELECT name, sql FROM sqlite_master WHERE name != '{REVISION_TABLE}' AND sql IS NOT NULL"
    with reading(migrated) as one, reading(direct) as other:
        assert set(one.exec_driver_sql(query)) == set(other.exec_driver_sql(query))


def test_the_schema_names_every_revision_there_is() -> None:
    """`REVISIONS` is what lies in privacy/migrations/versions, in order."""
    config = Config()
    config.set_main_option("script_location", str(ROOT / "privacy" / "migrations"))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == REVISIONS


def test_every_value_survives_the_way_up_and_down(engine: Engine) -> None:
    """Filled at 0001, taken up, down and up again: nothing of what both revisions hold has changed."""
    migrate(engine, "0001")
    fill(engine, ROWS)
    before = content(engine)
    assert set(before) == set(metadata.tables) - NEWER_THAN_0001
    assert migrate(engine) == "0001"
    assert content(engine) == before | {name: [] for name in NEWER_THAN_0001}
    assert migrate(engine, "0001") == "0002"
    assert content(engine) == before


def test_no_row_is_lost_without_permission(engine: Engine) -> None:
    """Down is refused while rows have no place there, naming them; what is permitted is done."""
    prepare(engine)
    fill(engine, ROWS)
    before = content(engine)
    with pytest.raises(WouldLoseRows, match=f"{ROWS} of consents, {ROWS} of quotas, {ROWS} of publications"):
        migrate(engine, "0001")
    assert (content(engine), revision(engine)) == (before, "0002")
    migrate(engine, "0001", discard=True)
    assert content(engine) == {name: rows for name, rows in before.items() if name not in NEWER_THAN_0001}


@pytest.mark.parametrize("point", FAILPOINTS["migrate"])
@pytest.mark.parametrize(("start", "target"), [(None, "0002"), ("0001", "0002"), ("0002", "0001")])
def test_a_killed_migration_leaves_all_or_nothing_and_can_be_repeated(
    database_url: str, point: str, start: str | None, target: str
) -> None:
    """kill -9 at each point, from nothing, up and down: the rows are there, and the next migration succeeds."""
    engine = open_engine(database_url)
    if start is not None:
        migrate(engine, start)
        fill(engine, ROWS, without=NEWER_THAN_0001)
    before = {name: rows for name, rows in content(engine).items() if rows}
    assert was_killed(run_child(MIGRATE, database_url, target, point, "1"))
    assert revision(engine) == (target if point == "migrate: after commit" else start)
    assert {name: rows for name, rows in content(engine).items() if rows} == before
    migrate(engine, target)
    assert revision(engine) == target
    assert {name: rows for name, rows in content(engine).items() if rows} == before


def test_a_migration_killed_between_two_revisions_leaves_neither(database_url: str) -> None:
    """The second step of one migration is where the first must not have been kept."""
    engine = open_engine(database_url)
    for nth in ("1", "2"):
        assert was_killed(run_child(MIGRATE, database_url, "0002", "migrate: after a revision", nth))
        assert revision(engine) is None
        with reading(engine) as connection:
            assert inspect(connection).get_table_names() == []


def test_processes_that_prepare_one_new_database_at_once_all_succeed(database_url: str) -> None:
    """Four at a time: each returns without an error, and the tables are there once."""
    children = [start_child(PREPARE, database_url) for _ in range(4)]
    assert [child.communicate(timeout=60)[1] for child in children] == [""] * 4
    assert [child.returncode for child in children] == [0] * 4
    assert revision(open_engine(database_url)) == REVISIONS[-1]


def test_a_current_database_is_only_looked_at(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second `prepare` neither writes nor migrates."""
    prepare(engine)
    monkeypatch.setattr("privacy.database.migrate", None)
    prepare(engine)


def test_an_older_database_is_refused_with_the_command_that_migrates_it(engine: Engine) -> None:
    """Nothing is migrated unasked: a backup comes first."""
    migrate(engine, "0001")
    with pytest.raises(
        OlderSchema, match=r"revision 0001 .* needs 0002.*fedrank db backup.*fedrank db migrate"
    ):
        prepare(engine)


def test_a_newer_database_is_refused(engine: Engine) -> None:
    """A revision that the code does not know is newer than the code, for opening and for migrating."""
    prepare(engine)
    with writing(engine) as connection:
        connection.exec_driver_sql(f"UPDATE {REVISION_TABLE} SET version_num = '0099'")
    for use in (prepare, migrate):
        with pytest.raises(NewerSchema, match=r"'0099'.*knows 0001, 0002; update fedrank"):
            use(engine)


def test_tables_without_a_revision_are_refused_and_left_alone(engine: Engine) -> None:
    """Those of an earlier development version, or of another application."""
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE events (a INTEGER)")
    for use in (prepare, migrate):
        with pytest.raises(UnknownSchema, match=r"without a revision \(events\).*name another database"):
            use(engine)
    with reading(engine) as connection:
        assert [column["name"] for column in inspect(connection).get_columns("events")] == ["a"]


def test_tables_of_another_application_may_lie_beside_ours(engine: Engine) -> None:
    """Neither its tables nor the revision of its own migrations are touched or mistaken for ours."""
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('theirs')")
    prepare(engine)
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT * FROM alembic_version").scalars().all() == ["theirs"]


def test_an_empty_database_is_not_filled_where_one_should_be_there(engine: Engine) -> None:
    """`create=False` makes no tables."""
    with pytest.raises(DatabaseMissing, match="holds no tables of fedrank"):
        prepare(engine, create=False)
    assert revision(engine) is None


@pytest.mark.parametrize("target", ["", "head", "base", "0003", "-1"])
def test_an_unknown_target_is_refused_naming_the_known(engine: Engine, target: str) -> None:
    """Alembic's own words for revisions are not ours."""
    with pytest.raises(DatabaseError, match="known are 0001, 0002"):
        migrate(engine, target)


def test_a_failed_step_changes_nothing(database_url: str) -> None:
    """A table that is in the way of revision 0002 leaves 0001 as it was."""
    engine = open_engine(database_url)
    migrate(engine, "0001")
    fill(engine, ROWS)
    before = content(engine)
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE quotas (holder VARCHAR)")
    with pytest.raises(DatabaseError, match="quotas"):
        migrate(engine)
    assert revision(engine) == "0001"
    assert content_without(engine, "quotas") == before


def content_without(engine: Engine, name: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table except one, which is removed first."""
    with writing(engine) as connection:
        connection.exec_driver_sql(f"DROP TABLE {name}")
    return content(engine)
