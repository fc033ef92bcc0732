"""The proof of bills: the secret of each run's salts, the hashes of its leaves, and the head of its month."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; runs that exist have no proof."""
    op.add_column("bill_run", sa.Column("secret", sa.LargeBinary(), nullable=True))
    op.add_column("bill_run", sa.Column("leaves", sa.LargeBinary(), nullable=True))
    op.add_column("bill_run", sa.Column("head", sa.Text(), nullable=True))
