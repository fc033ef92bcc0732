"""What the town's meters read in its past: by quarter-hours, and in the last days by 15 s, with what they reported."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.blocks import Blocks, Quality, make_blocks
from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import QUARTER_S, SLOTS, EpochSeconds, MeterId, MicrogridId
from commonwatt.town.scenario import Announcement, Outage, Scenario
from commonwatt.town.town import Function, Town
from harness.settlement.emulated import EmulatedQuarter, EmulatedTown
from utility.energy.quarters import QUARTERS_A_DAY, Corrected
from utility.registry.layout import Day


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A storm, or a cut feeder, of the past."""

    start: EpochSeconds  # when half of the residential microgrids lose their feeder
    hours: float  # for how long
    announced: EpochSeconds | None = None  # when the storm was announced; ``None``: nobody expected it


@dataclass(frozen=True, kw_only=True)
class Span:
    """The extent of a past."""

    first: Day  # the first settled day, of UTC
    fine: Day  # the first day with readings of 15 s
    end: EpochSeconds  # its end, where the live town goes on
    faults: tuple[Fault, ...] = ()


def scenario(span: Span, zone: ZoneInfo) -> Scenario:
    """Return the scenario of a past; it begins a day before."""
    first = datetime.fromtimestamp(span.first * 86_400, UTC).astimezone(zone).date() - timedelta(days=1)
    begin = int(datetime(first.year, first.month, first.day, tzinfo=zone).timestamp())

    def hour(time: EpochSeconds) -> float:
        return (time - begin) / 3600

    faults = span.faults
    return Scenario(
        title="The past of the demonstration",
        start=first,
        days=3660,
        outage=tuple(
            Outage(what="feeder", from_hour=hour(one.start), for_hours=one.hours, residential_percent=50)
            for one in faults
        ),
        storm=tuple(
            Announcement(from_hour=hour(one.announced), for_hours=(one.start - one.announced) / 3600 + one.hours)
            for one in faults
            if one.announced is not None
        ),
    )


class Energy:
    """The readings of a town's past, in order: first ``days``, then ``fine``."""

    def __init__(self, town: Town, span: Span) -> None:
        self._span = span
        told = scenario(span, ZoneInfo(town.table.timezone))
        self._coarse = EmulatedTown(town, told, step_s=QUARTER_S)
        self._fine = EmulatedTown(town, told)
        self._last: Corrected | None = None
        self._events = _Events(town)
        self.faults: list[EventRecord] = []  # what boundaries reported during ``days``

    def days(self) -> Iterator[tuple[Day, list[Corrected]]]:
        """Yield each day before the fine ones: the quarter-hour before it, then its own."""
        first = self._span.first * QUARTERS_A_DAY
        hour = (first * QUARTER_S - self._coarse.begin) // 3600 - 1
        quarters = self._coarse.quarters(first - 4, hour)
        for _ in range(4):
            last = next(quarters).readings
        for day in range(self._span.first, self._span.fine):
            found = [last]
            for _ in range(QUARTERS_A_DAY):
                one = next(quarters)
                found.append(one.readings)
                self.faults += self._events.of(one)
            last = self._last = found[-1]
            yield day, found

    def fine(self) -> Iterator[tuple[Blocks, list[EventRecord]]]:
        """Yield each quarter-hour of the last days, readings and events; before them comes the last one of ``days``."""
        assert self._last is not None, "the days come first"
        first, until = self._span.fine * QUARTERS_A_DAY, self._span.end // QUARTER_S
        yield _blocks(self._last, first - 1), []
        self._fine.go_on_from(self._coarse)
        hour = (first * QUARTER_S - self._fine.begin) // 3600
        for one in self._fine.quarters(first, hour):
            yield _blocks(one.readings, one.quarter), self._events.of(one, is_last=one.quarter == until - 1)
            if one.quarter == until - 1:
                return

    def levels(self) -> dict[MeterId, int]:
        """Return the levels of the batteries at the end, milliwatt-hours."""
        found: dict[MeterId, int] = {}
        for layout, grids in zip(self._fine._layouts, self._fine._simulation.grids, strict=True):
            level = grids.level[:, layout._outgoing]
            found |= {int(meter): int(level[at]) for at, meter in np.ndenumerate(layout._out_ids)}
        return dict(sorted(found.items()))


def _blocks(readings: Corrected, quarter: int) -> Blocks:
    keys = [(meter, kind, quarter) for meter, kind, _ in readings.keys]
    return make_blocks(keys, readings.values, np.full(readings.values.shape, int(Quality.EXACT)))


class _Events:
    """What meters report of their states: batteries that share, at steps of 15 s; boundaries without voltage."""

    def __init__(self, town: Town) -> None:
        self._boundaries: dict[MicrogridId, list[MeterId]] = {
            name: [meter.id for meter in grid.meters if meter.function is Function.BOUNDARY]
            for name, grid in town.microgrids.items()
        }
        self._state: dict[MeterId, State] = {}
        self._count: dict[MeterId, int] = {}

    def of(self, one: EmulatedQuarter, *, is_last: bool = False) -> list[EventRecord]:
        """Return the changes of a quarter-hour, in order; at the last one's end every state is the ordinary one."""
        found, steps = [], len(one.boundaries)
        for step in range(steps):
            states = self._at_boundaries(one, step)
            if steps == SLOTS:
                states |= {m: State.SHARING if flags[step] else State(0) for m, flags in one.sharing.items()}
            if is_last and step == steps - 1:
                states = dict.fromkeys(states, State(0))
            time = one.quarter * QUARTER_S + step * QUARTER_S // steps
            for meter, bits in sorted(states.items()):
                if bits != (was := self._state.get(meter, State(0))):
                    found.append(self._event(meter, was, bits, time))
                    self._state[meter] = bits
        return found

    def _at_boundaries(self, one: EmulatedQuarter, step: int) -> dict[MeterId, State]:
        found: dict[MeterId, State] = {}
        for names, boundary in zip(one.names, one.boundaries[step], strict=True):
            for row, name in enumerate(names):
                bits = State(0) if boundary.voltage[row] else State.DEAD_FEEDER
                bits |= State(0) if boundary.closed[row] else State.SWITCH_OPEN
                found |= dict.fromkeys(self._boundaries[name], bits | State.OFF_GRID if bits else bits)
        return found

    def _event(self, meter: MeterId, was: State, now: State, time: EpochSeconds) -> EventRecord:
        self._count[meter] = self._count.get(meter, 0) + 1
        return EventRecord(
            previous_state=State.INITIALIZED | was,
            new_state=State.INITIALIZED | now,
            record_id=self._count[meter],
            meter_id=meter,
            time=time,
        )
