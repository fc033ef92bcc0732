"""Corrections: estimates approved or refused, values entered, decisions taken back, findings closed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from commonwatt.model.blocks import Quality, make_blocks
from commonwatt.model.calendar import parse_time
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, EpochSeconds, MilliwattHours, parse_id
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.corrections.checked_days import members_in
from utility.corrections.correction import CorrectionState, Line, Review, before, edited, energy_of, quarters_of
from utility.corrections.estimates import Method
from utility.corrections.jobs import rules_of
from utility.corrections.store import checking
from utility.corrections.store.corrections import MEANWHILE, ChosenCorrections, Corrections, StepBy, add, decide, joined
from utility.corrections.store.estimating import Estimator, member_at
from utility.database.base import Connection
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.readings.store import reads
from utility.readings.store.quarantine import MAX_WHY
from utility.webkit.requests import RequestBody, Why

MAX_CHOSEN = 200  # most lines of a list that one step decides on
_MARGIN = 8  # quarter-hours that a plot shows before and after a correction


def decide_chosen(
    database: Database, chosen: ChosenCorrections, action: Review, actor: Actor, why: str, now: EpochSeconds
) -> list[Any]:
    """Take a step with every chosen correction that is in a state for it; return them as they were."""
    by = _by(actor, why, now)
    with database.writes.begin() as connection:
        rows = decide(connection, chosen, action, by)
        _record(connection, actor, now, action, rows, why)
    return rows


def decide_lines(
    database: Database,
    lines: Sequence[tuple[ChosenCorrections, int]],
    action: Review,
    actor: Actor,
    why: str,
    now: EpochSeconds,
) -> list[Any]:
    """Take a step with the corrections of some lines of a list, all or none; return them as they were."""
    by = _by(actor, why, now)
    if not 0 < len(lines) <= MAX_CHOSEN:
        raise ConfigError(f"choose 1 to {MAX_CHOSEN} lines, not {len(lines)}")
    rows: list[Any] = []
    with database.writes.begin() as connection:
        for chosen, count in lines:
            if chosen.state not in before(action):
                raise ConfigError(
                    f"nothing to {action}: the line is of {chosen.state} corrections; look at the list again"
                )
            found = decide(connection, chosen, action, by)
            if len(found) != count:
                raise ConfigError(f"{MEANWHILE}; look at the list again")
            rows += found
        _record(connection, actor, now, action, rows, why)
    return rows


class Edit(RequestBody):
    """A person's value for a period."""

    meter: str = Field(max_length=20)
    type: str = Field("through", max_length=20)
    start: str = Field(max_length=40, description="The first moment.")
    until: str = Field(max_length=40, description="The moment after the last.")
    energy_kwh: str | None = Field(None, max_length=20, description="Kilowatt-hours; absent: the energy of like days.")
    why: Why


def edit(database: Database, of: Edit, actor: Actor, now: EpochSeconds) -> tuple[range, MilliwattHours]:
    """Enter the energy of a period, in place of readings and estimates; return its quarters and its energy."""
    by = _by(actor, of.why, now)
    if not of.why.strip():
        raise ConfigError("why: give the reason")
    span, new = _edit(database, of, now)
    total = int(new.blocks.values.sum())
    with database.writes.begin() as connection:
        add(connection, new, CorrectionState.EDITED, by)
        words = {"type": of.type, "from": of.start, "to": of.until, "mwh": total, "why": of.why}
        record(connection, actor, now, "correction.edit", f"meter {of.meter}", None, words)
    return span, total


def close_findings(database: Database, numbers: Sequence[int], actor: Actor, why: str, now: EpochSeconds) -> int:
    """Close open findings of the daily checks, all or none; return how many.

    Raises:
        ConfigError: The reason is too long, or one is not open.
    """
    by = _by(actor, why, now)
    if not numbers:
        raise ConfigError("choose a finding")
    with database.writes.begin() as connection:
        closed = checking.close(connection, numbers, by.person, why, by.time)
        if missing := sorted(set(numbers) - set(closed)):
            raise ConfigError(f"finding {missing[0]} is not open; nothing was closed")
        for number in closed:
            words = {"state": "closed", "why": why}
            record(connection, actor, now, "finding.close", f"finding {number}", {"state": "open"}, words)
    return len(closed)


def meter_number(connection: Connection, text: str) -> int:
    """Return the number of the meter that a person names.

    Raises:
        ConfigError: There is none.
    """
    meter_id = parse_id(text)
    number = None if meter_id is None else reads.meter_number(connection, meter_id)
    if number is None:
        raise ConfigError(f"meter {text:.30}: no such meter is registered", "see: commonwatt show accounts")
    return number


