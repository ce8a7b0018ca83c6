"""Revision 0002: consent, quotas of holders, and the windows of what was published."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the three tables; those of revision 0001 stay as they are."""
    op.create_table(
        "consents",
        sa.Column("holder", sa.String(), primary_key=True),
        sa.Column("shopper", sa.String(), primary_key=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "quotas",
        sa.Column("holder", sa.String(), primary_key=True),
        sa.Column("limit_mu2", sa.Float(53), nullable=False),
        sa.Column("spent_mu2", sa.Float(53), nullable=False),
    )
    op.create_table(
        "publications",
        sa.Column("series", sa.String(), primary_key=True),
        sa.Column("starts", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("ends", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Remove the three tables; `privacy.database.migrate` asks before rows are lost."""
    for name in ("publications", "quotas", "consents"):
        op.drop_table(name)
