"""Commands to gateways that have no outcome yet."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, select

from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId
from commonwatt.protocol.controller_commands import ControllerCommand
from utility.database.base import read
from utility.outbox.changes import OpenCommand
from utility.outbox.settings import Earlier, settings_of, to_repeat, without
from utility.outbox.tables import command

MOST_EARLIER = 1_000  # newest commands among which those in force are looked for
ID_LENGTH = 44  # characters that are left of an id of a command that is given again

# Built once: the service executes it every two seconds.
_OPEN_COMMANDS = (
    select(command.c.id, command.c.controller, command.c.message, command.c.until)
    .where(command.c.state == "open")
    .order_by(command.c.created, command.c.id)
)


def open_commands(connection: Connection) -> list[OpenCommand]:
    """Return the commands without an outcome yet, oldest first."""
    return read(OpenCommand, connection.execute(_OPEN_COMMANDS))


def send(connection: Connection, to: ControllerId, message: ControllerCommand, now: EpochSeconds) -> None:
    """Add a command that is made now."""
    new = OpenCommand(id=message.id, controller=to, message=message.pack().decode(), until=message.until)
    add_command(connection, new, now)


def add_command(connection: Connection, new: OpenCommand, created: int) -> None:
    """Add a command; the service sends it repeatedly until its outcome arrives or it expires.

    Older open commands to the same controller lose the settings that this one sets, or are closed as superseded: sent
    again after this one, they would undo it.
    """
    message = json.loads(new.message)
    if sets := settings_of(message):
        ours = (command.c.controller == new.controller) & (command.c.state == "open")
        for row in connection.execute(select(command.c.id, command.c.message).where(ours)).all():
            older = json.loads(row.message)
            if (taken := settings_of(older) & sets) and _replaces(message, older):
                left = without(older, taken)
                changed = {"state": "superseded"} if left is None else {"message": json.dumps(left)}
                connection.execute(command.update().where(command.c.id == row.id).values(changed))
    limits_import = message.get("import_limit_w") is not None
    values = {"created": created, "state": "open", "limits_import": limits_import}
    connection.execute(command.insert().values(**vars(new), **values))


def repeat_commands(connection: Connection, microgrid: MicrogridId, mark: str, now: EpochSeconds) -> None:
    """Give the commands again whose settings are in force, since another controller manages the microgrid now.

    Args:
        mark: What their ids end with, another one at each change of the manager.
    """
    rows = connection.execute(_EARLIER, {"microgrid": microgrid})
    earlier = [
        Earlier(message=json.loads(row.message), created=row.created, is_done=row.state == "done") for row in rows
    ]
    for message in reversed(list(to_repeat(earlier, now))):
        again = message | {"id": f"{message['id'][:ID_LENGTH]}{mark}"}
        add_command(
            connection,
            OpenCommand(id=again["id"], controller=microgrid, message=json.dumps(again), until=again["until"]),
            now,
        )


_EARLIER = (
    select(command.c.message, command.c.created, command.c.state)
    .where(
        command.c.controller == bindparam("microgrid"),
        (command.c.state == "open") | ((command.c.state == "done") & (command.c.result == "done")),
    )
    .order_by(command.c.created.desc(), command.c.id.desc())
    .limit(MOST_EARLIER)
)


def _replaces(new: Mapping[str, Any], older: Mapping[str, Any]) -> bool:
    """Return whether a command replaces an older one; sharing from a later date on leaves what holds before it."""
    if older.get("from_time") is None:
        return new.get("from_time") is None
    return new.get("from_time") is None or bool(older["from_time"] >= new["from_time"])
