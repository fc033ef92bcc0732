"""Makes the core's changes durable, many in one transaction (P7), with the marks of where the database is.

Only one thread of the service uses the writer. Its cache of the tables (numbers of meters, first quarters) changes only
after a commit. To write parts, it reads nothing from the database.
"""

import json
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Integer,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    tuple_,
    update,
)

from commonwatt.model.records import EventRecord
from commonwatt.model.units import QUARTER_S, EpochSeconds, signed64
from commonwatt.protocol.batches import Mark
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.protocol.dead_letters import DeadLetter, LocalReason, event_dead_letter
from utility.database.base import SQLAlchemyError, setting
from utility.database.bulk import is_one_of, listed
from utility.database.checks import is_sound, row_crc
from utility.database.database import (
    RUNS,
    Database,
    insert_in,
    insert_or,
    new_store_id,
    read_setting,
    save_setting,
    upsert,
)
from utility.database.engines import Lock, take
from utility.outbox.changes import Append, CloseCommand, CommittedCounts, KeepDeadLetter, SawGateway, UtilityChange
from utility.outbox.store import write_plant
from utility.outbox.tables import command, controller_report
from utility.readings.core import MOST_RUNS, EarlierRun, Marks
from utility.readings.store.batches import Parts, insert_batches
from utility.readings.store.dead_letters import dead_letter_row
from utility.readings.store.gaps import note_absent
from utility.readings.store.gateways import RelayedCounts
from utility.readings.store.parts import chunks
from utility.readings.store.quarantine import QUARANTINED, note_slots
from utility.readings.store.quarters import keep_first, mark_events
from utility.readings.tables import dead_letter, event, gateway_seen, series, tally
from utility.registry.snapshot import RegistrySnapshot
from utility.registry.store.registry import count_differences, declare_minima, load_snapshot
from utility.registry.tables import meter

RUN = "run"  # setting: the present run and its last commit, "run counter"

log = logging.getLogger(__name__)


class MovedError(SQLAlchemyError):
    """The database is not as this service left it: it went back, or another service wrote; nothing was committed."""


_KEPT = select(setting.c.value).where(setting.c.key == RUN).with_for_update()
_ADVANCE = (
    update(setting)
    .where((setting.c.key == RUN) & (setting.c.value == bindparam("before")))
    .values(value=bindparam("after"))
)


def advance(connection: Connection, marks: Marks) -> None:
    """Count a commit, in its transaction.

    Raises:
        MovedError: The last commit in the database is not the last of this service.
    """
    before, after = f"{marks.run} {marks.counter}", "{} {}".format(*marks.next)
    if connection.execute(_ADVANCE, {"before": before, "after": after}).rowcount != 1:
        raise MovedError(f"the database is not at commit {marks.counter} of run {marks.run:x}")


def begin(connection: Connection, marks: Marks, draw: Callable[[int], int] = secrets.randbits) -> tuple[Marks, int]:
    """Begin a run.

    Args:
        marks: The marks so far of this service.
        draw: Returns a random number of so many bits.

    Returns:
        The new marks; and the id of the store, a new one if commits of this service are missing: 0: none is.
    """
    earlier = {int(run): EarlierRun(*one) for run, one in json.loads(read_setting(connection, RUNS) or "{}").items()}
    # A commit without an answer may still hold the row; this waits for its end.
    run, last = map(int, (connection.execute(_KEPT).scalar() or "0 0").split())
    if last:
        earlier[run] = EarlierRun(last)
    kept, store_id = earlier.get(marks.run, EarlierRun(0)).last, 0
    if kept < marks.counter:
        earlier[marks.run] = EarlierRun(kept, noticed=True)
        store_id = new_store_id(connection, draw(63), forget=False)
        log.warning(
            "the database went back by %d commits while this service ran: nothing of them is taken for stored, and the "
            "gateways send it again; what people decided since is lost",
            marks.counter - kept,
        )
    elif marks.run:
        log.warning("the database was written by another service, or answered a commit too late")
    new = Marks(draw(32) or 1, 0, dict(list(earlier.items())[-MOST_RUNS:]))
    save_setting(connection, RUN, f"{new.run} 0")
    _save_earlier(connection, new)
    return new, store_id


