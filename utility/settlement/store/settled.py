"""Settled days: versions of each meter's day, appended and never changed; which are final; their residuals."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from itertools import groupby, islice, pairwise
from typing import Any

import numpy as np
from pydantic import BaseModel, Field
from sqlalchemy import Connection, func, select

from commonwatt.model.text import counted, moment
from commonwatt.model.units import EpochSeconds, MeterId, Quarter, signed64, unsigned64
from utility.database.bulk import insert_columns
from utility.database.database import upsert
from utility.database.engines import Lock, take
from utility.database.numbers import Column
from utility.energy.quarters import QUARTERS_A_DAY, Quantity, SettledQuarters
from utility.jobs.plans import Why
from utility.jobs.store import mark, unmark
from utility.jobs.tables import settled_day, settlement_due, usage_due
from utility.readings.store.parts import chunks
from utility.readings.store.reads import numbers_of
from utility.registry.layout import Day
from utility.registry.tables import controller, meter
from utility.settlement.day import SettledDay
from utility.settlement.packed import MeterDays, content_of, contents, days_of, packed, unpacked
from utility.settlement.residual import DayResidual, SlotStretch
from utility.settlement.store.readings import DueDay, Owner
from utility.settlement.tables import settled

_STRAY_DAYS = 31  # a settled day that is so long before all others is no beginning
_AT_A_TIME = 250  # meters' days unpacked at once, to bound the memory


def newest(connection: Connection) -> int:
    """Return the number of the newest row of ``settled``; 0: there is none. A run of bills pins it."""
    return int(connection.execute(select(func.max(settled.c.no))).scalar() or 0)


def load_settled(
    connection: Connection,
    meters: Collection[MeterId] | None,
    first: Quarter,
    until: Quarter,
    as_of: int | None = None,
) -> SettledQuarters:
    """Return the newest version of each meter's settled quarters.

    Args:
        meters: The meters; ``None``: all that have a settled day.
        until: The quarter after the last.
        as_of: The newest row that counts, from ``newest``; ``None``: every row.

    Raises:
        StoreError: A row is damaged.
    """
    days = range(first // QUARTERS_A_DAY, (until - 1) // QUARTERS_A_DAY + 1)
    rows: dict[tuple[MeterId, Day], tuple[int, bytes]] = {}
    for row in _rows(connection, meters, days, as_of):
        rows[unsigned64(row.id), row.day] = row.version, row.payload
    ids = sorted({key[0] for key in rows} if meters is None else set(meters))
    at = {meter_id: n for n, meter_id in enumerate(ids)}
    shape = len(ids), len(days) * QUARTERS_A_DAY
    energies = {quantity: np.zeros(shape, np.int64) for quantity in Quantity}
    quality, version = np.zeros(shape, np.uint8), np.zeros(shape, np.int32)
    for some in chunks(list(rows), _AT_A_TIME):
        part = days_of(unpacked(some, [rows[key][1] for key in some]))
        place = np.array([at[key[0]] for key in some]), np.array([key[1] - days.start for key in some])
        for quantity in Quantity:
            # Most meters have two of four: zeros that are not written take no memory.
            has = part.has[quantity]
            _by_day(energies[quantity])[place[0][has], place[1][has]] = part.energies[quantity][has]
        _by_day(quality)[place] = part.quality
        _by_day(version)[place] = np.array([rows[key][0] for key in some])[:, None]
    columns = slice(first - days.start * QUARTERS_A_DAY, until - days.start * QUARTERS_A_DAY)
    return SettledQuarters(
        meters=np.array(ids, np.uint64),
        first=first,
        energies={quantity: values[:, columns] for quantity, values in energies.items()},
        quality=quality[:, columns],
        provisional=_provisional(connection, ids, days)[:, columns],
        version=version[:, columns],
    )


def settled_of_day(connection: Connection, day: Day) -> Iterator[tuple[list[MeterId], MeterDays]]:
    """Yield the newest version of a day of all meters, in parts, to bound the memory.

    Raises:
        StoreError: A row is damaged.
    """
    c = settled.c
    statement = select(meter.c.id, c.payload).join(meter, meter.c.no == c.meter_no).where(c.day == day)
    rows = connection.execute(statement.order_by(c.meter_no, c.version), execution_options={"yield_per": _AT_A_TIME})
    # Of a meter's versions the last one.
    newest = (list(versions)[-1] for _, versions in groupby(rows, key=lambda row: row.id))
    while some := list(islice(newest, _AT_A_TIME)):
        meters = [unsigned64(row.id) for row in some]
        yield meters, days_of(unpacked([(meter_id, day) for meter_id in meters], [row.payload for row in some]))


def _by_day(values: np.ndarray) -> np.ndarray:
    """Return the same values as (meters, days, quarters)."""
    return values.reshape(len(values), -1, QUARTERS_A_DAY)


def conventions(connection: Connection, day: Day) -> dict[int, str]:
    """Return the convention by which each microgrid's day was settled, by number; a day keeps its convention."""
    c = settled_day.c
    return {row.owner_no: row.convention for row in connection.execute(select(settled_day).where(c.day == day))}


