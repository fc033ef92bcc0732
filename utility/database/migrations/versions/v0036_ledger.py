"""The table of the ledger; entries only grow."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0034"
branch_labels = None
depends_on = None


def _only_grows() -> None:
    """Let the database refuse changes of entries."""
    act = "BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END"
    if op.get_bind().dialect.name == "postgresql":
        raised = "BEGIN RAISE EXCEPTION 'the ledger only grows'; END"
        op.execute(f"CREATE FUNCTION ledger_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$ {raised} $$")
        act = "FOR EACH STATEMENT EXECUTE FUNCTION ledger_only_grows()"
    for change in ("UPDATE", "DELETE"):
        op.execute(f"CREATE TRIGGER ledger_no_{change.lower()} BEFORE {change} ON ledger_entry {act}")


def upgrade() -> None:
    """Make the table, and what refuses changes."""
    texts = {"day": 10, "kind": 200, "of": 200, "due": 200, "text": 200, "person": 200, "lines": 400}
    op.create_table(
        "ledger_entry",
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("no", "account", "about")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("cents", "time")),
        *(sa.Column(name, sa.String(most), nullable=False) for name, most in texts.items()),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("no", name="pk_ledger_entry"),
        sa.UniqueConstraint("kind", "of", name="uq_ledger_entry_kind_of"),
    )
    for column in ("account", "about", "day"):
        op.create_index(f"ix_ledger_entry_{column}", "ledger_entry", [column])
    _only_grows()