def notice(connection: Connection, marks: Marks, mark: Mark, draw: Callable[[int], int] = secrets.randbits) -> int:
    """Note that the database lacks a commit that a gateway saw, as after a restore; return the store's new id."""
    run, counter = mark
    log.warning("the database lacks commit %d of run %x, which a gateway saw: it went back", counter, run)
    marks.earlier[run] = replace(marks.earlier.get(run, EarlierRun(0)), noticed=True)
    _save_earlier(connection, marks)
    return new_store_id(connection, draw(63), forget=False)


def _save_earlier(connection: Connection, marks: Marks) -> None:
    save_setting(connection, RUNS, json.dumps({run: astuple(one) for run, one in marks.earlier.items()}))


_C = TypeVar("_C")
_EventKey = tuple[int, int, int]


class Writer:
    """The one writer of a service."""

    def __init__(self, database: Database, draw: Callable[[int], int] = secrets.randbits) -> None:
        self.marks = Marks()  # where the database is in its history; without a run, commits are not counted
        self._database, self._draw = database, draw
        self._moved = True
        self._writes = database.writes
        self._registry = RegistrySnapshot()
        self._first: dict[tuple[int, int], int] | None = None
        self._relayed = RelayedCounts()

    def prepare(self) -> bool:
        """Begin a run, if there is none or the last commit found another database; return whether there was a need.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database can't be written.
        """
        if not self._moved:
            return False
        with self._writes.begin() as connection:
            marks, store_id = begin(connection, self.marks, self._draw)
        self.marks, self._moved = marks, False
        self._database.store_id = store_id or self._database.store_id
        self._registry, self._first, self._relayed = RegistrySnapshot(), None, RelayedCounts()
        return True

    def notice(self, mark: Mark) -> None:
        """Note that the database lacks a commit that a gateway saw."""
        if self.marks.lacks(mark):
            with self._writes.begin() as connection:
                self._database.store_id = notice(connection, self.marks, mark, self._draw)

    def commit(self, changes: Sequence[UtilityChange]) -> CommittedCounts:
        """Commit all changes, or none.

        Raises:
            MovedError: Nothing was stored: the database went back, or another service wrote; call ``prepare``.
            sqlalchemy.exc.SQLAlchemyError: Nothing was stored, or the answer to the commit was lost.
        """
        try:
            return self._commit(changes)
        except MovedError:
            self._moved = True
            raise

    def _commit(self, changes: Sequence[UtilityChange]) -> CommittedCounts:
        appends = _of(Append, changes)
        until = self._relayed.due(appends)
        with self._writes.begin() as connection:
            if self.marks.run:
                advance(connection, self.marks)
            firsts = self._firsts(connection)
            transaction = _Transaction(connection, self._current(connection, appends), firsts)
            committed = transaction.do(changes)
            if until is not None:
                self._relayed.write(connection, self._registry.controllers, until)
        self.marks.counter += bool(self.marks.run)
        # Only after the commit, since a rollback would make the cache wrong.
        firsts.update(transaction.new_firsts)
        if until is not None:
            self._relayed.written(until)
        self._relayed.note(appends)
        return committed

    def _current(self, connection: Connection, appends: Sequence[Append]) -> RegistrySnapshot:
        """Return the registry, read again if it lacks a name in the batches."""
        if not _has_all(self._registry, appends):
            self._registry = load_snapshot(connection)
        return self._registry

    def _firsts(self, connection: Connection) -> dict[tuple[int, int], int]:
        if self._first is None:
            rows = connection.execute(select(series.c.meter_no, series.c.record_type, series.c.first_quarter))
            self._first = {(row.meter_no, row.record_type): row.first_quarter for row in rows}
        return self._first


