"""The energy of an account: by quarter-hour, helped, shared as settled, and as pictures (pure)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from commonwatt.look.palette import LOOKS, FlowLook, PowerFlow
from commonwatt.model.blocks import Blocks, Quality
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS, EpochSeconds, MeterId, MicrogridId, MilliwattHours, Quarter
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.sharing_words import reason_of_code
from commonwatt.settlement.quarters import Quantity, SettledQuality, SettledQuarters
from commonwatt.town.town import Direction
from utility.exports.selection import Held, Resolution, intervals, is_held
from utility.lasting.rules import OLD_S
from utility.settlement.shared_quarter import Shared
from utility.webkit.console.plots import line

Numbers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A meter of an account, and what it records."""

    held: Held  # when the account had it
    kinds: frozenset[RecordType]  # its record types


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """An energy by quarter-hour, the sum over its meters."""

    energy: Numbers  # milliwatt-hours, of the slots that have a reading
    slots: Numbers  # how many slots have one
    expected: Numbers  # how many slots there are: 60 for each meter of it that the account had; 0: it had none

    @property
    def is_whole(self) -> npt.NDArray[np.bool_]:
        """Whether every slot of a quarter has a reading, and there is a meter."""
        return np.asarray((self.expected > 0) & (self.slots == self.expected), np.bool_)


@dataclass(frozen=True, kw_only=True)
class Level:
    """The newest reading of some batteries, their levels added."""

    energy: MilliwattHours  # milliwatt-hours
    time: EpochSeconds  # the end of the oldest of the batteries' newest slots


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """The energies of an account by quarter-hour."""

    first: Quarter  # the first quarter; the arrays have an entry for each from it on
    solar: Line  # generated
    taken: Line  # through its incoming meters: from the town and the microgrid
    given: Line  # through its outgoing meters: to the town and the microgrid
    stored: Line  # levels of its batteries at the end of the quarter, added; a slot is the quarter's last
    gained: Line  # what its batteries gained since the quarter before; without a battery 0, and no slot is expected
    newest: Level | None  # the newest level of its batteries; ``None``: none is known in this time

    @property
    def use(self) -> Line:
        """What the place used, with its batteries' losses: solar and taken, less given and what batteries gained.

        Of a quarter in which any of these lacks a reading nothing is known: it has neither energy nor slots.
        """
        parts = (self.solar, self.taken, self.given, self.gained)
        expected = np.sum([part.expected for part in parts], axis=0)
        slots = np.sum([part.slots for part in parts], axis=0)
        is_whole = (expected > 0) & (slots == expected)
        energy = self.solar.energy + self.taken.energy - self.given.energy - self.gained.energy
        return Line(energy=np.where(is_whole, energy, 0), slots=np.where(is_whole, expected, 0), expected=expected)

    @property
    def whole(self) -> "Course":
        """The course of the quarters of which the use is known, so that its sums add up; of none: all of it."""
        there = self.use.is_whole
        if not there.any():
            return self
        parts = {name: getattr(self, name) for name in ("solar", "taken", "given")}
        kept = {n: replace(each, energy=each.energy * there, slots=each.slots * there) for n, each in parts.items()}
        return replace(self, **kept)

    @property
    def until(self) -> Quarter | None:
        """The quarter after the last one with a reading; ``None``: there is no reading."""
        lines = (self.solar, self.taken, self.given, self.stored)
        there = np.flatnonzero(np.sum([line.slots for line in lines], axis=0))
        return self.first + int(there[-1]) + 1 if len(there) else None


def course_of(blocks: Blocks, recordings: Sequence[Recording], first: Quarter, end: Quarter) -> Course:
    """Return the energies of an account in the quarters ``first`` to before ``end``.

    Args:
        blocks: The joined blocks of its meters, from the quarter before ``first`` on.
        recordings: Its meters.
        end: The quarter after the last.
    """
    adding = _Adding(blocks, first, end)
    lines = {kind: adding.line() for kind in ("solar", "taken", "given", "stored", "gained")}
    newest: list[Level | None] = []
    for meter in sorted({one.held.meter for one in recordings}):
        its = [one for one in recordings if one.held.meter == meter]
        kinds, direction = its[0].kinds, its[0].held.direction
        there = is_held(np.array([meter], np.uint64), adding.quarters, [one.held for one in its])
        through = lines["taken" if direction is Direction.INCOMING else "given"]
        if RecordType.THROUGH in kinds:
            adding.flow(through, meter, RecordType.THROUGH, there)
        if RecordType.GENERATION in kinds:
            adding.flow(lines["solar"], meter, RecordType.GENERATION, there)
        if RecordType.STORED in kinds:
            level = adding.levels(lines["stored"], lines["gained"], meter, there)
            if there[-1]:
                newest.append(level)
    known = [level for level in newest if level is not None]
    together = Level(energy=sum(one.energy for one in known), time=min((one.time for one in known), default=0))
    # The first column is the quarter before.
    whole = {name: Line(**{part: each[1:] for part, each in vars(line).items()}) for name, line in lines.items()}
    return Course(first=first, newest=together if known and len(known) == len(newest) else None, **whole)


