"""SQL of discoveries: the open question of a controller, its newest answer, and no earlier ones."""

from typing import Any

from sqlalchemy import Connection, delete, select

from commonwatt.model.units import ControllerId, EpochSeconds
from utility.discovery.cards import DiscoveryAnswer
from utility.outbox.tables import DISCOVERY, command, controller_report


def is_open(connection: Connection, controller: ControllerId, now: EpochSeconds) -> bool:
    """Return whether a controller was asked and may still answer."""
    ours = command.c.controller == controller, command.c.id.startswith(DISCOVERY)
    asked = select(command.c.id).where(*ours, command.c.state == "open", command.c.until > now)
    return connection.execute(asked).first() is not None


def newest(connection: Connection, controller: ControllerId) -> tuple[EpochSeconds | None, dict[str, Any]]:
    """Return when a controller was asked for its newest answer, and that, checked; ``None``: there is none yet."""
    table = controller_report
    ours = table.c.controller == controller, table.c.command.startswith(DISCOVERY)
    last = select(table.c.time, table.c.text).where(*ours).order_by(table.c.time.desc(), table.c.command).limit(1)
    row = connection.execute(last).one_or_none()
    return (None, DiscoveryAnswer().tables()) if row is None else (row.time, DiscoveryAnswer.of(row.text).tables())


def drop_earlier(connection: Connection, controller: ControllerId) -> None:
    """Delete a controller's answers but for the newest, and all questions that are closed."""
    table = controller_report
    ours = table.c.controller == controller, table.c.command.startswith(DISCOVERY)
    last = select(table.c.command).where(*ours).order_by(table.c.time.desc(), table.c.command).limit(1)
    kept = connection.execute(last).scalar_one_or_none()
    connection.execute(delete(table).where(*ours, table.c.command != (kept or "")))
    closed = command.c.controller == controller, command.c.id.startswith(DISCOVERY), command.c.state != "open"
    connection.execute(delete(command).where(*closed))
