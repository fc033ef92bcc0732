"""What researchers got, and what releases are made of: agreements, releases, homes' readings (U7)."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select

from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, EpochSeconds, Quarter, signed64, unsigned64
from utility.database.database import Database, count_rows
from utility.readings.store.parts import MAX_IN, chunks, ids_by_number, reading, select_parts
from utility.readings.tables import compacted
from utility.registry.tables import meter
from utility.research.homes import Assembly, HomeMeter, Homes, PeriodHome
from utility.research.tables import research_agreement, research_release
from utility.webkit.columns import Time

DAY_QUARTERS = 96  # quarters read at a time

_KINDS = [int(kind) for kind in (RecordType.GENERATION, RecordType.STORED, RecordType.THROUGH)]

Tell = Callable[[float], None]  # takes the part that is done, 0 to 1


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """An agreement with researchers who may get identifiable data."""

    name: str  # its name
    until: Time  # when it ends, UTC epoch seconds
    added: Time  # when it was added
    added_by: str  # the person who added it


@dataclass(frozen=True, kw_only=True)
class KeptRelease:
    """A release as the database keeps it; columns as in ``research_release``."""

    id: str
    tier: str
    since: Quarter
    until: Quarter
    options: Mapping[str, Any]
    attacks: Sequence[Mapping[str, object]]
    groups: Mapping[str, str]
    state: str
    asked: EpochSeconds
    asked_by: str
    decided: EpochSeconds | None = None
    decided_by: str | None = None
    why: str | None = None


def add_agreement(connection: Connection, agreement: Agreement) -> bool:
    """Add an agreement; return whether its name was free. An agreement never changes: a longer one has another name."""
    if find_agreement(connection, agreement.name) is not None:
        return False
    connection.execute(research_agreement.insert().values(**vars(agreement)))
    return True


def find_agreement(connection: Connection, name: str) -> Agreement | None:
    """Return an agreement, or ``None``."""
    statement = select(research_agreement).where(research_agreement.c.name == name)
    row = connection.execute(statement).mappings().first()
    return None if row is None else Agreement(**row)


def agreements(connection: Connection) -> list[Agreement]:
    """Return all agreements, by their ends."""
    statement = select(research_agreement).order_by(research_agreement.c.until, research_agreement.c.name)
    return [Agreement(**row) for row in connection.execute(statement).mappings()]


def find_release(connection: Connection, release: str) -> KeptRelease | None:
    """Return a release, or ``None``."""
    statement = select(research_release).where(research_release.c.id == release)
    row = connection.execute(statement).mappings().first()
    return None if row is None else _kept(row)


def releases(connection: Connection, limit: int, skipped: int = 0) -> list[KeptRelease]:
    """Return the newest releases after the first ``skipped``, newest first."""
    c = research_release.c
    statement = select(research_release).order_by(c.asked.desc(), c.id).limit(limit).offset(skipped)
    return [_kept(row) for row in connection.execute(statement).mappings()]


def releases_of(connection: Connection, person: str, now: EpochSeconds) -> dict[str, str]:
    """Return the releases of homes that answer a person's requests, with their agreements that have not ended."""
    c, holding = research_release.c, {one.name for one in agreements(connection) if one.until > now}
    answered = connection.execute(select(c.options).where(c.asked_by == person, c.state == "made")).scalars()
    ids = [json.loads(options)["release"] for options in answered]
    rows = [
        row for some in chunks(ids, MAX_IN) for row in connection.execute(select(c.id, c.options).where(c.id.in_(some)))
    ]
    found = {row.id: str(json.loads(row.options).get("agreement", "")) for row in rows}
    return {release: agreement for release, agreement in found.items() if agreement in holding}


def first_quarter(connection: Connection) -> Quarter | None:
    """Return the first quarter of which readings are kept; ``None``: there is none."""
    first: Quarter | None = connection.execute(select(func.min(compacted.c.quarter))).scalar()
    return first


