"""Small queries of the service: controllers, meters, commands and gateways' heartbeats."""

import json

from sqlalchemy import Connection, select

from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.ids import unsigned64
from commonwatt.model.validation import limits_of
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from utility.changes import OpenCommand
from utility.registry.snapshot import MeterEntry, RegistrySnapshot
from utility.store.checks import check_meters
from utility.store.database import read_setting, save_setting
from utility.store.tables import command, controller, gateway_seen, meter

REVISION = "registry_revision"
"""Setting that each change of the registry increments, so that a running service loads it again."""

NOBODY = 0
"""Number of an unregistered or unknown controller; registered controllers' numbers begin at 1."""

# Built once: the service executes it every two seconds.
_OPEN_COMMANDS = (
    select(command.c.id, command.c.controller, command.c.message, command.c.until)
    .where(command.c.state == "open")
    .order_by(command.c.created, command.c.id)
)


def registry_revision(connection: Connection) -> int:
    """Return the number of changes of the registry."""
    return int(read_setting(connection, REVISION) or 0)


def registry_changed(connection: Connection) -> None:
    """Increment the registry's revision."""
    save_setting(connection, REVISION, str(registry_revision(connection) + 1))


def load_snapshot(connection: Connection) -> RegistrySnapshot:
    """Read the registry.

    Raises:
        DamagedError: A meter's row is damaged.
    """
    check_meters(connection)
    controllers = connection.execute(select(controller.c.id, controller.c.number, controller.c.kind)).all()
    return RegistrySnapshot(
        revision=registry_revision(connection),
        controllers={row.id: row.number for row in controllers},
        public=frozenset(row.id for row in controllers if row.kind == "public"),
        meters={
            unsigned64(row.id): MeterEntry(
                no=row.no,
                microgrid=row.microgrid,
                record_types=frozenset(map(int, row.record_types.split(","))),
                account=row.account,
                limits=limits_of(row.service_amps, row.battery_capacity),
            )
            for row in connection.execute(select(meter))
        },
    )


def last_heartbeats(connection: Connection) -> dict[str, tuple[int, Heartbeat | None]]:
    """Return (time of receipt, last heartbeat) by gateway; the heartbeat is ``None`` if it can't be read."""
    return {row.controller: (row.time, _heartbeat(row.heartbeat)) for row in connection.execute(select(gateway_seen))}


def _heartbeat(kept: str) -> Heartbeat | None:
    try:
        return unpack_json(Heartbeat, kept.encode())
    except ProtocolError:
        return None  # Damaged, or of another release; the next arrives within a minute.


def controller_numbers(connection: Connection) -> dict[str, int]:
    """Return the number of each controller, by its id."""
    return {row.id: row.number for row in connection.execute(select(controller.c.id, controller.c.number))}


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


def _sets(message: str) -> set[str]:
    """Return what a command sets: the place of an aggregation, or names of periods; nothing for a ``get``."""
    fields = json.loads(message)
    if fields.get("cmd") in ("aggregate", "deaggregate"):
        return {f"aggregation at {fields['at']}"}
    return set(fields.get("periods", ()))


def _without(message: str, taken: set[str]) -> dict[str, str]:
    """Return the changed columns of a command after a later one has ``taken`` some, or all, of its settings."""
    fields = json.loads(message)
    left = {name: value for name, value in fields.get("periods", {}).items() if name not in taken}
    return {"message": json.dumps(fields | {"periods": left})} if left else {"state": "superseded"}
