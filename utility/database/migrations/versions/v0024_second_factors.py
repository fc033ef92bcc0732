"""Second factors of people, their recovery codes, and logins that wait for them."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "second_factor",
        sa.Column("person", sa.String(32), nullable=False),
        sa.Column("secret", sa.String(32), nullable=True),
        sa.Column("since", sa.BigInteger(), nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("guesses_until", sa.BigInteger(), nullable=False),
        sa.Column("offered", sa.String(64), nullable=True),
        sa.Column("offered_until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["person"], ["person.name"], name=op.f("fk_second_factor_person")),
        sa.PrimaryKeyConstraint("person", name=op.f("pk_second_factor")),
    )
    for table, columns in (
        ("recovery_code", ()),
        (
            "started_login",
            (
                sa.Column("until", sa.BigInteger(), nullable=False),
                sa.Column("wrong", sa.Integer(), nullable=False),
            ),
        ),
    ):
        op.create_table(
            table,
            sa.Column("digest", sa.String(64), nullable=False),
            sa.Column("person", sa.String(32), nullable=False),
            *columns,
            sa.ForeignKeyConstraint(["person"], ["person.name"], name=op.f(f"fk_{table}_person")),
            sa.PrimaryKeyConstraint("digest", name=op.f(f"pk_{table}")),
        )
        op.create_index(op.f(f"ix_{table}_person"), table, ["person"])
