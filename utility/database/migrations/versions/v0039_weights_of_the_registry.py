"""The registry alone sets sharing weights: a person's last ones count as told, so that the registry's replace them."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"


def upgrade() -> None:
    """Take over the newest weights of each controller that was sent none of the registry since."""
    connection = op.get_bind()
    changes = sa.text(
        "SELECT t.controller, t.fields, t.command, c.due FROM control_target t JOIN control_change c "
        "ON c.no = t.change_no WHERE c.action = 'sharing' AND c.state = 'sent' ORDER BY c.no"
    )
    told = set(connection.execute(sa.text("SELECT controller FROM weights_told")).scalars())
    found = {}
    for controller, text, command, due in connection.execute(changes):
        fields = json.loads(text)
        if fields.get("weights") is not None and controller not in told:
            weights = json.dumps(fields["weights"])
            since = max(due, fields.get("from_time") or 0) // 900
            found[controller] = {"controller": controller, "since": since, "weights": weights, "command": command or ""}
    new = sa.text("INSERT INTO weights_told VALUES (:controller, :since, :weights, :command)")
    if found:
        connection.execute(new, list(found.values()))
