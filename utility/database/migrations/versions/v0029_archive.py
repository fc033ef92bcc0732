"""The table of months of readings in files."""

from utility.database.migrations.making import make_table

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    make_table(
        "archived_month",
        "first_quarter",
        "first_quarter int, until_quarter int, path text, rows big, total big, sha256 s64, size big, state s8, changes "
        "int, made big, trouble text=",
    )
