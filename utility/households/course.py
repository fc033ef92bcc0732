"""The energy of an account: by quarter-hour, helped, shared as settled, and as pictures (pure)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.look.palette import LOOKS, FlowLook, PowerFlow
from commonwatt.look.sharing_words import reason_of_code
from commonwatt.look.writing import DOLLARS, Writing
from commonwatt.model.blocks import Blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, EpochSeconds, MeterId, MicrogridId, MilliwattHours, Quarter
from commonwatt.protocol.heartbeats import Heartbeat
from utility.energy.quarters import Quantity, SettledQuality, SettledQuarters
from utility.exports.selection import HeldMeter, Resolution, intervals, is_held
from utility.lasting.rules import OLD_S
from utility.readings.flows import Adding, EnergyLine, Flows, StoredLevel, by_source, measured_in, newest_levels
from utility.settlement.shared_quarter import QuarterShare
from utility.webkit.console.plots import line


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A meter of an account, and what it records."""

    held: HeldMeter  # when the account had it
    kinds: frozenset[RecordType]  # its record types


@dataclass(frozen=True, kw_only=True, eq=False)
class Course(Flows):
    """The energies of an account by quarter-hour: taken from, and given to, the town and the microgrid."""

    newest: StoredLevel | None  # the newest level of its batteries; ``None``: none is known in this time

    @property
    def whole(self) -> "Course":
        """The course of the quarters of which the use is known, so that its sums add up; of none: all of it."""
        there = self.used.is_whole
        if not there.any():
            return self
        parts = {name: getattr(self, name) for name in ("sun", "taken", "given")}
        kept = {n: replace(each, energy=each.energy * there, slots=each.slots * there) for n, each in parts.items()}
        return replace(self, **kept)

    @property
    def until(self) -> Quarter | None:
        """The quarter after the last one with a reading; ``None``: there is no reading."""
        lines = (self.sun, self.taken, self.given, self.level)
        there = np.flatnonzero(np.sum([line.slots for line in lines], axis=0))
        return self.first + int(there[-1]) + 1 if len(there) else None


def course_of(blocks: Blocks, recordings: Sequence[Recording], first: Quarter, end: Quarter) -> Course:
    """Return the energies of an account in the quarters ``first`` to before ``end``.

    Args:
        blocks: The joined blocks of its meters, from the quarter before ``first`` on.
        recordings: Its meters.
        end: The quarter after the last.
    """
    quarters = np.arange(first - 1, end)
    adding = Adding(measured_in(blocks, first - 1, len(quarters)), len(quarters))
    levels, newest = newest_levels(blocks), list[StoredLevel | None]()
    for meter in sorted({one.held.meter for one in recordings}):
        its = [one for one in recordings if one.held.meter == meter]
        there = is_held(np.array([meter], np.uint64), quarters, [one.held for one in its])
        adding.add(meter, its[0].held.direction, its[0].kinds, there)
        if RecordType.STORED in its[0].kinds and there[-1]:
            level = levels.get(meter)
            is_own = level is not None and (level.time - 1) // QUARTER_S in quarters[there]
            newest.append(level if is_own else None)
    known = [level for level in newest if level is not None]
    together = StoredLevel(energy=sum(one.energy for one in known), time=min((one.time for one in known), default=0))
    return Course(first=first, newest=together if known and len(known) == len(newest) else None, **adding.lines)


@dataclass(frozen=True, kw_only=True)
class LineSum:
    """A sum of a line over some time."""

    energy: MilliwattHours | None  # milliwatt-hours, of the slots that have a reading; ``None``: none has one
    permille: int  # slots with a reading, thousandths of those expected


@dataclass(frozen=True, kw_only=True)
class CourseSums:
    """The sums of a course over some time; ``None``: the account had no meter for it."""

    start: EpochSeconds  # its first second
    solar: LineSum | None  # generated
    used: LineSum | None  # what the place used
    taken: LineSum | None  # from the town and the microgrid
    given: LineSum | None  # to the town and the microgrid

    @property
    def all(self) -> list[tuple[str, LineSum]]:
        """The sums that there are, with their words."""
        named = (("Solar", self.solar), ("Used", self.used), ("Taken", self.taken), ("Given", self.given))
        return [(name, figure) for name, figure in named if figure is not None]


def figures_of(course: Course, first: Quarter, end: Quarter) -> CourseSums:
    """Return the sums of a course in the quarters ``first`` to before ``end``."""
    span = slice(first - course.first, end - course.first)
    return CourseSums(
        start=first * QUARTER_S,
        solar=_figure(course.sun, span),
        used=_figure(course.used, span),
        taken=_figure(course.taken, span),
        given=_figure(course.given, span),
    )