class _Adding:
    """Adds the blocks of one meter after the other; the first column is the quarter before the first one."""

    def __init__(self, blocks: Blocks, first: Quarter, end: Quarter) -> None:
        self.quarters = np.arange(first - 1, end)
        self._blocks = blocks

    def line(self) -> Line:
        """Return a line without energy."""
        energy, slots, expected = (np.zeros(len(self.quarters), np.int64) for _ in range(3))
        return Line(energy=energy, slots=slots, expected=expected)

    def flow(self, line: Line, meter: MeterId, kind: RecordType, there: npt.NDArray[np.bool_]) -> None:
        """Add a meter's energy where it is the account's."""
        rows, columns = self._rows(meter, kind, there)
        line.expected[there] += SLOTS
        line.energy[columns] += self._blocks.values[rows].sum(axis=1)
        line.slots[columns] += (self._blocks.quality[rows] > Quality.MISSING).sum(axis=1)

    def levels(self, stored: Line, gained: Line, meter: MeterId, there: npt.NDArray[np.bool_]) -> Level | None:
        """Add a battery's level at each quarter's end and its gain; return its newest level."""
        # A gain needs the level at both ends of the quarter: of the account's first quarter the one before is unknown.
        rows, columns = self._rows(meter, RecordType.STORED, there)
        level, known = np.zeros(len(there), np.int64), np.zeros(len(there), np.bool_)
        level[columns] = self._blocks.values[rows, -1]
        known[columns] = self._blocks.quality[rows, -1] > Quality.MISSING
        stored.expected[there] += 1
        stored.energy[known] += level[known]
        stored.slots[known] += 1
        gained.expected[there] += 1
        both = known.copy()
        both[1:] &= known[:-1]
        both[0] = False
        gained.energy[both] += np.diff(level, prepend=0)[both]
        gained.slots[both] += 1
        return self._newest(rows)

    def _newest(self, rows: npt.NDArray[np.intp]) -> Level | None:
        present = self._blocks.quality[rows] > Quality.MISSING
        if not present.any():
            return None
        row = int(np.flatnonzero(present.any(axis=1))[-1])
        slot = int(np.flatnonzero(present[row])[-1])
        time = int(self._blocks.quarter[rows[row]]) * QUARTER_S + (slot + 1) * SLOT_S
        return Level(energy=int(self._blocks.values[rows[row], slot]), time=time)

    def _rows(
        self, meter: MeterId, kind: RecordType, there: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
        """Return the blocks of a meter's record type that are the account's, in order of time, and their columns."""
        blocks = self._blocks
        columns = blocks.quarter.astype(np.int64) - int(self.quarters[0])
        inside = (columns >= 0) & (columns < len(there))
        rows = np.flatnonzero((blocks.meter == meter) & (blocks.record_type == kind) & inside)
        rows = rows[there[columns[rows]]]
        return rows, columns[rows]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A sum of a line over some time."""

    energy: MilliwattHours | None  # milliwatt-hours, of the slots that have a reading; ``None``: none has one
    permille: int  # slots with a reading, thousandths of those expected


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The sums of a course over some time; ``None``: the account had no meter for it."""

    start: EpochSeconds  # its first second
    solar: Figure | None  # generated
    used: Figure | None  # what the place used
    taken: Figure | None  # from the town and the microgrid
    given: Figure | None  # to the town and the microgrid

    @property
    def all(self) -> list[tuple[str, Figure]]:
        """The sums that there are, with their words."""
        named = (("Solar", self.solar), ("Used", self.used), ("Taken", self.taken), ("Given", self.given))
        return [(name, figure) for name, figure in named if figure is not None]


def figures_of(course: Course, first: Quarter, end: Quarter) -> Figures:
    """Return the sums of a course in the quarters ``first`` to before ``end``."""
    span = slice(first - course.first, end - course.first)
    return Figures(
        start=first * QUARTER_S,
        solar=_figure(course.solar, span),
        used=_figure(course.use, span),
        taken=_figure(course.taken, span),
        given=_figure(course.given, span),
    )


def _figure(line: Line, span: slice) -> Figure | None:
    energy, slots, expected = (int(values[span].sum()) for values in (line.energy, line.slots, line.expected))
    if not expected:
        return None
    return Figure(energy=energy if slots else None, permille=slots * 1000 // expected)


@dataclass(frozen=True, kw_only=True)
class Helping:
    """Sharing of an account's batteries in some time; neighbours are counted and never named (C4)."""

    helped: int  # places whose batteries received while an own battery gave
    helping: int  # places whose batteries gave while an own battery received
    given: MilliwattHours  # what the own batteries gave
    permille: int | None  # of what all batteries of the microgrid gave; ``None``: none gave


def helped_now(heartbeat: Heartbeat | None, meter: MeterId, now: EpochSeconds) -> str:
    """Return who helps a battery below its minimum, a sentence, by what its gateway said last."""
    if heartbeat is None or now - heartbeat.time > OLD_S or meter not in heartbeat.sharing:
        return "Its gateway does not say now who helps it."
    reason = reason_of_code(heartbeat.sharing[meter], heartbeat.band_permille)
    helpers = sum(reason_of_code(each, 0).role == "gives" for each in heartbeat.sharing.values())
    if reason.role != "receives" or not helpers:
        return reason.why
    return f"{helpers} of the neighbours' batteries help it." if helpers > 1 else "A neighbour's battery helps it."


def helping(rows: Iterable[Shared], held: Sequence[Held]) -> Helping:
    """Return how an account's batteries helped and were helped.

    Args:
        rows: What the batteries of its microgrids shared.
        held: When the account had which meter.
    """
    quarters: dict[tuple[Quarter, MicrogridId], tuple[list[Shared], list[Shared]]] = defaultdict(lambda: ([], []))
    for row in rows:
        is_own = any(one.meter == row.meter and one.first <= row.quarter < one.end for one in held)
        quarters[row.quarter, row.place[0]][is_own].append(row)
    helped, helpers = set(), set()
    for others, own in quarters.values():
        if any(row.given for row in own):
            helped |= {row.place for row in others if row.received}
        if any(row.received for row in own):
            helpers |= {row.place for row in others if row.given}
    given = sum(row.given for _, own in quarters.values() for row in own)
    every = given + sum(row.given for others, _ in quarters.values() for row in others)
    permille = 1000 * given // every if every else None
    return Helping(helped=len(helped), helping=len(helpers), given=given, permille=permille)


@dataclass(frozen=True, kw_only=True)
class SettledSums:
    """An account's settled energies of a local day, or of several."""

    start: EpochSeconds  # its first second
    imported: MilliwattHours = 0  # taken from the town, milliwatt-hours
    exported: MilliwattHours = 0  # given to the town
    got: MilliwattHours = 0  # got from the microgrid, from all other places together
    given: MilliwattHours = 0  # given to the microgrid, to all other places together
    quarters: int = 0  # settled quarter-hours of its meters
    expected: int = 0  # quarter-hours of its meters; without any, the account had none
    estimated: int = 0  # settled quarter-hours with an estimate or without data


_SUMMED = {
    "imported": Quantity.IMPORTED,
    "exported": Quantity.EXPORTED,
    "got": Quantity.SHARED_IN,
    "given": Quantity.SHARED_OUT,
}


def by_day(settled: SettledQuarters, held: Sequence[Held], zone: ZoneInfo) -> list[SettledSums]:
    """Return an account's sums of each local day that ``settled`` touches, while it had its meters."""
    quarters = settled.first + np.arange(settled.quality.shape[1])
    its = is_held(settled.meters[:, None], quarters[None, :], held)
    there = its & (settled.version > 0)
    doubtful = there & (settled.quality <= SettledQuality.ESTIMATED)
    energies = {name: np.where(there, settled.of(quantity), 0).sum(axis=0) for name, quantity in _SUMMED.items()}
    counts = {"quarters": there, "expected": its, "estimated": doubtful}
    columns = energies | {name: flags.sum(axis=0) for name, flags in counts.items()}
    days = intervals(Resolution.DAY, settled.first, settled.first + len(quarters), zone)
    index = days.index_of(quarters)
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    sums = {name: np.add.reduceat(values, starts).tolist() for name, values in columns.items()}
    begins = days.starts[index[starts]].tolist()
    return [SettledSums(start=begin, **{name: of[n] for name, of in sums.items()}) for n, begin in enumerate(begins)]


def together(days: Sequence[SettledSums], start: EpochSeconds) -> SettledSums:
    """Return the sums over some days."""
    names = (*_SUMMED, "quarters", "expected", "estimated")
    return SettledSums(start=start, **{name: sum(getattr(day, name) for day in days) for name in names})


def settled_until(settled: SettledQuarters, held: Sequence[Held]) -> Quarter | None:
    """Return the quarter after an account's last settled one; ``None``: none is settled."""
    quarters = settled.first + np.arange(settled.quality.shape[1])
    there = is_held(settled.meters[:, None], quarters[None, :], held) & (settled.version > 0)
    last = np.flatnonzero(there.any(axis=0))
    return int(quarters[last[-1]]) + 1 if len(last) else None


HOME_LOOKS: Mapping[PowerFlow, FlowLook] = {
    **LOOKS,
    PowerFlow.BATTERY: replace(LOOKS[PowerFlow.BATTERY], words="your battery"),
    PowerFlow.PLANT: replace(LOOKS[PowerFlow.PLANT], words="town and neighbours"),
    PowerFlow.USE: replace(LOOKS[PowerFlow.USE], words="your home"),
}
"""The flows as a household knows them: readings do not tell the town's energy from neighbours', settlement does."""

_WATTS = 3600 / QUARTER_S / 1000
_KILOWATTS = _WATTS / 1000


@dataclass(frozen=True, kw_only=True)
class HomeNow:
    """The newest quarter-hour of a home that is known whole."""

    start: EpochSeconds  # when it began
    use_w: float  # mean power that it used
    parts: Sequence[tuple[PowerFlow, float, bool]]  # the other flows: watts, and whether they go to the home
    own_permille: float | None  # how much of the day's use was not taken, but its own; ``None``: none was used


def home_now(course: Course) -> HomeNow | None:
    """Return the newest whole quarter-hour of a day; ``None``: none is whole, or the home has no sun and no battery."""
    use = course.use
    whole = np.flatnonzero(use.is_whole)
    if not len(whole):
        return None
    at = int(whole[-1])
    # A battery whose level jumps makes a use below 0, which has no source.
    used = float(np.maximum(0, use.energy[whole]).sum())
    own = max(0, used - float(course.taken.energy[whole].sum()))
    net, gained = int(course.taken.energy[at] - course.given.energy[at]), int(course.gained.energy[at])
    flows = [(PowerFlow.PLANT, net)]
    if course.solar.expected.any():
        flows.append((PowerFlow.SUN, int(course.solar.energy[at])))
    if course.gained.expected.any():
        flows.append((PowerFlow.BATTERY, -gained))
    return HomeNow(
        start=(course.first + at) * QUARTER_S,
        use_w=int(use.energy[at]) * _WATTS,
        parts=[(flow, abs(energy) * _WATTS, energy >= 0) for flow, energy in flows],
        own_permille=1000 * own / used if used > 0 else None,
    )


def by_source(course: Course) -> dict[PowerFlow, Any]:
    """Return where the use of each quarter-hour came from, milliwatt-hours: sun, battery, then others."""
    used = np.maximum(0, course.use.energy)
    sun = np.minimum(used, course.solar.energy)
    battery = np.minimum(used - sun, np.maximum(0, -course.gained.energy))
    return {PowerFlow.SUN: sun, PowerFlow.BATTERY: battery, PowerFlow.PLANT: used - sun - battery}


def day_series(course: Course) -> list[dict[str, Any]]:
    """Return a day's use by source, kW by quarter-hour; a quarter-hour that lacks a reading is a gap."""
    use = course.use
    if not use.expected.any():
        return []
    starts = [(course.first + n) * QUARTER_S for n in range(len(use.energy))]
    rows = {flow: [round(v * _KILOWATTS, 4) if w else None for v, w in zip(energy.tolist(), use.is_whole, strict=True)]
            for flow, energy in by_source(course).items()}  # fmt: skip
    return stacked(rows, starts, QUARTER_S, "kW")


def stacked(
    rows: Mapping[PowerFlow, Sequence[float | None]], starts: Sequence[EpochSeconds], step_s: int, unit: str
) -> list[dict[str, Any]]:
    """Return series that lie one upon the other in a plot; those of nothing are left out."""
    return [
        line(
            "the town" if PowerFlow.NEIGHBOURS in rows and flow is PowerFlow.PLANT else HOME_LOOKS[flow].words,
            unit,
            list(starts),
            step_s,
            list(high),
        )
        | {"flow": flow, "missing": 0}
        for flow, high in rows.items()
        if any(high) or flow is PowerFlow.PLANT
    ]