def _has_all(registry: RegistrySnapshot, appends: Sequence[Append]) -> bool:
    """Return whether the registry has all meters, senders and owners of some batches."""
    few = {m for a in appends for m in (*(e.meter_id for _, e in a.events), *(kept.meter for kept, _ in a.quarantined))}
    named = {name for append in appends for name in (append.sender, append.owner)}
    return (
        few <= registry.meters.keys()
        and named <= registry.controllers.keys()
        and all(registry.rows(append.blocks.meter) is not None for append in appends)
    )


class _Transaction:
    """One transaction in progress."""

    def __init__(self, connection: Connection, registry: RegistrySnapshot, first: dict[tuple[int, int], int]) -> None:
        self.new_firsts: dict[tuple[int, int], int] = {}
        self._connection = connection
        self._registry = registry
        self._first = first
        self._tallies: dict[str, CommittedCounts] = defaultdict(CommittedCounts)
        self._last_batch: dict[str, int] = {}

    def do(self, changes: Sequence[UtilityChange]) -> CommittedCounts:
        """Write every change; return the counts."""
        appends = _of(Append, changes)
        self._append_parts(appends)
        dead_letters = [(a.sender, kept) for a in appends for kept in a.dead_letters] + self._append_events(appends)
        dead_letters += [(change.sender, change.dead_letter) for change in _of(KeepDeadLetter, changes)]
        self._keep_dead_letters(dead_letters)
        self._quarantine(appends)
        count_differences(self._connection, [told for append in appends for told in append.told])
        self._see_gateways(_of(SawGateway, changes))
        for closing in _of(CloseCommand, changes):
            self._close_command(closing)
        write_plant(self._connection, changes)
        for append in appends:
            # Without good data of the microgrid that it names, a batch counts for its sender.
            named = append.owner if len(append.blocks) or append.events else append.sender
            self._tallies[named].batches += 1
            self._last_batch[named] = append.received
        return self._save_tallies()

    def _append_parts(self, appends: Sequence[Append]) -> None:
        some = [append for append in appends if len(append.blocks)]
        if not some:
            return
        sent = [(Parts(self._keys(append), append.payloads), self._origin(append)) for append in some]
        insert_batches(self._connection, sent)
        self._note_firsts({n: np.concatenate([parts.keys[n] for parts, _ in sent]) for n in sent[0][0].keys})
        for append in some:
            counts = self._tallies[append.owner]
            counts.blocks += len(append.blocks)
            counts.slots += int(np.count_nonzero(append.blocks.quality))
        keep_first(self._connection, self.new_firsts)

    def _keys(self, append: Append) -> dict[str, npt.NDArray[np.int64]]:
        return {
            "quarter": append.blocks.quarter.astype(np.int64),
            "meter_no": self._registry.numbers(append.blocks.meter),
            "record_type": append.blocks.record_type.astype(np.int64),
        }

    def _origin(self, append: Append) -> dict[str, int]:
        numbers = self._registry.controllers
        names = {"sender_no": numbers[append.sender], "owner_no": numbers[append.owner]}
        return names | {"received_minute": append.received // 60}

    def _note_firsts(self, columns: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """Record the quarters that are the earliest of their series so far."""
        places, which = np.unique(columns["meter_no"] << 8 | columns["record_type"], return_inverse=True)
        lowest = np.full(len(places), np.iinfo(np.int64).max)
        np.minimum.at(lowest, which, columns["quarter"])
        for joined, quarter in zip(places.tolist(), lowest.tolist(), strict=True):
            place = joined >> 8, joined & 0xFF
            if quarter < self._first.get(place, quarter + 1):
                self.new_firsts[place] = quarter

    def _append_events(self, appends: Sequence[Append]) -> list[tuple[str, DeadLetter]]:
        """Store new events; return a dead letter for each event that contradicts a stored one."""
        keys = {self._event_key(g, e) for append in appends for g, e in append.events}
        known = self._known_events(sorted(keys))
        new: list[dict[str, Any]] = []
        contradictions: list[tuple[str, DeadLetter]] = []
        for append in appends:
            for generation, record in append.events:
                key = self._event_key(generation, record)
                content = (record.previous_state, record.new_state, record.time)
                if key not in known:
                    known[key] = content
                    new.append(_event_row(key, content, append))
                    self._tallies[append.owner].events += 1
                elif known[key] != content:
                    apart = event_dead_letter(generation, record, LocalReason.EVENT_CONFLICT, append.received)
                    contradictions.append((append.sender, apart))
        if new:
            self._connection.execute(insert_or(self._connection, event).on_conflict_do_nothing(), new)
            self._look_again(new)
            received = max(append.received for append in appends) // QUARTER_S
            mark_events(self._connection, new, self._registry.controllers, received)
        return contradictions

    def _look_again(self, events: Sequence[dict[str, Any]]) -> None:
        """Make the gap finder search again in the quarters that it searched without these events."""
        # An event changes the meter's states from its time on: slots counted as off so far may be missing.
        # A meter's first event also changes the time before it, which counts as off or up by that event alone.
        earliest: dict[int, EpochSeconds] = {}
        for row in events:
            earliest[row["meter_no"]] = min(earliest.get(row["meter_no"], row["time"]), row["time"])
        first: dict[int, EpochSeconds] = {}
        for some in chunks(sorted(earliest)):
            first |= dict(self._connection.execute(_FIRST_EVENTS, {"numbers": some}).all())
        low = {no: 0 if time == first[no] else time // QUARTER_S for no, time in earliest.items()}
        self._connection.execute(_LOOK_AGAIN, [{"no": number, "low": quarter} for number, quarter in low.items()])

    def _event_key(self, generation: int, record: EventRecord) -> _EventKey:
        return self._registry.meters[record.meter_id].no, generation, signed64(record.record_id)

    def _known_events(self, keys: Sequence[_EventKey]) -> dict[_EventKey, tuple[int, int, int]]:
        known = {}
        for some in chunks(keys):
            for row in self._connection.execute(_EVENTS_OF, listed(some)).all():
                key = row.meter_no, row.generation, row.record_id
                if is_sound(event, row):
                    known[key] = row.previous_state, row.new_state, row.time
                else:
                    # The stored event is damaged; the same event has just arrived again and replaces it.
                    self._connection.execute(delete(event).where(tuple_(*event.primary_key) == key))
        return known

    def _keep_dead_letters(self, dead_letters: Sequence[tuple[str, DeadLetter]]) -> None:
        rows = defaultdict[tuple[str, bool], list[dict[str, object]]](list)
        for sender, kept in dead_letters:
            rows[sender, kept.reason == LocalReason.EVENT_CONFLICT].append(dead_letter_row(sender, kept))
        # RETURNING yields inserted rows only; not every driver reports a count of rows.
        statement = insert_or(self._connection, dead_letter).on_conflict_do_nothing().returning(dead_letter.c.no)
        for (sender, is_conflict), of_sender in rows.items():
            new = len(self._connection.execute(statement, of_sender).all())
            self._tallies[sender].dead_letters += new
            if is_conflict:
                self._tallies[sender].event_conflicts += new

    def _quarantine(self, appends: Sequence[Append]) -> None:
        """Store dead letters with quarantined readings; a dead letter sent again keeps its decision."""
        for append in appends:
            for kept, blocks in append.quarantined:
                row = insert_or(self._connection, dead_letter).values(dead_letter_row(append.sender, kept, QUARANTINED))
                number = self._connection.execute(row.on_conflict_do_nothing().returning(dead_letter.c.no)).scalar()
                if number is not None:
                    # Another controller's readings don't explain a missing slot.
                    if kept.reason != LocalReason.NOT_ASSIGNED and len(blocks):
                        note_slots(self._connection, number, self._registry.meters[kept.meter].no, blocks)
                    self._tallies[append.sender].dead_letters += 1
                    self._tallies[append.sender].quarantined += 1

    def _see_gateways(self, seen: Sequence[SawGateway]) -> None:
        rows = {
            s.controller: {
                "controller": s.controller,
                "time": s.time,
                "heartbeat": s.heartbeat.pack().decode(),
                "tuned": bool(s.heartbeat.tuned),
            }
            for s in seen
        }
        if rows:
            statement = upsert(self._connection, gateway_seen, "time", "heartbeat", "tuned")
            self._connection.execute(statement, list(rows.values()))
        declare_minima(self._connection, [(one.time, *minimum) for one in seen for minimum in one.minima])

    def _close_command(self, closing: CloseCommand) -> None:
        # The outcome of an upgrade follows the answer that it was begun.
        may_change = (command.c.state == "open") | (command.c.result == "partial") & (command.c.id.like("upgrade-%"))
        ours = (command.c.id == closing.id) & (command.c.controller == closing.controller) & may_change
        values = {"state": closing.state, "outcome": closing.outcome}
        values["result"] = json.loads(closing.outcome or "{}").get("result")
        statement = update(command).where(ours).values(values).returning(command.c.message, command.c.created)
        row = self._connection.execute(statement).one_or_none()
        if row is not None and closing.report is not None:
            report = {"command": closing.id, "controller": closing.controller, "text": closing.report}
            self._connection.execute(insert(controller_report).values(**report, time=row.created))
        absent = closing.absent
        if row is not None and closing.has_no_store:
            absent = tuple(_blocks_asked(row.message))
        if row is not None and absent:
            take(self._connection, Lock.GAPS)
            note_absent(self._connection, closing.controller, absent, "store" if closing.has_no_store else "said")

    def _save_tallies(self) -> CommittedCounts:
        total = CommittedCounts()
        rows = []
        for name, counts in self._tallies.items():
            total.add(counts)
            rows.append(
                {key: value for key, value in vars(counts).items() if key in tally.c}
                | {"controller": name, "last_batch": self._last_batch.get(name, 0)}
            )
        if rows:
            self._connection.execute(_add_tallies(self._connection.dialect.name), rows)
        return total


# Statements are made once: making one takes longer than executing it.

_EVENTS_OF = select(event).where(is_one_of((event.c.meter_no, event.c.generation, event.c.record_id)))

# A subquery for each meter reads one index entry; GROUP BY would read all entries of the meter.
_FIRST_EVENTS = select(
    meter.c.no, select(func.min(event.c.time)).where(event.c.meter_no == meter.c.no).scalar_subquery()
).where(meter.c.no.in_(bindparam("numbers", expanding=True)))
_LOW = bindparam("low", type_=Integer)
_LOOK_AGAIN = (
    series.update()
    .where((series.c.meter_no == bindparam("no")) & (series.c.scanned_until > _LOW))
    # The searched quarters stay one range.
    .values(scanned_until=case((series.c.scanned_from > _LOW, series.c.scanned_from), else_=_LOW))
)


@cache
def _add_tallies(dialect: str) -> Insert:
    """Return an insert that adds to the running counts; without a batch, the last batch's time stays."""
    statement = insert_in(dialect, tally)
    new = statement.excluded
    changed: dict[str, ColumnElement[int]] = {name: tally.c[name] + new[name] for name in vars(CommittedCounts())}
    changed["last_batch"] = case((new.last_batch > 0, new.last_batch), else_=tally.c.last_batch)
    return statement.on_conflict_do_update(index_elements=list(tally.primary_key), set_=changed)


def _of(kind: type[_C], changes: Sequence[UtilityChange]) -> list[_C]:
    return [change for change in changes if isinstance(change, kind)]


def _blocks_asked(message: str) -> Iterator[tuple[int, int, int, int]]:
    """Yield the blocks that a command to a controller asks for, of a microgrid that it may manage."""
    wrapped = ControllerCommand.model_validate_json(message).command
    for meter_id, record_type, quarter, mask in (wrapped.blocks if wrapped is not None else None) or ():
        yield meter_id, record_type, quarter, int(mask, 16)


def _event_row(key: _EventKey, content: tuple[int, int, int], append: Append) -> dict[str, Any]:
    names = ("meter_no", "generation", "record_id", "previous_state", "new_state", "time", "sender", "owner")
    row = dict(zip(names, (*key, *content, append.sender, append.owner), strict=True))
    return row | {"crc": row_crc(event, row)}
