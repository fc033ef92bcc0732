"""The senders of conflicting values, for conflicts between several controllers."""

from alembic import op

from utility.database.migrations.making import make_table

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; the senders of existing conflicts are unknown."""
    make_table(
        "conflict_sender",
        "quarter meter_no record_type slot value sender_no",
        "quarter int, meter_no int, record_type small, slot small, value big, sender_no small",
    )
    op.execute("UPDATE compacted SET sender_no = 0 WHERE conflicts > 0")
