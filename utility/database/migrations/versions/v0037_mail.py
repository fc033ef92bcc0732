"""The table of mails."""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "mail",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("account", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Integer(), nullable=False),
        sa.Column("base", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("no", name="pk_mail"),
        sa.UniqueConstraint("kind", "account", "subject", name="uq_mail_kind_account_subject"),
    )
    op.create_index("ix_mail_state", "mail", ["state"])
