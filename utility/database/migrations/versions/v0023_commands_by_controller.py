"""Commands are found by their controller: a microgrid's page shows the newest ones."""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_command_controller_created", "command", ["controller", "created"])
