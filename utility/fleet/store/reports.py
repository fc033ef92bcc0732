"""The stored reports of controllers."""

from collections.abc import Sequence

from sqlalchemy import Connection, Row, delete, select

from commonwatt.model.units import ControllerId, EpochSeconds
from utility.outbox.tables import controller_report

KEPT_S = 90 * 86_400  # seconds for which a report is kept


def reports_of(connection: Connection, controller: ControllerId, limit: int) -> Sequence[Row[str, int, str]]:
    """Return the newest reports of a controller: command, time, text."""
    table = controller_report
    ours = select(table.c.command, table.c.time, table.c.text).where(table.c.controller == controller)
    return connection.execute(ours.order_by(table.c.time.desc(), table.c.command).limit(limit)).all()


def drop_reports(connection: Connection, now: EpochSeconds) -> None:
    """Delete the reports that are no longer kept."""
    connection.execute(delete(controller_report).where(controller_report.c.time < now - KEPT_S))
