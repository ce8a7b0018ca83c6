"""The steps between revisions of `privacy/schema.py`, taken by Alembic within one transaction of the caller.

There is no alembic.ini: the connection comes from the caller, and a failure or a crash leaves the revision that
was there before. A new revision is a file of `versions/`, a name in `privacy.schema.REVISIONS`, and a test on data.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from privacy.failpoints import Failpoint, no_failpoint
from privacy.schema import REVISIONS


def apply(
    connection: Connection, current: str | None, target: str, failpoint: Failpoint = no_failpoint
) -> None:
    """Take the tables from revision `current` (None: no tables) up or down to `target`; nothing is committed.

    Calls `failpoint` after each step.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes.update(connection=connection, failpoint=failpoint)
    known = (None, *REVISIONS)
    step = command.upgrade if known.index(target) >= known.index(current) else command.downgrade
    step(config, target)