def count_releases(connection: Connection, state: str, person: str = "") -> int:
    """Return how many releases are in a state; of a ``person``: how many of those that it asked for."""
    c = research_release.c
    ours = (c.state == state) & ((c.asked_by == person) if person else True)
    return count_rows(connection, research_release, ours)


def released_over(connection: Connection, tier: str, since: Quarter, until: Quarter) -> list[KeptRelease]:
    """Return what a tier has released of a period or a part of it, the oldest first."""
    c = research_release.c
    ours = (c.tier == tier) & (c.state == "released") & (c.since < until) & (c.until > since)
    rows = connection.execute(select(research_release).where(ours).order_by(c.asked, c.id)).mappings()
    return [_kept(row) for row in rows]


def _kept(row: Any) -> KeptRelease:
    return KeptRelease(**{**row, **{name: json.loads(row[name]) for name in ("options", "attacks", "groups")}})


def save_release(connection: Connection, release: KeptRelease) -> None:
    """Add a release, or replace what is kept of it."""
    c = research_release.c
    values = vars(release) | {
        name: json.dumps(getattr(release, name), sort_keys=True) for name in ("options", "attacks", "groups")
    }
    connection.execute(research_release.delete().where(c.id == release.id))
    connection.execute(research_release.insert().values(**values))


def load_quarters(
    database: Database,
    homes: Sequence[PeriodHome],
    meters: Sequence[HomeMeter],
    first: Quarter,
    until: Quarter,
    tell: Tell = lambda _: None,
) -> Homes:
    """Return the energies of homes by quarter-hour, from the sums of compacted blocks, in one state of the database."""
    assembly = Assembly(homes, meters, first, until, QUARTER_S)
    with database.reads.begin() as connection:
        of = ids_by_number({unsigned64(row.id): row.no for row in connection.execute(select(meter.c.no, meter.c.id))})
        for begin in range(first - 1, until, DAY_QUARTERS):
            _add_quarters(connection, assembly, of, begin, min(until, begin + DAY_QUARTERS))
            tell((begin - first + 1) / (until - first))
    return assembly.homes()


def _add_quarters(connection: Connection, assembly: Assembly, of: Any, begin: Quarter, end: Quarter) -> None:
    c = compacted.c
    reading = func.coalesce(c.total, c.last_reading, 0)
    slots = c.exact + c.averaged
    statement = select(c.meter_no, c.record_type, c.quarter, reading, slots).where(
        c.quarter.between(begin, end - 1), c.record_type.in_(_KINDS)
    )
    for rows in connection.execute(statement, execution_options={"yield_per": 50_000}).partitions():
        # An array made of the rows themselves takes ten times as long.
        number, kind, quarter, value, count = (np.array(column, np.int64) for column in zip(*rows, strict=True))
        assembly.add(of[number], kind, quarter, value[:, None], count[:, None] == SLOTS)


def load_slots(
    database: Database, homes: Sequence[PeriodHome], meters: Sequence[HomeMeter], first: Quarter, until: Quarter
) -> Homes:
    """Return the energies of homes by slot of 15 s, from the whole readings."""
    assembly = Assembly(homes, meters, first, until, SLOT_S)
    with reading(database) as (connection, reader):
        for some in chunks([signed64(one.id) for one in meters], MAX_IN):
            numbers = connection.execute(select(meter.c.no).where(meter.c.id.in_(some))).scalars().all()
            wanted = select_parts(
                lambda c, numbers=numbers: (
                    c.quarter.between(first - 1, until - 1)  # type: ignore[misc]
                    & c.meter_no.in_(numbers)
                    & c.record_type.in_(_KINDS)
                )
            )
            for blocks in reader.stream(connection, wanted, quarters=range(first - 1, until), meters=numbers):
                kinds, quarters = blocks.record_type.astype(np.int64), blocks.quarter.astype(np.int64)
                assembly.add(blocks.meter, kinds, quarters, blocks.values, blocks.quality > 0)
    return assembly.homes()