def chosen_of(
    connection: Connection, meter: Sequence[str] | None, start: str | None, end: str | None, method: str | None
) -> ChosenCorrections:
    """Return the corrections that a person names; ``None``: any.

    Args:
        start: The first moment, a quarter-hour.
        end: The moment after the last.
        method: The words of a method.
    """
    zone = zone_of(connection)
    first = None if start is None else parse_time(start, "start", zone)
    until = None if end is None else parse_time(end, "until", zone)
    if first is not None and until is not None and first >= until:
        raise ConfigError("start must be before until")
    for name, time in (("start", first), ("until", until)):
        if time is not None and time % QUARTER_S:
            raise ConfigError(f"{name} must be a quarter-hour, a multiple of {QUARTER_S} s")
    return ChosenCorrections(
        meters=None if not meter else [meter_number(connection, each) for each in meter],
        first=None if first is None else first // QUARTER_S,
        until=None if until is None else until // QUARTER_S,
        method=None if method is None else _method(method),
    )


def _method(text: str) -> Method:
    for method in Method:
        if method.words == text:
            return method
    raise ConfigError(f"method {text:.30}: is none of {', '.join(method.words for method in Method)}")


def lines_around(database: Database, rows: Sequence[Any]) -> tuple[int, dict[str, Line]]:
    """Return the first quarter around some corrections of one series, and readings, corrections and like days from it.

    Args:
        rows: The corrections, from ``utility.corrections.store.corrections.found``.
    """
    number, kind = rows[0].meter_no, rows[0].record_type
    first, until = rows[0].quarter - _MARGIN, rows[-1].quarter + _MARGIN + 1
    count = until - first
    with database.reads.begin() as connection:
        members, _ = member_at(connection, number)
        zone = zone_of(connection)
    blocks = reads.readings(database, number, kind, first, until - 1)
    sent, values = np.zeros(count, np.int64), np.zeros(count, np.int64)
    there, corrected = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    places = blocks.quarter.astype(np.int64) - first
    there[places] = (blocks.quality > 0).all(axis=1)
    sent[places] = blocks.values.sum(axis=1) if RecordType(kind).is_flow else blocks.values[:, -1]
    made = joined(
        [
            row
            for row in rows
            if row.state in (CorrectionState.PROPOSED, CorrectionState.APPROVED, CorrectionState.EDITED)
        ]
    ).blocks
    places = made.quarter.astype(np.int64) - first
    values[places] = made.values.sum(axis=1) if RecordType(kind).is_flow else made.values[:, -1]
    corrected[places] = True
    like = Estimator(database, rules_of(zone)).like_days(members, (number, kind), (first, until))
    return first, {"readings": (sent, there), "corrections": (values, corrected), "like days": like}


def _by(actor: Actor, why: str, now: EpochSeconds) -> StepBy:
    if len(why) > MAX_WHY:
        raise ConfigError(f"why may have {MAX_WHY} characters")
    return StepBy(person=actor.name, time=now, why=why)


def _record(
    connection: Connection, actor: Actor, now: EpochSeconds, action: Review, rows: Sequence[Any], why: str
) -> None:
    """Record a decision once; every correction has its own row of steps."""
    meters = sorted({row.label for row in rows})
    subject = f"meter {meters[0]}" if len(meters) == 1 else f"{len(meters)} meters"
    before = {"states": sorted({row.state for row in rows})}
    numbers = [row.no for row in rows]
    words = {"corrections": len(rows), "from": min(numbers), "to": max(numbers), "why": why}
    record(connection, actor, now, f"correction.{action}", subject, before, words)


def _type(text: str) -> RecordType:
    flows = {kind.name.lower(): kind for kind in RecordType if kind.is_flow}
    if text not in flows:
        raise ConfigError(f"type {text:.30}: is none of {', '.join(sorted(flows))}; a level can't be edited")
    return flows[text]


def _edit(database: Database, of: Edit, now: EpochSeconds) -> tuple[range, Corrections]:
    """Return the quarters of an edit, and what to store."""
    kind = _type(of.type)
    with database.reads.begin() as connection:
        number, zone = meter_number(connection, of.meter), zone_of(connection)
        start, end = parse_time(of.start, "start", zone), parse_time(of.until, "until", zone)
        members, owner = member_at(connection, number)
    if end > now:
        raise ConfigError("until is in the future; only what is past can be edited")
    span = quarters_of(start, end)
    member = next(one for one in members if one.no == number)
    if member not in members_in(members, *span):
        raise ConfigError(f"meter {of.meter}: was not in its place then; enter the value of the meter that was")
    if kind not in member.record_types:
        raise ConfigError(f"type {of.type}: meter {of.meter} does not measure it")
    shape = Estimator(database, rules_of(zone)).like_days(members, (number, int(kind)), span)
    energy = None if of.energy_kwh is None else energy_of(of.energy_kwh)
    values, slots = edited(start, end, energy, *shape)
    most, limit = int(values.max()), member.limits[int(kind)]
    if most > limit:
        raise ConfigError(
            f"energy_kwh {of.energy_kwh}: is {most} mWh in a slot of 15 s, more than its service carries, {limit}"
        )
    keys = [(member.id, int(kind), quarter) for quarter in range(*span)]
    blocks = make_blocks(keys, values, np.where(slots, np.uint8(Quality.EXACT), np.uint8(0)))
    count = len(keys)
    new = Corrections(
        blocks=blocks,
        number=np.full(count, number),
        owner=np.full(count, owner),
        method=np.full(count, Method.EDIT, np.uint8),
    )
    return range(*span), new
