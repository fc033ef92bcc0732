"""Keep each sharing minimum that a meter reported; columns for what was searched for in the text of messages."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_RESULTS = ("done", "repeated", "superseded", "fenced", "expired", "refused", "partial", "unsupported")


def upgrade() -> None:
    """Make the time of a minimum's report a part of its key; add the columns, and fill them from the texts."""
    with op.batch_alter_table("declared_minimum") as table:
        table.drop_constraint("pk_declared_minimum", type_="primary")
        table.create_primary_key("pk_declared_minimum", ["meter_no", "said"])
    op.add_column("command", sa.Column("result", sa.String(16), nullable=True))
    op.add_column("command", sa.Column("limits_import", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("gateway_seen", sa.Column("tuned", sa.Boolean(), nullable=False, server_default=sa.false()))
    for result in _RESULTS:
        op.execute(f"UPDATE command SET result = '{result}' WHERE outcome LIKE '%\"result\":\"{result}\"%'")
    op.execute("UPDATE command SET limits_import = true WHERE message LIKE '%\"import_limit_w\":%'")
    op.execute("UPDATE gateway_seen SET tuned = true WHERE heartbeat NOT LIKE '%\"tuned\":[]%'")
