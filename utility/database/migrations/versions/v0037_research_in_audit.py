"""Research has no log and no rights of its own: its log's accesses go to the audit log, and both tables are dropped."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"

_ACTIONS = {
    "read": "release.read",
    "downloaded": "release.download",
    "waiting": "release.make",
    "released": "release.make",
}


def upgrade() -> None:
    """Move the accesses, which the audit log does not have, and drop the tables."""
    connection = op.get_bind()
    log = sa.text("SELECT time, person, action, subject, detail FROM research_log ORDER BY no")
    new = sa.text(
        "INSERT INTO audit (time, person, via, address, action, subject, after) "
        "VALUES (:time, :person, '', '', :action, :subject, :after)"
    )
    for row in connection.execute(log).mappings().all():
        if row["action"] in _ACTIONS:
            subject = row["subject"] if row["action"] == "read" else f"release {row['subject']}"
            after = json.dumps({"was": row["action"], "detail": row["detail"]})
            connection.execute(new, {**row, "action": _ACTIONS[row["action"]], "subject": subject, "after": after})
    op.drop_table("research_log")
    op.drop_table("research_reader")
