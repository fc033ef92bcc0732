"""Keep each sharing minimum that a meter reported, not the last one alone."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the time of the report a part of the key."""
    with op.batch_alter_table("declared_minimum") as table:
        table.drop_constraint("pk_declared_minimum", type_="primary")
        table.create_primary_key("pk_declared_minimum", ["meter_no", "said"])
