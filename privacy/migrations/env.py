"""What Alembic runs: the steps that `privacy.migrations.apply` asked for, on the connection that it brought."""

from typing import Any

from alembic import context

from privacy.schema import REVISION_TABLE, metadata


def _after_step(*_: Any, **__: Any) -> None:
    context.config.attributes["failpoint"]("migrate: after a revision")


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=REVISION_TABLE,
    render_as_batch=True,
    on_version_apply=_after_step,
)
context.run_migrations()
