"""The rates that controllers were sent, and the commands that send them until they are acknowledged (U3)."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, func, select

from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from utility.database.database import upsert
from utility.outbox.store.commands import send
from utility.outbox.tables import command
from utility.registry.tables import controller
from utility.tariffs.rates import ToldRates
from utility.tariffs.tables import rates_told


def controllers(connection: Connection) -> list[MicrogridId]:
    """Return the names of all controllers."""
    return list(connection.execute(select(controller.c.id).order_by(controller.c.number)).scalars())


def told(connection: Connection) -> dict[tuple[MicrogridId, str], tuple[int, str]]:
    """Return version and month of what each controller was sent of each tariff."""
    return {(row.controller, row.tariff): (row.version, row.month) for row in connection.execute(select(rates_told))}


def tell(
    connection: Connection,
    new: Sequence[tuple[MicrogridId, ToldRates]],
    now: EpochSeconds,
    new_id: Callable[[], str],
) -> None:
    """Store the commands that tell controllers rates; the service sends each until it is answered or the rates end."""
    rows = []
    for name, rates in new:
        message = ControllerCommand(
            id=f"rates-{now}-{new_id()}",
            cmd=Action.RATES,
            until=rates.until,
            tariff=rates.tariff,
            version=rates.version,
            prices=rates.prices,
            changes=rates.changes,
            rates_until=rates.until,
        )
        send(connection, name, message, now)
        row = {"controller": name, "tariff": rates.tariff, "version": rates.version, "month": rates.month}
        rows.append(row | {"command": message.id})
    if rows:
        connection.execute(upsert(connection, rates_told, "version", "month", "command"), rows)


def acknowledged(
    connection: Connection, tariff: str = "", limit: int | None = None, skipped: int = 0
) -> list[dict[str, object]]:
    """Return what each controller was sent, and the state of the command, by controller and tariff.

    Args:
        tariff: Only of this tariff; empty: of all.
        limit: At most so many; ``None``: all.
        skipped: How many come before.
    """
    c = rates_told.c
    columns = (c.controller, c.tariff, c.version, c.month, command.c.state, command.c.created)
    statement = select(*columns).outerjoin(command, command.c.id == c.command).order_by(c.controller, c.tariff)
    if tariff:
        statement = statement.where(c.tariff == tariff)
    return [dict(row) for row in connection.execute(statement.limit(limit).offset(skipped)).mappings()]


def told_counts(connection: Connection) -> list[dict[str, object]]:
    """Return how many controllers were sent which version of a tariff for which month, by the command's state."""
    c = rates_told.c
    columns = (c.tariff, c.version, c.month, command.c.state)
    statement = select(*columns, func.count().label("controllers")).outerjoin(command, command.c.id == c.command)
    return [dict(row) for row in connection.execute(statement.group_by(*columns).order_by(*columns)).mappings()]
