"""The index of lists of corrections, by meter and time."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    columns = ["state", "meter_no", "record_type", "quarter"]
    op.create_index("ix_correction_state_meter", "correction", columns)
