"""What a controller does by itself to save bytes, and why; what the utility has set is never changed.

Reasons are the line's forecast (the ladder), a filling disk, a growing backlog, and a utility that lags. Each wants
measures; a measure is in force while any reason wants it, in all microgrids that the controller hosts.
"""

import json
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace

from commonwatt.model.control import (
    AVERAGED,
    BACKLOG,
    DISK,
    LINE,
    REASONS,
    SETTLED_S,
    UTILITY,
    Aggregation,
    LineRate,
    RelayedDays,
    Relaying,
    SavingMeasure,
    line_of,
)
from commonwatt.model.effects import Effect, Write
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import LOW_BYTES, QUARTER_S, ControllerId, EpochSeconds
from commonwatt.protocol.batches import SLOW_S
from gateway.line.line import MOST_STEPS, STEPS, Ladder, LineCounter, Outlook, month_left_s, outlook
from gateway.store.changes import Change, KeptSettings, Setting

SPACED_S = 900  # least seconds between two changes of a reason
FULL_WITHIN_S = 7 * 86_400  # a disk that is full within these seconds is a reason; it ends at twice as many
DISK_EVERY_S = 3_600  # seconds between two samples of the disk's free space
DISK_SAMPLES = 25  # samples that give the present rate: a day
ENOUGH_SAMPLES = 7  # samples without which there is no rate: six hours
GROWING_QUARTERS = 4  # quarter-hours in a row in which the backlog grew, or did not, that begin or end the reason


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A reason to save, that begins and ends at most once in a quarter-hour."""

    on: bool = False  # whether it holds
    since: EpochSeconds = 0  # when it last began or ended

    def to(self, wanted: bool | None, now: EpochSeconds) -> "Reason":
        """Return the reason after it was judged; ``None``: as before."""
        if wanted is None or wanted == self.on or 0 <= now - self.since < SPACED_S:
            return self
        return Reason(on=wanted, since=now)


class FillingDisk:
    """Judges from samples of a day when the disk will be full."""

    def __init__(self) -> None:
        self._samples: deque[tuple[EpochSeconds, int]] = deque(maxlen=DISK_SAMPLES)

    def judge(self, free_bytes: int, now: EpochSeconds) -> bool | None:
        """Return whether the disk is full within a week at the present rate; ``None``: not known, or nearly so."""
        if self._samples and now < self._samples[-1][0]:
            self._samples.clear()  # The clock was set back.
        if not self._samples or now - self._samples[-1][0] >= DISK_EVERY_S:
            self._samples.append((now, free_bytes))
        if len(self._samples) < ENOUGH_SAMPLES:
            return None
        begin, free_then = self._samples[0]
        left, taken = free_bytes - LOW_BYTES, free_then - free_bytes
        if taken <= 0:
            return left <= 0
        left_s = left * (now - begin) // taken
        return None if FULL_WITHIN_S <= left_s < 2 * FULL_WITHIN_S else left_s < FULL_WITHIN_S


class GrowingBacklog:
    """Compares the least backlog of each quarter-hour with that of the one before."""

    def __init__(self) -> None:
        self._quarter = 0
        self._least: int | None = None
        self._before: int | None = None
        self._run = 0  # quarter-hours in a row with the same answer
        self._grew = False

    def judge(self, parts: int, now: EpochSeconds) -> bool | None:
        """Return whether the backlog has grown for an hour; ``None``: neither that nor the opposite."""
        if now // QUARTER_S != self._quarter:
            if self._least is not None and self._before is not None:
                grew = self._least > self._before
                self._run = self._run + 1 if grew == self._grew else 1
                self._grew = grew
            self._quarter, self._before, self._least = now // QUARTER_S, self._least, None
        self._least = parts if self._least is None else min(self._least, parts)
        return self._grew if self._run >= GROWING_QUARTERS else None


OVERLOADS: Mapping[str, SavingMeasure] = {
    DISK: SavingMeasure.METERS,
    BACKLOG: SavingMeasure.METERS,
    UTILITY: SavingMeasure.QUARTERS,
}
"""The measure of each reason but the line's."""

_WHY = {
    DISK: "it is full within a week at the present rate",
    BACKLOG: "it has grown for an hour",
    UTILITY: "it lags behind",
}

LONG_PUT_S = 300  # seconds between the puts of meters in the ladder's third step
_SETTING = "saving"

# By how much the meters' side grows without a measure there, as a part of what it is: measured at emulated houses
# (docs/lte.md), the fuller direction, rounded up.
_GROWTH_AT_METERS = {SavingMeasure.METERS: 0.5, SavingMeasure.PUTS: 0.6}


