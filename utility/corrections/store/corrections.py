"""Corrections: proposals, what people decide, every step of it, values in force, and pages of them (B4).

A correction's values are written once. Its state changes only together with a new row of ``correction_step``, which is
appended and never changed.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Row, and_, func, literal, select, true, tuple_

from commonwatt.codec.packing import pack, unpack_sound
from commonwatt.model.blocks import Blocks, Quality, flags_of, make_blocks
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.records import RecordType
from commonwatt.model.text import moment
from commonwatt.model.units import SLOTS, EpochSeconds, MeterId, Quarter, unsigned64
from utility.corrections.correction import IN_FORCE, STEPS, CorrectionState, Review, before, summaries
from utility.corrections.estimates import Method
from utility.corrections.tables import correction, correction_step
from utility.database.bulk import is_one_of, listed
from utility.database.database import count_rows, read_setting, save_setting
from utility.database.engines import Lock, take
from utility.energy.quarters import QUARTERS_A_DAY, Overlay, no_overlay
from utility.readings.flows import masks
from utility.readings.store.parts import MAX_IN, chunks
from utility.readings.store.reads import numbers_of
from utility.registry.tables import meter

MAX_AT_ONCE = 50_000  # most corrections that one command decides on
JOB = ""  # the person of a step of the utility's own job
SeriesKey = tuple[int, int, int]  # (number of the meter, record type, quarter)
# What the second of two people sees.
MEANWHILE = "another person changed some of these corrections meanwhile; nothing was done"
_TAKEN = "correction_step_taken"  # setting with the last step whose days ``take_changed`` returned

_FLOWS = [int(kind) for kind in RecordType if kind.is_flow]
_KEY = (correction.c.quarter, correction.c.meter_no, correction.c.record_type)


@dataclass(frozen=True, kw_only=True, eq=False)
class Corrections:
    """Corrections to store, one for each block and method."""

    blocks: Blocks  # the values; slots of quality ``MISSING`` are not corrected
    number: NDArray[np.int64]  # the meters' numbers in the database, (n)
    owner: NDArray[np.int64]  # the numbers of their microgrids' controllers, (n)
    method: NDArray[np.uint8]  # ``Method``, (n)

    def take(self, rows: NDArray[np.intp]) -> "Corrections":
        """Return the corrections at ``rows``, in that order."""
        return Corrections(
            blocks=self.blocks.take(rows), number=self.number[rows], owner=self.owner[rows], method=self.method[rows]
        )

    def by_quarters(self, most: int) -> Iterator["Corrections"]:
        """Yield them in parts of whole quarters, of about ``most`` each, the earliest first."""
        order = np.argsort(self.blocks.quarter, kind="stable")
        quarters = self.blocks.quarter[order]
        start = 0
        while start < len(order):
            end = int(np.searchsorted(quarters, quarters[min(start + most, len(order)) - 1], side="right"))
            yield self.take(order[start:end])
            start = end


@dataclass(frozen=True, kw_only=True)
class ChosenCorrections:
    """Which corrections are meant; ``None``: any."""

    meters: Collection[int] | None = None  # numbers of meters
    first: Quarter | None = None  # the first quarter
    until: Quarter | None = None  # the quarter after the last
    method: Method | None = None  # the method
    record_type: int | None = None  # the record type
    state: CorrectionState | None = None  # the state

    def condition(self) -> ColumnElement[bool]:
        """Return the condition on the table ``correction``."""
        c = correction.c
        return and_(
            true() if self.meters is None else c.meter_no.in_(sorted(self.meters)),
            true() if self.first is None else c.quarter >= self.first,
            true() if self.until is None else c.quarter < self.until,
            true() if self.method is None else c.method == int(self.method),
            true() if self.record_type is None else c.record_type == self.record_type,
            true() if self.state is None else c.state == self.state.value,
        )


def key_of(text: str) -> tuple[ChosenCorrections, int]:
    """Return which corrections a line's ``key`` names (``summaries``), and how many they were when it was made.

    Raises:
        ConfigError: The text is none.
    """
    if not re.fullmatch(r"(\d{1,9}\.){3}[a-z]+(\.\d{1,9}){3}", text, re.ASCII):
        raise ConfigError("the key names no corrections")
    number, kind, method, state, first, until, count = text.split(".")
    if int(method) not in list(Method) or state not in list(CorrectionState):
        raise ConfigError("the key names no corrections")
    chosen = ChosenCorrections(
        meters=[int(number)],
        first=int(first),
        until=int(until),
        method=Method(int(method)),
        record_type=int(kind),
        state=CorrectionState(state),
    )
    return chosen, int(count)


@dataclass(frozen=True, kw_only=True)
class StepBy:
    """The person who takes a step, the time and the reason."""

    person: str  # the person; ``JOB``: the utility's job
    time: EpochSeconds  # the time
    why: str = ""  # the reason, at most 200 characters


def add(connection: Connection, new: Corrections, state: CorrectionState, by: StepBy) -> list[int]:
    """Store corrections in a first state; return their numbers."""
    take(connection, Lock.STEPS)
    versions = _versions(connection, new)
    energies = np.where(new.blocks.quality > 0, new.blocks.values, 0).sum(axis=1)
    slots = masks(new.blocks).tolist()
    values = []
    rows = zip(new.blocks.keys(), new.number.tolist(), pack(new.blocks), strict=True)
    for row, ((_, record_type, quarter), number, payload) in enumerate(rows):
        key = quarter, number, record_type
        versions[key] = versions.get(key, 0) + 1
        values.append(
            {
                "quarter": quarter,
                "meter_no": number,
                "record_type": record_type,
                "version": versions[key],
                "owner_no": int(new.owner[row]),
                "method": int(new.method[row]),
                "mask": slots[row],
                "energy": int(energies[row]) if record_type in _FLOWS else 0,
                "state": state.value,
                "payload": payload,
            }
        )
    if not values:
        return []
    made = correction.insert().returning(correction.c.no, sort_by_parameter_order=True)
    numbers = [int(no) for no in connection.execute(made, values).scalars()]
    _record(connection, [(no, "", state) for no in numbers], by)
    return numbers


def propose(connection: Connection, new: Corrections, now: EpochSeconds) -> int:
    """Propose estimates for slots that have no correction yet, whatever its state; return how many blocks are new."""
    taken = covered(
        connection,
        list(zip(new.blocks.quarter.tolist(), new.number.tolist(), new.blocks.record_type.tolist(), strict=True)),
    )
    quality = new.blocks.quality.copy()
    for row, (_, record_type, quarter) in enumerate(new.blocks.keys()):
        quality[row, flags_of(taken.get((quarter, int(new.number[row]), record_type), 0))] = Quality.MISSING
    rows = np.flatnonzero((quality > 0).any(axis=1))
    if not len(rows):
        return 0
    blocks = make_blocks(new.blocks.keys(), new.blocks.values, quality)
    left = replace(new, blocks=blocks).take(rows)
    return len(add(connection, left, CorrectionState.PROPOSED, StepBy(person=JOB, time=now)))


def covered(connection: Connection, keys: Sequence[tuple[int, int, int]]) -> dict[tuple[int, int, int], int]:
    """Return the mask of the slots with a correction in any state, of blocks (quarter, meter's number, record type)."""
    found: dict[tuple[int, int, int], int] = {}
    statement = select(*_KEY, correction.c.mask).where(is_one_of(_KEY))
    for some in chunks(keys):
        for row in connection.execute(statement, listed(some)):
            key = row.quarter, row.meter_no, row.record_type
            found[key] = found.get(key, 0) | row.mask
    return found


def decide(connection: Connection, chosen: ChosenCorrections, action: Review, by: StepBy) -> list[Row[Any]]:
    """Take a step with every chosen correction that is in a state for it; return them as they were.

    Raises:
        ConfigError: None is, or more than ``MAX_AT_ONCE`` are; nothing was changed.
    """
    take(connection, Lock.STEPS)
    states = sorted(before(action))
    rows = found(connection, chosen, states, MAX_AT_ONCE + 1)
    if not rows:
        others = found(connection, replace(chosen, state=None), list(CorrectionState), MAX_AT_ONCE)
        there = f"those chosen are {_decided(connection, others)}" if others else "none was chosen"
        raise ConfigError(f"nothing to {action}: {there}; {action} needs {' or '.join(states)}")
    if len(rows) > MAX_AT_ONCE:
        raise ConfigError(f"more than {MAX_AT_ONCE} corrections; choose fewer, by meter and time")
    _change(connection, rows, action)
    _record(connection, [(row.no, row.state, STEPS[CorrectionState(row.state), action]) for row in rows], by)
    return rows


def _decided(connection: Connection, rows: Sequence[Row[Any]]) -> str:
    """Return the states of some corrections in words, with the person of the last step."""
    last = steps_of(connection, [row.no for row in rows])[-1]
    by = f", by {last.person}, {moment(last.time)}" if last.person else ""
    return ", ".join(sorted({row.state for row in rows})) + by


def _change(connection: Connection, rows: Sequence[Row[Any]], action: Review) -> None:
    c = correction.c
    for state in {row.state for row in rows}:
        for some in chunks([row.no for row in rows if row.state == state]):
            ours = correction.update().where(c.no.in_(some), c.state == state)
            if connection.execute(ours.values(state=STEPS[CorrectionState(state), action].value)).rowcount != len(some):
                raise ConfigError(f"{MEANWHILE}, try again")


def found(
    connection: Connection,
    chosen: ChosenCorrections,
    states: Sequence[str],
    limit: int | None,
    after: SeriesKey | None = None,
) -> list[Row[Any]]:
    """Return corrections with their meter's id and microgrid, by meter, record type and time.

    Args:
        states: In one of these states.
        limit: At most so many; ``None``: all.
        after: Only those after this block.
    """
    c = correction.c
    statement = (
        select(correction, meter.c.id.label("meter_id"), meter.c.label, meter.c.microgrid)
        .join(meter, meter.c.no == c.meter_no)
        .where(chosen.condition(), c.state.in_([str(state) for state in states]))
        .order_by(c.meter_no, c.record_type, c.quarter, c.version)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(tuple_(c.meter_no, c.record_type, c.quarter) > tuple_(*map(literal, after)))
    return list(connection.execute(statement).all())


def blocks_of(rows: Sequence[Row[Any]]) -> Blocks:
    """Return the values of corrections, from ``found``.

    Raises:
        StoreError: One is damaged.
    """
    keys = [(unsigned64(row.meter_id), row.record_type, row.quarter) for row in rows]
    blocks, damaged = unpack_sound(keys, [row.payload for row in rows])
    if damaged:
        numbers = ", ".join(str(rows[at].no) for at in damaged[:5])
        raise StoreError(f"correction {numbers} is damaged; revert it and enter it again")
    return blocks


def overlay(connection: Connection, meters: Collection[MeterId] | None, first: Quarter, until: Quarter) -> Overlay:
    """Return the corrections in force in the quarters from ``first`` to before ``until``.

    Of several for a slot a person's value counts before an estimate, then the later one.

    Args:
        meters: The meters' ids; ``None``: all.

    Raises:
        StoreError: A correction is damaged.
    """
    numbers = None
    if meters is not None and len(meters) <= MAX_IN:
        numbers = numbers_of(connection, list(meters)).values()
    rows = found(connection, ChosenCorrections(meters=numbers, first=first, until=until), sorted(IN_FORCE), None)
    if meters is not None and numbers is None:
        wanted = set(meters)
        rows = [row for row in rows if unsigned64(row.meter_id) in wanted]
    if not rows:
        return no_overlay()
    return joined(rows)


def joined(rows: Sequence[Row[Any]]) -> Overlay:
    """Return one value for each slot of some corrections, from ``found``, as if all were in force.

    Raises:
        StoreError: One is damaged.
    """
    blocks = blocks_of(rows)
    edited = np.array([row.state == CorrectionState.EDITED for row in rows])
    method = np.array([row.method for row in rows], np.uint8)
    order = np.lexsort(([row.no for row in rows], edited))
    keys = sorted(set(blocks.keys()))
    place = {key: at for at, key in enumerate(keys)}
    values = np.zeros((len(keys), SLOTS), np.int64)
    methods = np.zeros((len(keys), SLOTS), np.uint8)
    by_person = np.zeros((len(keys), SLOTS), np.bool_)
    for row in order.tolist():
        at, slots = place[blocks.key(row)], blocks.quality[row] > 0
        values[at, slots] = blocks.values[row, slots]
        methods[at, slots] = method[row]
        by_person[at, slots] = edited[row]
    quality = np.where(methods > 0, np.uint8(Quality.EXACT), np.uint8(Quality.MISSING))
    return Overlay(blocks=make_blocks(keys, values, quality), method=methods, edited=by_person)


def steps_of(connection: Connection, numbers: Sequence[int]) -> list[Row[Any]]:
    """Return every step of some corrections, oldest first."""
    c = correction_step.c
    return [
        row
        for some in chunks(sorted(numbers))
        for row in connection.execute(select(correction_step).where(c.correction_no.in_(some)).order_by(c.no))
    ]


def newest_step(connection: Connection) -> int:
    """Return the number of the newest step, 0 without one: the version of the overlay that a bill names."""
    return int(connection.execute(select(func.max(correction_step.c.no))).scalar() or 0)


def take_changed(connection: Connection) -> set[tuple[int, int]]:
    """Return (UTC day, number of the microgrid's controller) whose values in force changed since the last call.

    Settlement marks them as due in the same transaction: then none is lost, and none is marked twice. A day is epoch
    seconds // 86,400; after a change of a day's last level the next day is due as well.
    """
    take(connection, Lock.STEPS)
    c, s = correction.c, correction_step.c
    forces = sorted(str(state) for state in IN_FORCE)
    last, newest = int(read_setting(connection, _TAKEN) or 0), newest_step(connection)
    statement = (
        select(c.quarter, c.owner_no)
        .join(correction_step, s.correction_no == c.no)
        .where(s.no > last, s.no <= newest, s.state_before.in_(forces) != s.state_after.in_(forces))
        .distinct()
    )
    changed = connection.execute(statement).all()
    if newest > last:
        save_setting(connection, _TAKEN, str(newest))
    return {((row.quarter + later) // QUARTERS_A_DAY, row.owner_no) for row in changed for later in (0, 1)}


def count_proposed(connection: Connection) -> int:
    """Return how many corrections wait for a person."""
    return count_rows(connection, correction, correction.c.state == CorrectionState.PROPOSED.value)


def _versions(connection: Connection, new: Corrections) -> dict[tuple[int, int, int], int]:
    """Return the highest version of each block that has one, by (quarter, meter's number, record type)."""
    keys = zip(new.blocks.quarter.tolist(), new.number.tolist(), new.blocks.record_type.tolist(), strict=True)
    statement = select(*_KEY, func.max(correction.c.version).label("version")).where(is_one_of(_KEY)).group_by(*_KEY)
    return {
        (row.quarter, row.meter_no, row.record_type): row.version
        for some in chunks(list(keys))
        for row in connection.execute(statement, listed(some))
    }


def _record(connection: Connection, steps: Sequence[tuple[int, str, CorrectionState]], by: StepBy) -> None:
    take(connection, Lock.STEPS)
    rows = [
        {
            "correction_no": no,
            "time": by.time,
            "person": by.person,
            "state_before": state_before,
            "state_after": after.value,
            "why": by.why,
        }
        for no, state_before, after in steps
    ]
    if rows:
        connection.execute(correction_step.insert(), rows)


MAX_BLOCKS = 2_000  # most quarter-hours that one page reads; more of them are on the next


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some rows of a list."""

    rows: list[Any]  # the rows
    after: str  # the last block of the page, to ask for the next one; empty: there is none


def corrections_page(
    connection: Connection, chosen: ChosenCorrections, states: Sequence[str], limit: int, after: str = ""
) -> Page:
    """Return lines of corrections, by meter and time.

    Args:
        limit: At most so many lines, or those of one quarter-hour; a long line may go on on the next page.
        after: As ``Page.after`` of the page before.
    """
    rows = found(connection, chosen, states, MAX_BLOCKS + 1, block_of(after) if after else None)
    lines = summaries(rows)
    following = rows[-1] if len(rows) > MAX_BLOCKS else None
    if len(lines) > limit:
        following = next(row for row in rows if row.no == lines[limit].numbers[0])
    if following is None:
        return Page(rows=lines, after="")
    # A quarter-hour with two methods stays on one page, also where they are more lines than asked for.
    last = max((key for key in map(series_of, rows) if key < series_of(following)), default=series_of(rows[0]))
    kept = [row for row in rows if series_of(row) <= last]
    return Page(rows=summaries(kept), after=".".join(map(str, last)) if len(kept) < len(rows) else "")


def series_of(row: Any) -> SeriesKey:
    """Return the block of a row."""
    return row.meter_no, row.record_type, row.quarter


def block_of(after: str) -> SeriesKey:
    """Return the block that ``Page.after`` names.

    Raises:
        ConfigError: The text names none.
    """
    parts = after.split(".")
    if len(parts) != 3 or not all(part.isdecimal() and part.isascii() and len(part) <= 9 for part in parts):
        raise ConfigError(f"after: {after:.40}: names no place of the list")
    number, kind, quarter = map(int, parts)
    return number, kind, quarter
