"""What the store knows of the town: controllers, meters, commands, gateways. Small reads for the service."""

import json

from sqlalchemy import Connection, select

from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import unsigned64
from commonwatt.model.validation import limits_of
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from utility.changes import OpenCommand
from utility.registry.snapshot import MeterEntry, RegistrySnapshot
from utility.store.checks import check_meters
from utility.store.database import read_setting, save_setting
from utility.store.tables import command, controller, gateway_seen, meter

REVISION = "registry_revision"
"""Setting that ``register`` counts up, so that a running service reads the registry again."""

NOBODY = 0
"""Stands for a controller that is not registered; the numbers of those that are begin at 1."""

# Made once: the service asks all the time.
_OPEN_COMMANDS = (
    select(command.c.id, command.c.controller, command.c.message, command.c.until)
    .where(command.c.state == "open")
    .order_by(command.c.created, command.c.id)
)


def registry_revision(connection: Connection) -> int:
    """Return how often the registry was changed."""
    return int(read_setting(connection, REVISION) or 0)


def registry_changed(connection: Connection) -> None:
    """Say that the registry was changed."""
    save_setting(connection, REVISION, str(registry_revision(connection) + 1))


def load_snapshot(connection: Connection) -> RegistrySnapshot:
    """Read the registry.

    Raises:
        DamagedError: A meter is not what was registered.
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
    """Return the last heartbeat of each gateway that ever sent one, and when it came; ``None``: it can't be read."""
    return {row.controller: (row.time, _heartbeat(row.heartbeat)) for row in connection.execute(select(gateway_seen))}


def _heartbeat(kept: str) -> Heartbeat | None:
    try:
        return unpack_json(Heartbeat, kept.encode())
    except ProtocolError:
        return None  # Damaged, or of another release; the next comes within a minute.


def controller_numbers(connection: Connection) -> dict[str, int]:
    """Return the number of each controller, by its id."""
    return {row.id: row.number for row in connection.execute(select(controller.c.id, controller.c.number))}


def open_commands(connection: Connection) -> list[OpenCommand]:
    """Return the commands that wait for their outcome, oldest first."""
    return [
        OpenCommand(id=row.id, controller=row.controller, message=row.message, until=row.until)
        for row in connection.execute(_OPEN_COMMANDS)
    ]


def add_command(connection: Connection, new: OpenCommand, created: int) -> None:
    """Give out a command; the service sends it until an outcome comes or its time has passed.

    Older open commands to the same controller that set what this one sets are closed as superseded: sent once more,
    after this one was done, they would undo it.
    """
    if sets := _sets(new.message):
        ours = (command.c.controller == new.controller) & (command.c.state == "open")
        for row in connection.execute(select(command.c.id, command.c.message).where(ours)).all():
            if taken := _sets(row.message) & sets:
                connection.execute(command.update().where(command.c.id == row.id).values(_without(row.message, taken)))
    connection.execute(command.insert().values(**vars(new), created=created, state="open"))


def _sets(message: str) -> set[str]:
    """Return what a command sets: where it aggregates, which periods; nothing for a ``get``."""
    fields = json.loads(message)
    if fields.get("cmd") in ("aggregate", "deaggregate"):
        return {f"aggregation at {fields['at']}"}
    return set(fields.get("periods", ()))


def _without(message: str, taken: set[str]) -> dict[str, str]:
    """Return the columns of a command of whose settings a later one has ``taken`` some, or all."""
    fields = json.loads(message)
    left = {name: value for name, value in fields.get("periods", {}).items() if name not in taken}
    return {"message": json.dumps(fields | {"periods": left})} if left else {"state": "superseded"}