Relays = Collection[tuple[RelayedDays | None, int]]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the judgement needs of the controller."""

    free_bytes: int  # free bytes on the disk; 0: not known yet
    backlog_parts: int  # parts of the own microgrid that the utility has not acknowledged
    slow_until: EpochSeconds  # until when the utility wants whole quarter-hours
    relays: Relays  # what each microgrid's relay sent, and its period, seconds


class Saving:
    """Judges the reasons, and keeps them over a restart.

    Args:
        store: The store of the controller's own microgrid.
        saves: The setting of that name.
    """

    def __init__(self, store: KeptSettings, controller: ControllerId, saves: str) -> None:
        kept = json.loads(store.setting(_SETTING) or "{}")
        self.ladder = Ladder(**kept.get(LINE, {}))
        self.reasons = {name: Reason(**kept.get(name, {})) for name in OVERLOADS}
        self._most = MOST_STEPS[saves]
        self._disk, self._backlog = FillingDisk(), GrowingBacklog()
        digits = "".join(filter(str.isdecimal, controller))
        self._late_s = int(digits or "0") % (QUARTER_S - SETTLED_S)
        self._held_until: EpochSeconds | None = None

    @property
    def wanted(self) -> dict[str, tuple[SavingMeasure, ...]]:
        """The measures that each reason in force wants."""
        found = {LINE: self.ladder.measures[: self._most]}
        found |= {name: (OVERLOADS[name],) for name, reason in self.reasons.items() if reason.on and self._most}
        return {name: measures for name, measures in found.items() if measures}

    @property
    def measures(self) -> frozenset[SavingMeasure]:
        """The measures in force."""
        return frozenset(measure for measures in self.wanted.values() for measure in measures)

    @property
    def relay(self) -> str:
        """How the controller itself wants relayed data to be aggregated."""
        if SavingMeasure.AVERAGES in self.measures:
            return "lossy"
        return "lossless" if SavingMeasure.QUARTERS in self.measures else "none"

    @property
    def late_s(self) -> int:
        """Seconds by which finished quarter-hours are relayed later, so that the controllers do not come at once."""
        return self._late_s if UTILITY in self.wanted else 0

    @property
    def put_s(self) -> int | None:
        """Seconds between puts; ``None``: as set."""
        return LONG_PUT_S if SavingMeasure.PUTS in self.measures else None

    def judge(
        self, line: LineCounter, sight: Sight, now: Now
    ) -> tuple[list[Effect[Change]], Mapping[str, tuple[str, str]]]:
        """Judge all reasons; return the changes of the store, and what has changed with its reason, for people."""
        before = self.ladder, dict(self.reasons)
        noted = self._overload(sight, now) | self._line(line, sight, now)
        if (self.ladder, self.reasons) == before:
            return [], noted
        kept = {LINE: self.ladder} | self.reasons
        text = json.dumps({name: asdict(one) for name, one in kept.items()}, separators=(",", ":"))
        return [Write(Setting(_SETTING, text))], noted

    def _overload(self, sight: Sight, now: Now) -> dict[str, tuple[str, str]]:
        if self._held_until is None:  # What the utility said before a restart is not known any more.
            self._held_until = now + SLOW_S if self.reasons[UTILITY].on else 0
        wanted = {
            DISK: self._disk.judge(sight.free_bytes, now) if sight.free_bytes else None,
            BACKLOG: self._backlog.judge(sight.backlog_parts, now),
            UTILITY: now < max(sight.slow_until, self._held_until),
        }
        noted = {}
        for name, reason in self.reasons.items():
            self.reasons[name] = after = reason.to(wanted[name], now)
            if after.on != reason.on:
                noted[f"saving for {REASONS[name]}"] = ("on", _WHY[name]) if after.on else ("off", "")
        return noted

    def _line(self, line: LineCounter, sight: Sight, now: Now) -> dict[str, tuple[str, str]]:
        today = line.today(now).toordinal()
        if now.trust < Trust.HARDWARE or today == self.ladder.judged or (month := line.month(now)) is None:
            return {}
        since = min(self.ladder.since, today)
        ahead = outlook(line.days(), line.today(now), since, month_left_s(now, line.zone))
        growth = [self._growth(step, ahead, sight.relays) for step in STEPS[: self._most]]
        at_risk = month.level in ("at_risk", "exceeded")
        self.ladder, why = self.ladder.judge(today, ahead, line.allowance, growth, at_risk=at_risk)
        return {f"saving for {REASONS[LINE]}": (f"step {self.ladder.step}", why)} if why else {}

    @staticmethod
    def _growth(step: SavingMeasure, ahead: Outlook | None, relays: Relays) -> LineRate | None:
        """Return the bytes a second that come on top without a measure; ``None``: not known."""
        if ahead is None:
            return None
        if (part := _GROWTH_AT_METERS.get(step)) is not None:
            return ahead.meters[0] * part, ahead.meters[1] * part
        counted = [_growth_of_relay(step, relayed, relay_s) for relayed, relay_s in relays if relayed is not None]
        return (sum(up for up, _ in counted), sum(down for _, down in counted)) if counted else None


def _growth_of_relay(step: SavingMeasure, relayed: RelayedDays, relay_s: int) -> LineRate:
    """Return by how much relaying grows; without averages each reading comes again, for ten of which one came."""
    with_it: Aggregation = "lossless"
    without: Aggregation = "none"
    if step is SavingMeasure.AVERAGES:
        relayed = replace(relayed, slots=relayed.slots * AVERAGED, size=relayed.size * AVERAGED)
        with_it, without = "lossy", "lossless"
    lines = [line_of(relayed, Relaying(relay_s=relay_s, aggregation=one)) for one in (with_it, without)]
    up, down = (max(0.0, more - less) for less, more in zip(*lines, strict=True))
    return up, down
