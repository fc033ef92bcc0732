"""Each microgrid for people: its state in one of four words, its batteries, its times as an island (pure)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from commonwatt.look.sharing_words import BatteryWords, SharingReason, reason_of_code, summary_of
from commonwatt.model.control import BLOCK_S, BLOCKS, STABLE_S
from commonwatt.model.records import State
from commonwatt.model.text import duration
from commonwatt.model.time import Trust
from commonwatt.model.units import ControllerId, EpochSeconds, MeterId, MicrogridId, MilliwattHours
from commonwatt.protocol.heartbeats import Heartbeat
from utility.alarms.conditions import LATE_S, UNMANAGED_S
from utility.readings.gaps import GATEWAY_SILENT_S

BACKLOG_LATE_S = 1_800  # age of the oldest waiting reading from which on a microgrid is late
BACKLOG_OLD_S = 86_400  # the same for an alarm, as in the rule ``CommonwattBacklogOld``


_CUT_OFF = State.DEAD_FEEDER | State.ISOLATED | State.SWITCH_OPEN | State.OFF_GRID
_CLOSES = f"its switch closes {STABLE_S // 60} to {(STABLE_S + BLOCK_S * BLOCKS) // 60} min"


class MicrogridCondition(StrEnum):
    """The state of a microgrid, the gravest that applies; in the order of gravity."""

    ALARM = "alarm"
    ISLANDED = "islanded"
    LATE = "late"
    FRESH = "fresh"

    @property
    def words(self) -> str:
        """The state, for people."""
        return "well" if self is MicrogridCondition.FRESH else self.value


BADGES = {
    MicrogridCondition.ALARM: "bad",
    MicrogridCondition.ISLANDED: "warning",
    MicrogridCondition.LATE: "warning",
    MicrogridCondition.FRESH: "good",
}
"""How pages mark each state."""


@dataclass(frozen=True, kw_only=True)
class MicrogridFacts:
    """What the utility last received of a microgrid."""

    microgrid: ControllerId  # its name
    number: int  # the number of its controller
    kind: str  # residential, apartment or public
    seen: EpochSeconds | None = None  # when its gateway's last heartbeat came; ``None``: never
    heartbeat: Heartbeat | None = None  # the heartbeat; ``None``: there is none that can be read
    last_batch: EpochSeconds | None = None  # when its last batch came; ``None``: never
    open_gaps: int = 0  # blocks with slots that are still requested
    conflicts: int = 0  # slots with several values
    boundary: int = 0  # the state bits of its boundary, by its meters' last events; 0: as usual
    boundary_since: EpochSeconds | None = None  # since when; ``None``: no event
    refused: str | None = None  # why its last batch was refused, if it was and none was accepted since
    manager: ControllerId | None = None  # the other controller that manages it; ``None``: its own does, or no one
    unmanaged_s: int = 0  # seconds for which no controller that can command it was heard; 0: one is
    is_closed: bool = False  # whether all of its meters were removed: nothing is expected of its gateway


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A microgrid on the page of the town."""

    microgrid: ControllerId  # its name
    kind: str  # residential, apartment or public
    condition: MicrogridCondition  # its state
    why: str  # the reasons, for people; empty if all is as usual
    battery: str  # its batteries' levels above their minima, a name of ``BATTERY_STEPS``
    level: int | None  # its batteries' mean level, percent in steps of 5; ``None``: none is known
    heard: str  # how long ago its gateway was heard, a name of ``HEARD_STEPS``
    line: str  # its LTE line this month: unknown, ok, at_risk or exceeded

    @property
    def words(self) -> str:
        """The name with state and reasons."""
        return f"{self.microgrid}, {self.condition.words}" + (f": {self.why}" if self.why else "")


BATTERY_STEPS = {"below": 0, "low": 100, "half": 300, "high": 1001}
"""By name, the thousandths of the capacity above the mean minimum up to which the mean level has this name."""

HEARD_STEPS = {"now": LATE_S, "minutes": GATEWAY_SILENT_S, "hour": 3_600}
"""By name, the age of the last message, seconds, up to which it has this name; ``long`` after that."""


def _battery(levels: list[int], minima: list[int]) -> str:
    """Return the step of the mean level above the mean minimum; ``unknown`` without a level or a minimum."""
    if not levels or not minima:
        return "unknown"
    above = sum(levels) / len(levels) - 10 * sum(minima) / len(minima)
    return next(name for name, most in BATTERY_STEPS.items() if above < most)


def _heard(facts: MicrogridFacts, now: EpochSeconds) -> str:
    age_s = now if facts.seen is None else now - facts.seen
    return next((name for name, most_s in HEARD_STEPS.items() if age_s <= most_s), "long")


