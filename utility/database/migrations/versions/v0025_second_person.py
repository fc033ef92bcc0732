"""Who made a person's present link and roles, or removed the second factor, and when; from the audit log so far.

And the token of what is done by one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_ACTIONS = {"person.link": "link", "person.roles": "roles", "person.second-factor": "factor"}


def upgrade() -> None:
    """Add the columns, and fill them."""
    for change in _ACTIONS.values():
        op.add_column("person", sa.Column(f"{change}_by", sa.String(32), nullable=True))
        op.add_column("person", sa.Column(f"{change}_at", sa.BigInteger(), nullable=True))
    op.add_column("audit", sa.Column("token", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_audit_token"), "audit", ["token"])
    op.execute("UPDATE person SET link_by = created_by, link_at = created, roles_by = created_by, roles_at = created")
    audit, person = (sa.table(name, *map(sa.column, columns)) for name, columns in _COLUMNS.items())
    c = audit.c
    by_others = c.action.in_(_ACTIONS) & (c.person != c.subject)
    connection = op.get_bind()
    for row in connection.execute(sa.select(audit).where(by_others).order_by(c.no)).all():
        # Of factors, others only remove them.
        change = _ACTIONS[row.action]
        values = {f"{change}_by": row.person, f"{change}_at": row.time}
        connection.execute(person.update().where(person.c.name == row.subject).values(values))


_COLUMNS = {
    "audit": ("no", "time", "person", "action", "subject"),
    "person": ("name", *(f"{change}_{what}" for change in _ACTIONS.values() for what in ("by", "at"))),
}