def save(
    connection: Connection,
    result: SettledDay,
    owners: Sequence[Owner],
    due: Sequence[DueDay],
    convention: str,
    now: EpochSeconds,
    *,
    is_over: bool,
) -> int:
    """Store the settled day of some microgrids; return how many meters' days got a new version: their content is new.

    Args:
        connection: In a transaction; it also deletes the marks.
        owners: Microgrids of it.
        due: Their marks.
        convention: The convention by which it was settled.
        is_over: Whether the deadline for the day's readings has passed.
    """
    take(connection, Lock.SETTLED)
    reasons = {d.owner_no: d.why for d in due}
    new = _save_versions(connection, result, owners, reasons, now)
    rows = []
    for owner in owners:
        missing = result.missing[owner.microgrid]
        row = {"day": result.day, "owner_no": owner.number, "convention": convention, "computed": now}
        residual = json.dumps(asdict(result.residuals[owner.microgrid]))
        rows.append(row | {"missing": missing, "final": is_over or not missing, "residual": residual})
    changed = ("convention", "computed", "missing", "final", "residual")
    if rows:
        connection.execute(upsert(connection, settled_day, *changed), rows)
    unmark(connection, settlement_due, due)
    mark(connection, usage_due, [(result.day, owner.number) for owner in owners])
    return new


def provisional_days(connection: Connection) -> list[Day]:
    """Return the days of which a microgrid is not final."""
    c = settled_day.c
    return list(connection.execute(select(c.day).where(~c.final).distinct().order_by(c.day)).scalars())


def finish_day(connection: Connection, day: Day) -> None:
    """Make a day final whose deadline has passed."""
    c = settled_day.c
    connection.execute(settled_day.update().where(c.day == day, ~c.final).values(final=True))