def cell(facts: MicrogridFacts, now: EpochSeconds) -> Cell:
    """Return the cell of a microgrid."""
    beat = facts.heartbeat
    line = None if beat is None else beat.lte
    levels = [] if beat is None else [level for level in beat.levels if level is not None]
    minima = [] if beat is None else [percent for percent, _ in beat.minima.values()]
    reasons = list(_reasons(facts, now))
    condition = min((c for c, _ in reasons), key=list(MicrogridCondition).index, default=MicrogridCondition.FRESH)
    return Cell(
        microgrid=facts.microgrid,
        kind=facts.kind,
        condition=condition,
        why="; ".join(why for _, why in sorted(reasons, key=lambda reason: list(MicrogridCondition).index(reason[0]))),
        battery=_battery(levels, minima),
        level=5 * round(sum(levels) / len(levels) / 50) if levels else None,
        heard=_heard(facts, now),
        line="unknown" if line is None else line.level,
    )


def count(cells: Iterable[Cell]) -> dict[MicrogridCondition, int]:
    """Return how many microgrids are in each state."""
    counts = dict.fromkeys(MicrogridCondition, 0)
    for c in cells:
        counts[c.condition] += 1
    return counts


def island_words(facts: MicrogridFacts, now: EpochSeconds) -> str | None:
    """Return why a microgrid is cut off from the town; ``None``: it is not, as far as its boundary reported."""
    bits, beat = facts.boundary, facts.heartbeat
    if facts.is_closed or not bits & _CUT_OFF:
        return None
    if bits & State.DEAD_FEEDER:
        return "its feeder has no voltage"
    if beat is not None and "isolate" in beat.ends:
        return "isolated by command"
    # Its gateway holds the switch open until the voltage has been stable.
    if bits & State.ISOLATED and facts.boundary_since is not None:
        back = duration(max(0, now - facts.boundary_since))
        return f"its voltage has been back for {back}; {_CLOSES} after that, if it stays"
    return "its boundary switch is open"


def _reasons(facts: MicrogridFacts, now: EpochSeconds) -> Iterator[tuple[MicrogridCondition, str]]:
    if facts.is_closed:
        return
    if facts.unmanaged_s > UNMANAGED_S:
        yield MicrogridCondition.ALARM, f"no controller has managed it for {facts.unmanaged_s // 60} min"
    elif facts.manager is not None:
        yield MicrogridCondition.FRESH, f"managed by {facts.manager}"
    if facts.seen is None:
        yield MicrogridCondition.LATE, "its gateway has not reported yet"
        return
    silent_s = now - facts.seen
    if silent_s > GATEWAY_SILENT_S:
        yield MicrogridCondition.ALARM, f"its gateway has been silent for {silent_s // 60} min"
    elif silent_s > LATE_S:
        yield MicrogridCondition.LATE, f"no message for {silent_s} s"
    if facts.refused is not None:
        yield MicrogridCondition.ALARM, f"its batches are refused: {facts.refused}"
    if (why := island_words(facts, now)) is not None:
        yield MicrogridCondition.ISLANDED, why
    if facts.heartbeat is not None:
        yield from _reported(facts.heartbeat)


def _reported(heartbeat: Heartbeat) -> Iterator[tuple[MicrogridCondition, str]]:
    if heartbeat.lte is not None and heartbeat.lte.level == "exceeded":
        yield MicrogridCondition.ALARM, "its LTE line carried more than its plan allows this month"
    if heartbeat.trust < Trust.HARDWARE:
        yield MicrogridCondition.ALARM, "its gateway has no trusted time"
    age_s = heartbeat.backlog_age_s
    if age_s > BACKLOG_OLD_S:
        yield MicrogridCondition.ALARM, f"readings have waited for {age_s // 3600} hours at its gateway"
    elif age_s > BACKLOG_LATE_S:
        yield MicrogridCondition.LATE, f"readings have waited for {age_s // 60} min at its gateway"


