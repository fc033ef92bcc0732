"""What estimates are made from: the final gaps of a microgrid, the readings around them, and like days."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, bindparam, or_, select

from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS, EpochSeconds, Quarter, unsigned64
from commonwatt.model.validation import limits_of
from commonwatt.town.town import Direction, Function
from utility.corrections.checked_days import (
    Series,
    SeriesLayout,
    SeriesMeter,
    days_in,
    layout_of,
    members_in,
    outages_of,
)
from utility.corrections.estimates import FARTHEST_DAYS, estimated, like_quarters, nearest, typical
from utility.corrections.evidence import Gap, KnownWindow, as_blocks, proposals, spans, window_of
from utility.corrections.store.corrections import Corrections, covered
from utility.database.database import Database
from utility.energy.quarters import QUARTERS_A_DAY
from utility.readings.gaps import ALL_SLOTS, Interval
from utility.readings.store.gaps import events_by_meter
from utility.readings.store.parts import chunks, reading, select_parts
from utility.readings.tables import compacted, gap
from utility.registry.tables import controller, installed, meter
from utility.supply.store import loss_permille

MAX_WINDOWS = 30  # most windows of a microgrid that one run estimates; with more, each day's run begins with others
MAX_AGE_DAYS = 60  # gaps older than this are not estimated: no like day is near, and the month is billed

_ALWAYS = [int(RecordType.THROUGH), int(RecordType.REGISTER)]
_DAY_S = 86_400
_Typical = dict[Series, tuple[NDArray[np.int64], NDArray[np.bool_]]]


@dataclass(frozen=True, kw_only=True)
class EstimateRules:
    """How gaps are estimated."""

    zone: ZoneInfo  # time zone of like hours
    days: int  # like days of a mean
    final_s: int  # seconds after which a slot that no gateway answered for is estimated too


def members_of(connection: Connection, owner: int) -> list[SeriesMeter]:
    """Return the meters that a microgrid has or had, by the number of its controller, with their dates."""
    i = installed.c
    statement = select(meter, i.place, i.since, i.until).outerjoin(installed, i.meter == meter.c.id)
    statement = statement.join(controller, controller.c.id == meter.c.microgrid).where(controller.c.number == owner)
    return [
        SeriesMeter(
            no=row.no,
            id=unsigned64(row.id),
            location=row.location if row.place is None else row.place,
            since=row.since,
            until=row.until,
            function=Function(row.function),
            direction=Direction(row.direction),
            record_types=frozenset(map(int, row.record_types.split(","))),
            capacity=row.battery_capacity,
            limits=limits_of(row.service_amps, row.battery_capacity),
        )
        for row in connection.execute(statement.order_by(meter.c.no))
    ]


def member_at(connection: Connection, number: int) -> tuple[list[SeriesMeter], int]:
    """Return the meters of the microgrid of a meter, and the number of its controller."""
    of = select(controller.c.number).join(meter, meter.c.microgrid == controller.c.id).where(meter.c.no == number)
    owner = int(connection.execute(of).scalar_one())
    return members_of(connection, owner), owner


def owners_with_gaps(connection: Connection, now: EpochSeconds, rules: EstimateRules) -> list[int]:
    """Return the numbers of the controllers of microgrids with final gaps."""
    statement = (
        select(controller.c.number)
        .join(meter, meter.c.microgrid == controller.c.id)
        .join(gap, gap.c.meter_no == meter.c.no)
        .where(_is_final(now, rules))
        .distinct()
    )
    return sorted(connection.execute(statement).scalars())


def final_gaps(
    connection: Connection, series: Collection[Series], now: EpochSeconds, rules: EstimateRules
) -> dict[Gap, int]:
    """Return the masks of some series' slots that no gateway will send any more, and that have no correction yet.

    Final are slots that the gateway answered not to have, and all slots of a quarter older than ``rules.final_s``.
    """
    numbers = sorted({number for number, _ in series})
    old = _old(now, rules)
    found: dict[Gap, int] = {}
    for some in chunks(numbers):
        statement = select(gap).where(gap.c.meter_no.in_(some), _is_final(now, rules))
        for row in connection.execute(statement):
            if (row.meter_no, row.record_type) in series:
                mask = row.mask if row.quarter < old else row.mask & row.absent
                found[row.meter_no, row.record_type, row.quarter] = mask & ALL_SLOTS
    there = covered(connection, [(quarter, number, kind) for number, kind, quarter in found])
    left = {key: mask & ~there.get((key[2], key[0], key[1]), 0) for key, mask in found.items()}
    return {key: mask for key, mask in left.items() if mask}


def _old(now: EpochSeconds, rules: EstimateRules) -> Quarter:
    return (now - rules.final_s) // QUARTER_S


def _is_final(now: EpochSeconds, rules: EstimateRules) -> ColumnElement[bool]:
    youngest = (now - MAX_AGE_DAYS * _DAY_S) // QUARTER_S
    return (gap.c.quarter >= youngest) & or_(gap.c.absent != 0, gap.c.quarter < _old(now, rules))


class Estimator:
    """Estimates the final gaps of one database's microgrids."""

    def __init__(self, database: Database, rules: EstimateRules) -> None:
        self._database = database
        self._rules = rules

    def made_for(self, owner: int, now: EpochSeconds) -> Corrections | None:
        """Return estimates for the final gaps of a microgrid; ``None``: there is nothing to propose."""
        with self._database.reads.begin() as connection:
            members = members_of(connection, owner)
            by_no = {m.no: m for m in members}
            layout = layout_of(members)
            every = final_gaps(connection, set(layout.series), now, self._rules)
        gaps = {key: mask for key, mask in every.items() if by_no[key[0]].in_place(np.array([key[2]])).any()}
        windows = spans(sorted({quarter for _, _, quarter in gaps}), len(layout.series))
        if not windows:
            return None
        # What can't be estimated comes again each day, and must not keep the others from their turn.
        first = now // _DAY_S * MAX_WINDOWS % len(windows) if len(windows) > MAX_WINDOWS else 0
        chosen = (windows[first:] + windows[:first])[:MAX_WINDOWS]
        return self._estimates(owner, members, gaps, chosen)

    def _estimates(
        self,
        owner: int,
        members: Sequence[SeriesMeter],
        gaps: Mapping[Gap, int],
        windows: Sequence[tuple[Quarter, Quarter]],
    ) -> Corrections | None:
        """Return estimates of the gaps in some windows; ``None``: nothing is known to estimate them from."""
        made = []
        for span in windows:
            there = members_in(members, *span)
            layout = layout_of(there)
            wanted = {key: mask for key, mask in gaps.items() if span[0] < key[2] < span[1] - 1}
            known = self._known(there, layout, span, {(number, kind) for number, kind, _ in wanted})
            made += proposals(layout, estimated(window_of(layout, span, wanted, known)))
        if not made:
            return None
        return Corrections(
            blocks=as_blocks({m.no: m for m in members}, made),
            number=np.array([number for (number, _), _, _, _, _ in made], np.int64),
            owner=np.full(len(made), owner, np.int64),
            method=np.array([method for _, method, _, _, _ in made], np.uint8),
        )

    def like_days(
        self, members: Sequence[SeriesMeter], series: Series, span: tuple[Quarter, Quarter]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the energy of a series' quarters on like days, and where it is known; of a level, its last value."""
        with self._database.reads.begin() as connection:
            outages = self._outages(connection, members, span)
            return self._typical(connection, span, {series}, outages)[series]

    def _known(
        self, members: Sequence[SeriesMeter], layout: SeriesLayout, span: tuple[Quarter, Quarter], gappy: set[Series]
    ) -> KnownWindow:
        numbers = [m.no for m in members]
        quarters = list(range(*span))
        wanted = select_parts(
            lambda c: (
                c.quarter.in_(bindparam("quarters", expanding=True))
                & c.meter_no.in_(bindparam("numbers", expanding=True))
                & (c.record_type.in_(_ALWAYS) | c.meter_no.in_(bindparam("sources", expanding=True)))
            )
        )
        sources = [number for number, kind in layout.series if kind not in _ALWAYS]
        with reading(self._database) as (connection, reader):
            values = {"quarters": quarters, "numbers": numbers, "sources": sources}
            blocks = reader.read(connection, wanted, values, quarters=quarters, meters=numbers)
            outages = self._outages(connection, members, span)
            means = self._typical(connection, span, gappy, outages)
            loss = loss_permille(connection)
        return KnownWindow(blocks=blocks, outages=outages, typical=means, loss_permille=loss)

    def _outages(
        self, connection: Connection, members: Sequence[SeriesMeter], span: tuple[Quarter, Quarter]
    ) -> dict[int, list[Interval]]:
        margin = FARTHEST_DAYS + 1
        first, last = (span[0] - margin * QUARTERS_A_DAY) * QUARTER_S, (span[1] + margin * QUARTERS_A_DAY) * QUARTER_S
        return outages_of(events_by_meter(connection, [m.no for m in members], first, last), ends_of(members))

    def _typical(
        self,
        connection: Connection,
        span: tuple[Quarter, Quarter],
        gappy: set[Series],
        outages: dict[int, list[Interval]],
    ) -> _Typical:
        """Return the means of like days of the series with gaps."""
        zone, days = self._rules.zone, self._rules.days
        like = [nearest(like_quarters(quarter, zone), days) for quarter in range(*span)]
        every = sorted({quarter for each in like for quarter in each})
        readings = _totals(connection, gappy, every)
        begin, end = every[0] * QUARTER_S, (every[-1] + 1) * QUARTER_S
        dates = {quarter: datetime.fromtimestamp(quarter * QUARTER_S, zone).date() for quarter in every}
        most = max(map(len, like))
        found: _Typical = {}
        for series in gappy:
            out = days_in(outages.get(0, []) + outages.get(series[0], []), begin, end, zone)
            of = readings.get(series, {})
            energies, usable = np.zeros((most, len(like)), np.int64), np.zeros((most, len(like)), np.bool_)
            for column, each in enumerate(like):
                for place, quarter in enumerate(each):
                    if quarter in of and dates[quarter] not in out:
                        energies[place, column], usable[place, column] = of[quarter], True
            found[series] = typical(energies, usable, days)
        return found


def ends_of(members: Sequence[SeriesMeter]) -> list[int]:
    """Return the numbers of the boundary's meters."""
    return [m.no for m in members if m.function is Function.BOUNDARY]


def _totals(
    connection: Connection, gappy: set[Series], quarters: Sequence[Quarter]
) -> dict[Series, dict[Quarter, int]]:
    """Return the energy of each whole quarter of some series, or the level at its end."""
    found: dict[Series, dict[Quarter, int]] = defaultdict(dict)
    c = compacted.c
    columns = c.quarter, c.meter_no, c.record_type, c.total, c.last_reading
    for some in chunks(quarters):
        for numbers in chunks(sorted({number for number, _ in gappy})):
            statement = select(*columns).where(
                c.quarter.in_(some), c.meter_no.in_(numbers), c.exact + c.averaged == SLOTS
            )
            for quarter, number, kind, total, last in connection.execute(statement):
                found[number, kind][quarter] = last if kind == RecordType.STORED else total
    return found
