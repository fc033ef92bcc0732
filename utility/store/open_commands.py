"""Commands to gateways that have no outcome yet."""

import json

from sqlalchemy import Connection, select

from utility.changes import OpenCommand
from utility.store.tables import command

# Built once: the service executes it every two seconds.
_OPEN_COMMANDS = (
    select(command.c.id, command.c.controller, command.c.message, command.c.until)
    .where(command.c.state == "open")
    .order_by(command.c.created, command.c.id)
)


def open_commands(connection: Connection) -> list[OpenCommand]:
    """Return the commands without an outcome yet, oldest first."""
    return [
        OpenCommand(id=row.id, controller=row.controller, message=row.message, until=row.until)
        for row in connection.execute(_OPEN_COMMANDS)
    ]


def add_command(connection: Connection, new: OpenCommand, created: int) -> None:
    """Add a command; the service sends it repeatedly until its outcome arrives or it expires.

    Older open commands to the same controller lose the settings that this one sets, or are closed as superseded: sent
    again after this one, they would undo it.
    """
    if sets := _sets(new.message):
        ours = (command.c.controller == new.controller) & (command.c.state == "open")
        for row in connection.execute(select(command.c.id, command.c.message).where(ours)).all():
            if taken := _sets(row.message) & sets:
                connection.execute(command.update().where(command.c.id == row.id).values(_without(row.message, taken)))
    connection.execute(command.insert().values(**vars(new), created=created, state="open"))


_STATES = ("reduce", "supply", "notice", "isolate")
"""Commands of which the last one alone is wanted. A strategy of sharing has a date, so that two may be wanted."""


def _sets(message: str) -> set[str]:
    """Return what a command sets: a state, an aggregation, a tariff, or names of periods; nothing for a ``get``."""
    fields = json.loads(message)
    if fields.get("cmd") in _STATES:
        return {f"state {fields['cmd']}"}
    if fields.get("cmd") == "rates":
        return {f"rates of {fields['tariff']}"}
    if fields.get("cmd") in ("aggregate", "deaggregate"):
        return {f"aggregation at {fields['at']}"}
    named: set[str] = set(fields.get("periods", ()))
    return named | {"meters"} if fields.get("meters") else named


def _without(message: str, taken: set[str]) -> dict[str, str]:
    """Return the changed columns of a command after a later one has ``taken`` some, or all, of its settings."""
    fields = json.loads(message)
    left = {name: value for name, value in fields.get("periods", {}).items() if name not in taken}
    if "meters" in taken:
        del fields["meters"]
    if left or fields.get("meters"):
        return {"message": json.dumps(fields | {"periods": left})}
    return {"state": "superseded"}
