"""SQL of the outbox: commands to gateways without an outcome, what controllers are told, the plant's reports.

A room says what controllers are to be told of a topic (``Wanted``). A controller is told if that differs from what it
was told last, if the command got no answer in time or another one took its setting, ``AGAIN_S`` after an answer that is
not `done`, and, if the room asks for it, some time after any answer.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from sqlalchemy import Connection, bindparam, select

from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId, Quarter
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.plant_messages import PlantQuarter, PlantReport
from commonwatt.protocol.topics import PLANT
from utility.database.base import read
from utility.database.database import insert_or, upsert
from utility.outbox.changes import (
    ClosePurchase,
    EarlierCommand,
    KeepPlantQuarters,
    OpenCommand,
    SawPlant,
    UtilityChange,
    settings_of,
    to_repeat,
    without,
)
from utility.outbox.tables import command, plant_quarter, plant_seen, purchase, told

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
        EarlierCommand(message=json.loads(row.message), created=row.created, is_done=row.state == "done")
        for row in rows
    ]
    for message in reversed(list(to_repeat(earlier, now))):
        again = message | {"id": f"{message['id'][:ID_LENGTH]}{mark}"}
        add_command(
            connection,
            OpenCommand(id=again["id"], controller=microgrid, message=json.dumps(again), until=again["until"]),
            now,
        )
        # The answer to this command now counts for what the controller was told.
        connection.execute(told.update().where(told.c.command == message["id"]).values(command=again["id"]))


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


SENT_S = 86_400  # seconds for which most of what is told is sent until it is answered
AGAIN_S = 86_400  # seconds after which a controller that did not do a command is told again: it may have been upgraded


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a controller is to be told of a topic."""

    controller: ControllerId
    topic: str  # the topic; its first word is the beginning of the commands' ids
    fields: Mapping[str, Any]  # the command's keys and values, with ``cmd``
    content: Any  # what is compared with what it was told, JSON; empty: a controller that was never told has that
    until: EpochSeconds  # until when the command is sent
    again_s: int | None = None  # seconds after which it is told again although it did the command; ``None``: never


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a controller was last told of a topic."""

    controller: ControllerId
    topic: str
    content: Any
    time: EpochSeconds  # when
    command: str  # the id of the command
    state: str | None  # the command's; ``None``: it is not known any more
    result: str | None  # the answer's; ``None``: there is none
    outcome: Mapping[str, Any]  # the answer; empty: there is none

    def is_to_repeat(self, now: EpochSeconds, again_s: int | None = None) -> bool:
        """Return whether the controller is to be told the same again."""
        if self.state == "open":
            return False
        if self.result not in (None, "done"):
            again_s = min(AGAIN_S, again_s or AGAIN_S)
        return self.state in ("expired", "superseded") or (again_s is not None and self.time + again_s <= now)


def told_of(connection: Connection, topic: str, limit: int | None = None, skipped: int = 0) -> list[Told]:
    """Return what controllers were told of a topic, or of all that begin with its word, by controller and topic."""
    c = told.c
    statement = select(told, command.c.state, command.c.result, command.c.outcome).outerjoin(
        command, command.c.id == c.command
    )
    statement = statement.where((c.topic == topic) | c.topic.startswith(f"{topic} ", autoescape=True))
    rows = connection.execute(statement.order_by(c.controller, c.topic).limit(limit).offset(skipped)).mappings()
    texts = ("content", "outcome")
    return [Told(**{**row, **{name: json.loads(row[name] or "{}") for name in texts}}) for row in rows]


def to_tell(connection: Connection, wanted: Sequence[Wanted], now: EpochSeconds) -> list[Wanted]:
    """Return what of it controllers are to be told now."""
    words = {one.topic.partition(" ")[0] for one in wanted}
    known = {(one.controller, one.topic): one for word in words for one in told_of(connection, word)}
    found = []
    for one in wanted:
        if one.until <= now:
            continue  # It would expire at once, and be told again.
        last = known.get((one.controller, one.topic))
        if bool(one.content) if last is None else last.content != one.content or last.is_to_repeat(now, one.again_s):
            found.append(one)
    return found


def tell(connection: Connection, wanted: Sequence[Wanted], now: EpochSeconds) -> None:
    """Send controllers what of it they are to be told now."""
    rows = []
    for one in to_tell(connection, wanted, now):
        name = f"{one.topic.partition(' ')[0]}-{token_hex(8)}"
        message = ControllerCommand.model_validate({**one.fields, "id": name, "until": one.until})
        send(connection, one.controller, message, now)
        row = {"controller": one.controller, "topic": one.topic, "content": json.dumps(one.content)}
        rows.append(row | {"time": now, "command": name})
    if rows:
        connection.execute(upsert(connection, told, "content", "time", "command"), rows)


def write_plant(connection: Connection, changes: Sequence[UtilityChange]) -> None:
    """Write the plant's changes among some changes of the core."""
    for seen in [change for change in changes if isinstance(change, SawPlant)][-1:]:
        row = {"one": 1, "time": seen.time, "report": seen.report.pack().decode()}
        connection.execute(upsert(connection, plant_seen, "time", "report"), row)
    keeping = [change for change in changes if isinstance(change, KeepPlantQuarters)]
    if keeping:
        _keep_quarters(connection, [row for one in keeping for row in one.quarters])
        oldest = max(one.oldest for one in keeping)
        connection.execute(plant_quarter.delete().where(plant_quarter.c.quarter < oldest))
    for closing in [change for change in changes if isinstance(change, ClosePurchase)]:
        ours = (purchase.c.id == closing.id) & (purchase.c.state == "open")
        connection.execute(purchase.update().where(ours).values(state=closing.state, outcome=closing.outcome))


def last_report(connection: Connection) -> tuple[EpochSeconds, PlantReport] | None:
    """Return the time of receipt and the plant's last report; ``None``: there is none that can be read."""
    row = connection.execute(select(plant_seen)).first()
    if row is None:
        return None
    try:
        return row.time, unpack_json(PlantReport, row.report.encode())
    except ProtocolError:
        return None  # Damaged, or of another release; the next arrives within a minute.


def _keep_quarters(connection: Connection, rows: Iterable[PlantQuarter]) -> None:
    """Store finished quarters; of a quarter the row with most slots stays."""
    statement = insert_or(connection, plant_quarter)
    new = statement.excluded
    changed = {name: new[name] for name in PlantQuarter._fields if name != "quarter"}
    kept = statement.on_conflict_do_update(
        index_elements=[plant_quarter.c.quarter], set_=changed, where=new.slots > plant_quarter.c.slots
    )
    best: dict[Quarter, PlantQuarter] = {}
    for row in rows:
        if row.quarter not in best or best[row.quarter].slots < row.slots:
            best[row.quarter] = row
    if best:
        connection.execute(kept, [row._asdict() for row in best.values()])


_OPEN_PURCHASES = (
    select(purchase.c.id, purchase.c.message, purchase.c.until)
    .where(purchase.c.state == "open")
    .order_by(purchase.c.quarter)
)


def open_purchases(connection: Connection) -> list[OpenCommand]:
    """Return the purchases without an outcome yet, oldest first, as commands to the plant."""
    rows = connection.execute(_OPEN_PURCHASES)
    return [OpenCommand(id=row.id, controller=PLANT, message=row.message, until=row.until) for row in rows]
