"""One row for each period of a job, instead of the number of its last period.

The numbers are not copied: they belong to housekeeping jobs, which simply run once more.
"""

from alembic import op

from utility.database.migrations.making import make_index, make_table

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the table ``period``."""
    op.drop_table("period")
    make_table(
        "period",
        "job start",
        "job s32, start big, until big, due big, name s32, attempts int, lease_until big?, done big?",
    )
    make_index("ix_period_open", "period", "job start", only="done IS NULL")