def _save_versions(
    connection: Connection, result: SettledDay, owners: Iterable[Owner], reasons: Mapping[int, Why], now: EpochSeconds
) -> int:
    why_of = {meter.id: reasons.get(owner.number, Why.PERSON) for owner in owners for meter in owner.meters}
    has = np.logical_or.reduce(list(result.has.values()))
    rows = [row for row in np.flatnonzero(has).tolist() if int(result.meters[row]) in why_of]
    ids = [int(result.meters[row]) for row in rows]
    gone = sorted(why_of.keys() - set(result.meters.tolist()))
    before: dict[MeterId, tuple[int, bytes]] = {}
    for row in _rows(connection, [*ids, *gone], range(result.day, result.day + 1), None):
        before[unsigned64(row.id)] = row.version, row.payload
    # A meter that was there when the day was settled before, and by its present dates was not, settled nothing.
    gone = [meter_id for meter_id in gone if meter_id in before]
    ids += gone
    if not ids:
        return 0
    new = contents(_with_empty(result, rows, len(gone)))
    numbers = numbers_of(connection, ids)
    # A damaged version is not like the new one, which takes its place.
    kept = {meter_id: content_of((meter_id, result.day), payload) for meter_id, (_, payload) in before.items()}
    changed = [n for n, meter_id in enumerate(ids) if kept.get(meter_id) != new[n]]
    versions = [before[ids[n]][0] + 1 if ids[n] in before else 1 for n in changed]
    columns = {
        "day": [result.day] * len(changed),
        "meter_no": [numbers[ids[n]] for n in changed],
        "computed_minute": [now // 60] * len(changed),
        "version": versions,
        "why": [int(why_of[ids[n]]) if v > 1 else int(Why.FIRST) for n, v in zip(changed, versions, strict=True)],
    }
    payloads = packed([(ids[n], result.day) for n in changed], [new[n] for n in changed])
    arrays = {name: Column(np.array(values, np.int64)) for name, values in columns.items()}
    insert_columns(connection, settled, arrays, payloads)
    return len(changed)


def _with_empty(result: SettledDay, rows: Sequence[int], more: int) -> MeterDays:
    """Return some rows of a settled day, and then rows of meters that have nothing of it."""
    return MeterDays(
        energies={q: np.pad(values[rows], ((0, more), (0, 0))) for q, values in result.energies.items()},
        has={q: np.pad(flags[rows], (0, more)) for q, flags in result.has.items()},
        quality=np.pad(result.quality[rows], ((0, more), (0, 0))),
    )


def _rows(connection: Connection, meters: Collection[MeterId] | None, days: range, as_of: int | None) -> Iterator[Any]:
    """Yield (meter's signed id, day, version, payload); of a meter's day the newest last."""
    c = settled.c
    statement = select(meter.c.id, c.day, c.version, c.payload).join(meter, meter.c.no == c.meter_no).order_by(c.no)
    if as_of is not None:
        statement = statement.where(c.no <= as_of)
    if meters is None:
        yield from connection.execute(statement.where(c.day.between(days.start, days.stop - 1)))
        return
    # A list of days in place of their range: the index begins with the day, so each meter's day is a lookup.
    for numbers in chunks(sorted(numbers_of(connection, sorted(meters)).values())):
        for some in chunks(days):
            yield from connection.execute(statement.where(c.day.in_(some), c.meter_no.in_(numbers)))


def _provisional(
    connection: Connection, ids: Sequence[MeterId], days: range
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    owner_of: dict[MeterId, int] = {}
    for some in chunks(ids):
        owners = select(meter.c.id, controller.c.number).join(controller, controller.c.id == meter.c.microgrid)
        rows = connection.execute(owners.where(meter.c.id.in_([signed64(i) for i in some])))
        owner_of |= {unsigned64(row.id): row.number for row in rows}
    settled_of = _unchanging(connection, sorted(set(owner_of.values())), days)
    provisional = np.ones((len(ids), len(days)), np.bool_)
    for n, meter_id in enumerate(ids):
        for day in settled_of.get(owner_of.get(meter_id, -1), ()):
            provisional[n, day - days.start] = False
    return np.repeat(provisional, QUARTERS_A_DAY, axis=1)


def _unchanging(connection: Connection, owners: Sequence[int], days: range) -> dict[int, set[Day]]:
    """Return the days of each microgrid that no late reading changes: final ones, and those before its first one."""
    c, due = settled_day.c, settlement_due.c
    final: dict[int, dict[Day, bool]] = {}
    for numbers in chunks(owners):
        for some_days in chunks(days):
            wanted = select(c.owner_no, c.day, c.final).where(c.day.in_(some_days), c.owner_no.in_(numbers))
            for owner, day, is_final in connection.execute(wanted):
                final.setdefault(owner, {})[day] = is_final
    unchanging = {owner: {day for day, is_final in flags.items() if is_final} for owner, flags in final.items()}
    for numbers in chunks([owner for owner in owners if days.start not in final.get(owner, ())]):
        # A single day of long ago is of readings with a wrong clock, and no beginning.
        before = c.owner_no.in_(numbers) & c.day.in_(range(days.start - _STRAY_DAYS, days.start))
        begun = set(connection.execute(select(c.owner_no).where(before)).scalars())
        # The search of all later days ends with the last microgrid that is found.
        unseen = [owner for owner in numbers if owner not in final]
        later = select(c.owner_no).where(c.owner_no.in_(unseen), c.day >= days.stop).distinct().limit(len(unseen))
        firsts = {owner: min(final[owner]) for owner in numbers if owner in final}
        firsts |= dict.fromkeys(connection.execute(later).scalars() if unseen else (), days.stop)
        for owner in firsts.keys() - begun:
            unchanging.setdefault(owner, set()).update(range(days.start, firsts[owner]))
        marked = due.day.between(days.start, days.stop - 1)
        for owner, day in connection.execute(select(due.owner_no, due.day).where(due.owner_no.in_(numbers), marked)):
            unchanging.get(owner, set()).discard(day)
    return unchanging


RESIDUAL_DAYS = 31  # days back over which the residual is cumulated for the alarm


class Residual(BaseModel):
    """What a microgrid's members took beyond what its boundary shows, over the last 31 days."""

    microgrid: str
    cumulated: int = Field(description="Since the last day without a settlement, milliwatt-hours.")
    excess: int = Field(description="Beyond what rounded readings explain, mWh: theft, a damaged meter or a setting.")
    days: int = Field(description="Settled days.")


def residuals(connection: Connection, first: Day, last: Day) -> list[Residual]:
    """Return the residuals of the microgrids over the days ``first`` to ``last``, the worst first."""
    c = settled_day.c
    statement = select(c.day, c.residual, controller.c.id).join(controller, controller.c.number == c.owner_no)
    statement = statement.where(c.day.between(first, last)).order_by(controller.c.id, c.day)
    rows = []
    for name, group in groupby(connection.execute(statement), key=lambda row: row.id):
        days = list(group)
        total = _residual(days[0].residual)
        for before, after in pairwise(days):
            # A day without a settlement ends a stretch.
            total = (
                total
                if before.day == after.day - 1
                else total.then(DayResidual(head=SlotStretch(), tail=SlotStretch(), fixed=0))
            )
            total = total.then(_residual(after.residual))
        cumulated = (total.tail or total.head).residual
        rows.append(Residual(microgrid=name, cumulated=cumulated, excess=total.excess, days=len(days)))
    return sorted(rows, key=lambda row: (-row.excess, row.microgrid))


def versions_of(connection: Connection, meter_id: MeterId, first: Day, last: Day) -> list[dict[str, object]]:
    """Return the versions of a meter's settled days, newest first."""
    c = settled.c
    statement = select(settled).join(meter, meter.c.no == c.meter_no).where(meter.c.id == signed64(meter_id))
    statement = statement.where(c.day.between(first, last)).order_by(c.day.desc(), c.version.desc())
    return [
        {
            "day": date(1970, 1, 1) + timedelta(days=row.day),
            "version": row.version,
            "computed": row.computed_minute * 60,
            "why": Why(row.why).words,
            "bytes": len(row.payload),
        }
        for row in connection.execute(statement)
    ]


def counts(connection: Connection) -> Mapping[str, int]:
    """Return counts for people: settled and provisional microgrid-days, versions, the first and the last day."""
    c = settled_day.c
    days, provisional, first, last = connection.execute(
        select(func.count(), func.count().filter(~c.final), func.min(c.day), func.max(c.day))
    ).one()
    return {
        "days": days,
        "provisional": provisional,
        "versions": newest(connection),
        "first": first or 0,
        "last": last or 0,
    }


def _residual(kept: str) -> DayResidual:
    fields = json.loads(kept)
    tail = None if fields["tail"] is None else SlotStretch(**fields["tail"])
    return DayResidual(head=SlotStretch(**fields["head"]), tail=tail, worst=fields["worst"], fixed=fields["fixed"])


_DAY_S = 86_400


def days_between(start: EpochSeconds, end: EpochSeconds) -> range:
    """Return the UTC days with a second in ``[start, end)``."""
    return range(start // _DAY_S, -(-end // _DAY_S))


def first_settled_day(connection: Connection) -> Day | None:
    """Return the first day that was settled; ``None``: none was."""
    day: Day | None = connection.execute(select(func.min(settled_day.c.day))).scalar()
    return day


def not_final(connection: Connection, days: range) -> str | None:
    """Return why some days are not final, for people; ``None``: they are.

    Days before the first settled one do not count.
    """
    begun = first_settled_day(connection)
    wanted = range(max(days.start, days.stop if begun is None else begun), days.stop)
    c, due = settled_day.c, settlement_due.c
    within = c.day.between(wanted.start, wanted.stop - 1)
    there = set(connection.execute(select(c.day).where(within).distinct()).scalars())
    marked = connection.execute(
        select(due.day).where(due.day.between(wanted.start, wanted.stop - 1)).distinct().order_by(due.day)
    ).scalars()
    unsettled = sorted({*(set(wanted) - there), *marked})
    if unsettled:
        return f"{counted(len(unsettled), 'day')} not settled yet, the first {_date(unsettled[0])} (UTC)"
    row = connection.execute(select(func.count(), func.min(c.day)).where(within, ~c.final)).one()
    if row[0]:
        return (
            f"readings missing in {counted(row[0], 'settled day')} of microgrids, the first {_date(row[1])} (UTC): "
            "they may come until the deadline"
        )
    return None


def _date(day: Day) -> str:
    return moment(day * _DAY_S)[:10]