def _figure(line: EnergyLine, span: slice) -> LineSum | None:
    energy, slots, expected = (int(values[span].sum()) for values in (line.energy, line.slots, line.expected))
    if not expected:
        return None
    return LineSum(energy=energy if slots else None, permille=slots * 1000 // expected)


@dataclass(frozen=True, kw_only=True)
class Helping:
    """Sharing of an account's batteries in some time; neighbours are counted and never named (C4)."""

    helped: int  # places whose batteries received while an own battery gave
    helping: int  # places whose batteries gave while an own battery received
    given: MilliwattHours  # what the own batteries gave
    permille: int | None  # of what all batteries of the microgrid gave; ``None``: none gave


def helped_now(heartbeat: Heartbeat | None, meter: MeterId, now: EpochSeconds, writing: Writing = DOLLARS) -> str:
    """Return who helps a battery below its minimum, a sentence, by what its gateway said last."""
    if heartbeat is None or now - heartbeat.time > OLD_S or meter not in heartbeat.sharing:
        return writing.say("Its gateway does not say now who helps it.")
    reason = reason_of_code(heartbeat.sharing[meter], heartbeat.band_permille, writing)
    helpers = sum(reason_of_code(each, 0).role == "gives" for each in heartbeat.sharing.values())
    if reason.role != "receives" or not helpers:
        return reason.why
    if helpers == 1:
        return writing.say("A neighbour's battery helps it.")
    return writing.say("{count} of the neighbours' batteries help it.", count=helpers)


def helping(rows: Iterable[QuarterShare], held: Sequence[HeldMeter]) -> Helping:
    """Return how an account's batteries helped and were helped.

    Args:
        rows: What the batteries of its microgrids shared.
        held: When the account had which meter.
    """
    quarters: dict[tuple[Quarter, MicrogridId], tuple[list[QuarterShare], list[QuarterShare]]] = defaultdict(
        lambda: ([], [])
    )
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


def by_day(settled: SettledQuarters, held: Sequence[HeldMeter], zone: ZoneInfo) -> list[SettledSums]:
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


def settled_until(settled: SettledQuarters, held: Sequence[HeldMeter]) -> Quarter | None:
    """Return the quarter after an account's last settled one; ``None``: none is settled."""
    quarters = settled.first + np.arange(settled.quality.shape[1])
    there = is_held(settled.meters[:, None], quarters[None, :], held) & (settled.version > 0)
    last = np.flatnonzero(there.any(axis=0))
    return int(quarters[last[-1]]) + 1 if len(last) else None


HOME_LOOKS: Mapping[PowerFlow, FlowLook] = {
    **LOOKS,
    PowerFlow.BATTERY: replace(LOOKS[PowerFlow.BATTERY], words="your battery"),
    PowerFlow.PLANT: replace(LOOKS[PowerFlow.PLANT], words="grid and neighbours"),
    PowerFlow.USE: replace(LOOKS[PowerFlow.USE], words="your home"),
}
"""The flows as a household knows them: readings do not tell the grid's energy from neighbours', settlement does."""

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
    use = course.used
    whole = np.flatnonzero(use.is_whole)
    if not len(whole):
        return None
    at = int(whole[-1])
    # A battery whose level jumps makes a use below 0, which has no source.
    used = float(np.maximum(0, use.energy[whole]).sum())
    own = max(0, used - float(course.taken.energy[whole].sum()))
    net, charge = int(course.taken.energy[at] - course.given.energy[at]), int(course.charge.energy[at])
    flows = [(PowerFlow.PLANT, net)]
    if course.sun.expected.any():
        flows.append((PowerFlow.SUN, int(course.sun.energy[at])))
    if course.charge.expected.any():
        flows.append((PowerFlow.BATTERY, -charge))
    return HomeNow(
        start=(course.first + at) * QUARTER_S,
        use_w=int(use.energy[at]) * _WATTS,
        parts=[(flow, abs(energy) * _WATTS, energy >= 0) for flow, energy in flows],
        own_permille=1000 * own / used if used > 0 else None,
    )


def sources_of(course: Course) -> dict[PowerFlow, Any]:
    """Return where the use of each quarter-hour came from, milliwatt-hours: sun, battery, then others."""
    found = by_source(course.used.energy, course.sun.energy, course.charge.energy)
    return {flow: found[flow] for flow in (PowerFlow.SUN, PowerFlow.BATTERY, PowerFlow.PLANT)}


def day_series(course: Course) -> list[dict[str, Any]]:
    """Return a day's use by source, kW by quarter-hour; a quarter-hour that lacks a reading is a gap."""
    use = course.used
    if not use.expected.any():
        return []
    starts = [(course.first + n) * QUARTER_S for n in range(len(use.energy))]
    rows = {flow: [round(v * _KILOWATTS, 4) if w else None for v, w in zip(energy.tolist(), use.is_whole, strict=True)]
            for flow, energy in sources_of(course).items()}  # fmt: skip
    return stacked(rows, starts, QUARTER_S, "kW")


def stacked(
    rows: Mapping[PowerFlow, Sequence[float | None]], starts: Sequence[EpochSeconds], step_s: int, unit: str
) -> list[dict[str, Any]]:
    """Return series that lie one upon the other in a plot; those of nothing are left out."""
    return [
        line(
            "the grid" if PowerFlow.NEIGHBOURS in rows and flow is PowerFlow.PLANT else HOME_LOOKS[flow].words,
            unit,
            list(starts),
            step_s,
            list(high),
        )
        | {"flow": flow, "missing": 0}
        for flow, high in rows.items()
        if any(high) or flow is PowerFlow.PLANT
    ]