@dataclass(frozen=True, kw_only=True)
class BatteryFacts:
    """What the utility knows of a battery."""

    meter: MeterId  # its meter's id
    place: str  # its place
    capacity: MilliwattHours  # milliwatt-hours
    minimum_percent: int | None  # the minimum that its meter reported, or else the town file's; ``None``: neither
    # The level on which its gateway decided, or else the last among the readings; ``None``: neither of the last hours.
    level: MilliwattHours | None = None
    level_time: EpochSeconds | None = None  # when

    @property
    def minimum(self) -> MilliwattHours | None:
        """The minimum; rounded up, as gateways do."""
        return None if self.minimum_percent is None else -(-self.capacity * self.minimum_percent // 100)

    @property
    def distance(self) -> float | None:
        """How far its level is above its minimum, as a part of its capacity; ``None``: it is not known."""
        if self.level is None or self.minimum is None:
            return None
        return (self.level - self.minimum) / self.capacity


@dataclass(frozen=True, kw_only=True)
class BatteryLine:
    """A battery on the page of its microgrid."""

    facts: BatteryFacts  # what is known of it
    words: BatteryWords  # its role and the reason


def battery_lines(batteries: Iterable[BatteryFacts], heartbeat: Heartbeat | None) -> list[BatteryLine]:
    """Return the batteries with their gateway's reasons: the nearest to its minimum first, unknown ones last.

    A level on which the gateway decided takes the place of the last one among the readings.
    """
    decided = [_decided(battery, heartbeat) for battery in batteries]
    lines = [BatteryLine(facts=battery, words=_words(battery, heartbeat)) for battery in decided]
    return sorted(lines, key=lambda line: (line.facts.distance is None, line.facts.distance or 0, line.facts.meter))


def sharing_summary(lines: Iterable[BatteryLine], heartbeat: Heartbeat | None) -> str:
    """Return in a sentence or two which batteries share, and why."""
    words = [line.words for line in lines]
    if words and (heartbeat is None or not heartbeat.sharing):
        return "Its gateway has not said why its batteries share or not; one of an earlier version never does."
    return summary_of(words)


def _decided(battery: BatteryFacts, heartbeat: Heartbeat | None) -> BatteryFacts:
    """Return a battery with the level on which its gateway decided, if it said one."""
    levels = {} if heartbeat is None else dict(zip(heartbeat.sharing, heartbeat.levels, strict=False))
    level = levels.get(battery.meter)
    if heartbeat is None or level is None:
        return battery
    return replace(battery, level=level * battery.capacity // 1000, level_time=heartbeat.time)


def _words(battery: BatteryFacts, heartbeat: Heartbeat | None) -> BatteryWords:
    reason = SharingReason("out", "Its gateway has not said.")
    if heartbeat is not None and (code := heartbeat.sharing.get(battery.meter)) is not None:
        reason = reason_of_code(code, heartbeat.band_permille)
    return BatteryWords(
        meter=str(battery.meter),
        place=battery.place,
        role=reason.role,
        why=reason.why,
        level=battery.level,
        minimum=battery.minimum,
        capacity=battery.capacity,
    )


def helping(facts: Iterable[MicrogridFacts]) -> list[tuple[MicrogridId, int, int]]:
    """Return the microgrids with batteries that need help now: the name, how many give it, and how many need it."""
    needing = []
    for m in facts:
        beat = m.heartbeat
        roles = (
            [] if beat is None else [reason_of_code(code, beat.band_permille).role for code in beat.sharing.values()]
        )
        if "receives" in roles:
            needing.append((m.microgrid, roles.count("gives"), roles.count("receives")))
    return needing


ISLAND = State.DEAD_FEEDER | State.SWITCH_OPEN | State.ISOLATED  # bits of a boundary that is not closed
ROWS = {"Island": ISLAND, "Sharing": State.SHARING, "Reducing": State.REDUCING}
"""The rows of a timeline, and the bits of which a meter in the row has one."""


@dataclass(frozen=True, kw_only=True)
class StateChange:
    """A meter's state from a time on."""

    meter: int  # a number of the meter
    time: EpochSeconds  # when it began
    bits: int  # the state


@dataclass(frozen=True, kw_only=True)
class StateSpan:
    """A time in which at least one meter had a state."""

    begin: EpochSeconds  # its begin; the timeline's, if it began before
    end: EpochSeconds  # its end; the timeline's, if it lasted on
    most: int  # the most meters that had it at once


def spans(changes: Iterable[StateChange], mask: int, begin: EpochSeconds, end: EpochSeconds) -> list[StateSpan]:
    """Return the times in ``[begin, end)`` in which a meter had one of the bits of ``mask``.

    Args:
        changes: The changes of all meters; the last of each meter before ``begin`` says how it began.
    """
    stretches: list[StateSpan] = []
    having: set[int] = set()
    since, most = begin, 0
    for change in sorted(changes, key=lambda c: c.time):
        time = max(begin, change.time)
        if time >= end:
            break
        before = bool(having)
        (having.add if change.bits & mask else having.discard)(change.meter)
        if having and not before:
            since, most = time, 0
        elif before and not having and time > since:
            stretches.append(StateSpan(begin=since, end=time, most=most))
        most = max(most, len(having))
    if having:
        stretches.append(StateSpan(begin=since, end=end, most=most))
    return stretches
