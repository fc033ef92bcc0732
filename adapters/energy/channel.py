"""One record type of one meter: from a value and its time to slots, whatever its kind.

A channel's fields are its whole state. They are committed with the records made from it, so that a crash neither
loses a slot nor makes it twice.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from pydantic import TypeAdapter

from adapters.energy.counter import (
    TOGETHER_MS,
    WINDOW_MS,
    CountedEnergy,
    Counter,
    CounterLimits,
    EpochMilliseconds,
    Point,
    Read,
    SampleOutcome,
    SlotRun,
    Spread,
    SteppedValue,
)
from commonwatt.model.records import RecordType
from commonwatt.model.units import MilliwattHours

FALLBACK_MS = 600_000  # milliseconds without the preferred source of a value after which the next one counts
_ABSENT_MS = 600_000  # milliseconds without a value after which messages that come together may have waited at a broker
_ROOM_MS = 600_000  # milliseconds after a time without a message in which messages of that time may still come
# Most milliseconds by which messages may arrive before the last one, by a clock that was corrected.
_SET_BACK_MS = 5_000

PENDING_MS = 1_200_000
"""Milliseconds after which the slots of a counter below its highest reading are averages or missing.

With the next sample 5 min later, and delivery, this is before the utility asks for a missing slot (``gap_age_s``).
"""

_AHEAD_MS = 7_200_000
"""Most milliseconds of waiting for the time of the last value; the gateway rejects records that are further ahead."""

# A power of 1 mW for 1 ms is this part of a milliwatt-hour; the mean of two powers needs halves.
_HALF_MW_MS = 7_200_000


class Ignored(StrEnum):
    """Why a value is not used."""

    NOT_PREFERRED = "another rule is preferred"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out of order"
    CLOCK = "the adapter's clock was set back"
    INCOMPLETE = "waits for the other topics of the sum"
    IMPOSSIBLE = "above the rated power, or far above the capacity"


class TimedValue(NamedTuple):
    """A value with its times."""

    value: int  # milliwatt-hours or milliwatts
    arrival: EpochMilliseconds  # when its message arrived
    # The device's own time, which may be later than the arrival; ``None``: it has none that counts.
    device: EpochMilliseconds | None = None
    rank: int = 0  # place of its rule in the order of preference
    part: int = 0  # which number of a sum
    parts: int = 1  # how many numbers are added up
    restart_mark: str | None = None  # a value that changes when the register is set back
    difference: bool = False  # whether it is a difference of two registers
    # Of a counter that comes in several messages, which part has its lowest digits; ``None``: of sums, or one message.
    lowest: int | None = None


class TakenValue(NamedTuple):
    """What became of a value."""

    outcome: SampleOutcome | Ignored  # its outcome, or why it was ignored
    runs: dict[RecordType, list[SlotRun]]  # the slots that are complete now, by record type
    missing_ms: EpochMilliseconds = 0  # length of a gap too long to be spread; its slots are missing


@dataclass(kw_only=True)
class Channel:
    """The state of one record type of one meter; its fields are stored."""

    rank: int = 0  # place of the rule in use
    difference: bool = False  # whether a difference of two registers was used; one of them alone then has no meaning
    at: EpochMilliseconds = 0  # time of the last value used, epoch milliseconds
    arrived: EpochMilliseconds = 0  # arrival of the last value of that rule
    device: EpochMilliseconds = 0  # the last device's time used, at most the arrival; 0: none
    # That time as the device reported it, and the value; a message that comes twice has both again.
    reported: tuple[EpochMilliseconds, int] = (0, 0)
    parts: dict[int, int] = field(default_factory=dict)  # the last number of each topic of a sum
    fresh: list[int] = field(default_factory=list)  # the topics of a sum with a message since the last sum
    restart_mark: str | None = None  # the last value that changes when the register is set back
    restarted: bool = False  # whether the device reported a restart since the last value
    uptime: int = 0  # the last number that falls when the device restarts
    counter: Counter = field(default_factory=Counter)  # the counter of a register
    spread: Spread | None = None  # its energy over slots
    steps: SteppedValue | None = None  # a register as read, or a level
    power: int = 0  # the last power, milliwatts
    rest: int = 0  # energy below a milliwatt-hour, in halves of mW ms
    exchanged: EpochMilliseconds = 0  # the last exchange of the device that was considered
    room: MilliwattHours = 0  # energy that the rated power allowed before ``room_at``, and that no interval has had
    room_at: EpochMilliseconds = 0  # when the time ended in which that energy may have flowed
    # The first and the last of points that came together after an absence, and are not spread yet.
    late: list[CountedEnergy] = field(default_factory=list)

    def begin_again(self, exchanged: EpochMilliseconds, now: EpochMilliseconds) -> None:
        """Begin anew with another device, once for each exchange; the energy between the two is not counted."""
        if self.exchanged < exchanged <= now:
            self.exchanged = exchanged
            self.counter = Counter(total=self.counter.total)
            self.parts, self.fresh = {}, []
            self.restart_mark = None
            self.difference = False
            self.device, self.reported = 0, (0, 0)

    def restarts(self, uptime: int | None) -> bool:
        """Take a report of the device's uptime, ``None``: of its start; return whether the device restarted."""
        restarted = uptime is None or uptime < self.uptime
        self.restarted, self.uptime = self.restarted or restarted, uptime or 0
        return restarted

    def set_back(self, now: EpochMilliseconds) -> bool:
        """Begin anew if the last values came from a clock that was far ahead; return whether they did.

        The energy between the last value and the next one is not counted: its time is not known.
        """
        if self.at - now <= _AHEAD_MS:
            return False
        self.counter = Counter(total=self.counter.total)
        self.at = self.arrived = self.device = self.room = 0
        self.reported = (0, 0)
        self.spread, self.steps, self.late = None, None, []
        return True


@dataclass(frozen=True, kw_only=True)
class ChannelRule:
    """What a channel needs of its rule."""

    kind: str  # register, interval, power or level
    record_type: RecordType  # the record type
    limits: CounterLimits  # what its counter can do
    longest_gap_ms: int  # energy of a longer time without a value is not spread
    highest: int  # the highest power, milliwatts, or level, milliwatt-hours


def take(channel: Channel, rule: ChannelRule, value: TimedValue) -> TakenValue:
    """Take a value, and change the channel."""
    ignored = _choose(channel, value)
    if ignored is None and value.parts > 1 and not _adds_up(channel, value):
        ignored = Ignored.INCOMPLETE
    at = _time_of(channel, value) if ignored is None else ignored
    if isinstance(at, Ignored):
        return TakenValue(at, {})
    if value.restart_mark is not None:
        channel.restarted |= channel.restart_mark not in (None, value.restart_mark)
        channel.restart_mark = value.restart_mark
    number = sum(channel.parts.values()) if value.parts > 1 else value.value
    if rule.kind != "register" and not -rule.highest <= number <= _highest(channel, rule, at):
        return TakenValue(Ignored.IMPOSSIBLE, {})
    taken = _TAKE[rule.kind](channel, rule, at, number)
    channel.at = at
    if value.device is not None:
        channel.device, channel.reported = min(value.device, value.arrival), (value.device, value.value)
    return taken


def _adds_up(channel: Channel, value: TimedValue) -> bool:
    """Return whether each number of a sum came since the last sum, or one came again: the others did not change."""
    if value.lowest is not None:
        return _agrees(channel, value, channel.parts.get(value.part))
    again = value.part in channel.fresh
    channel.parts[value.part] = value.value
    channel.fresh.append(value.part)
    if len(channel.parts) < value.parts or not (again or len(channel.fresh) == value.parts):
        channel.fresh = sorted(set(channel.fresh))
        return False
    channel.fresh = [value.part] if again else []
    return True


def _agrees(channel: Channel, value: TimedValue, before: int | None) -> bool:
    """Return whether the parts of a counter are of one reading."""
    # The lowest part may rise alone. After another change the reading is known when each part has come since: a carry
    # changes two parts, in two messages.
    channel.parts[value.part] = value.value
    is_lowest = value.part == value.lowest
    if not channel.fresh and before is not None and (value.value == before or (is_lowest and value.value > before)):
        return is_lowest
    channel.fresh = sorted({*channel.fresh, value.part})
    if len(channel.fresh) < value.parts:
        return False
    channel.fresh = []
    return True


def _highest(channel: Channel, rule: ChannelRule, at: EpochMilliseconds) -> int:
    if rule.kind != "interval":
        return rule.highest
    return rule.limits.most(at - channel.at) + _room(channel, at)


def _room(channel: Channel, at: EpochMilliseconds) -> MilliwattHours:
    """Return the energy that intervals may have which waited at a broker and come together."""
    return channel.room if at - channel.room_at < _ROOM_MS else 0


def _use_room(channel: Channel, rule: ChannelRule, at: EpochMilliseconds, number: MilliwattHours) -> None:
    """Subtract an interval's energy from what the rated power allows since the last one, or since an absence."""
    left = rule.limits.rated(at - channel.at) - number if channel.at else 0
    room = _room(channel, at)
    if left > room:
        channel.room, channel.room_at = left, at
    else:
        channel.room = max(0, room + min(0, left))


def _choose(channel: Channel, value: TimedValue) -> Ignored | None:
    """Use the preferred source; another one only after a while without it, and only if it means the same."""
    if channel.difference and not value.difference:
        return Ignored.NOT_PREFERRED
    if value.rank > channel.rank and value.arrival - channel.arrived < FALLBACK_MS and channel.arrived:
        return Ignored.NOT_PREFERRED
    if value.rank != channel.rank:
        channel.parts, channel.fresh = {}, []
    channel.rank, channel.arrived, channel.difference = value.rank, value.arrival, value.difference
    return None


def _time_of(channel: Channel, value: TimedValue) -> EpochMilliseconds | Ignored:
    """Return the device's time, at most the arrival, if it is later than the last value's time, else the arrival."""
    if value.device is not None:
        device = min(value.device, value.arrival)
        if value.parts == 1 and (value.device, value.value) == channel.reported:
            return Ignored.DUPLICATE
        if device > channel.at:
            return device
        if device <= channel.device and value.parts == 1:
            return Ignored.DUPLICATE if device == channel.device else Ignored.OUT_OF_ORDER
    if value.arrival > channel.at:
        return value.arrival
    # Messages that come together have times of their own, a millisecond apart.
    return channel.at + 1 if channel.at - value.arrival < _SET_BACK_MS else Ignored.CLOCK


def _take_register(channel: Channel, rule: ChannelRule, at: EpochMilliseconds, number: int) -> TakenValue:
    outcome, points = channel.counter.take(Read(at, number), rule.limits, restarted=channel.restarted)
    # A report says nothing of a fall after the first reading that follows it.
    channel.restarted = False
    flows, missing_ms = _spread(channel, rule, _together(channel, points))
    runs = {rule.record_type: flows}
    if rule.record_type is RecordType.THROUGH:
        runs[RecordType.REGISTER] = _step(channel, rule, ((point.at, point.raw) for point in points))
    return TakenValue(outcome, runs, missing_ms)


def _take_interval(channel: Channel, rule: ChannelRule, at: EpochMilliseconds, number: int) -> TakenValue:
    _use_room(channel, rule, at, number)
    # The energy before the first message belongs to a time that is not known.
    is_known = channel.spread is not None
    channel.counter.total += number if is_known else 0
    runs, missing_ms = _spread(channel, rule, _together(channel, [Point(at, channel.counter.total, number)]))
    return TakenValue(SampleOutcome.COUNTED if is_known else SampleOutcome.BEGUN, {rule.record_type: runs}, missing_ms)


def _take_power(channel: Channel, rule: ChannelRule, at: EpochMilliseconds, number: int) -> TakenValue:
    """Integrate by the trapezoidal rule; energy in the other direction counts as none, and a longer gap too."""
    number = max(0, number)
    is_known = channel.spread is not None and at - channel.at <= rule.longest_gap_ms
    if is_known:
        energy, channel.rest = divmod(channel.rest + (channel.power + number) * (at - channel.at), _HALF_MW_MS)
        channel.counter.total += energy
    channel.power = number
    runs, missing_ms = _spread(channel, rule, _together(channel, [Point(at, channel.counter.total, number)]))
    return TakenValue(SampleOutcome.COUNTED if is_known else SampleOutcome.BEGUN, {rule.record_type: runs}, missing_ms)


def _take_level(channel: Channel, rule: ChannelRule, at: EpochMilliseconds, number: int) -> TakenValue:
    return TakenValue(SampleOutcome.COUNTED, {rule.record_type: _step(channel, rule, [(at, max(0, number))])})


_TAKE = {"register": _take_register, "interval": _take_interval, "power": _take_power, "level": _take_level}


def _together(channel: Channel, points: Iterable[Point]) -> Iterator[Point]:
    """Yield the points to spread; of points that come together after an absence, only the last one."""
    # They may have waited at a broker: their energy is of the whole absence, not of the moment in which they came. So a
    # point after an absence waits for the next message. A point below the counter's highest reading says nothing of the
    # flow until it has waited for ``PENDING_MS``.
    for point in points:
        late = channel.late
        if late and not _came_with_late(channel, point.at):
            channel.late = []
            yield Point(*late[-1])
        if point.waits:
            if channel.spread is not None and point.at - channel.spread.at >= PENDING_MS:
                yield point
        elif channel.late or (channel.spread is not None and point.at - channel.spread.at > _ABSENT_MS):
            channel.late = [*channel.late[:1], CountedEnergy(*point[:3])]
        else:
            yield point


def _came_with_late(channel: Channel, at: EpochMilliseconds) -> bool:
    late = channel.late
    return bool(late) and at - late[-1].at < TOGETHER_MS and at - late[0].at < WINDOW_MS


def _spread(channel: Channel, rule: ChannelRule, points: Iterable[Point]) -> tuple[list[SlotRun], EpochMilliseconds]:
    """Spread the energy between points; leave out slots of a gap that is too long."""
    # Left out, too, are slots in which a counter moved below its highest reading: how much flowed is not known.
    runs: list[SlotRun] = []
    missing_ms = 0
    for point in points:
        moved = point.waits and point.raw != channel.counter.fallen
        if channel.spread is not None and (moved or point.at - channel.spread.at > rule.longest_gap_ms):
            missing_ms += point.at - channel.spread.at
            runs += channel.spread.flush()
            # Of its first slot, the part before the point is not known.
            channel.spread = replace(Spread.begin(point.at, point.total), certain=False)
        elif channel.spread is None:
            channel.spread = Spread.begin(point.at, point.total)
        else:
            certain = point.is_certain and not point.waits
            runs += channel.spread.take(point.at, point.total, is_certain=certain)
    return runs, missing_ms


def _step(
    channel: Channel, rule: ChannelRule, values: Iterable[tuple[EpochMilliseconds, MilliwattHours]]
) -> list[SlotRun]:
    """Hold a value until the next; leave out slots of a gap that is too long."""
    runs: list[SlotRun] = []
    for at, value in values:
        if channel.steps is None or at - channel.steps.at > rule.longest_gap_ms:
            channel.steps = SteppedValue.begin(at, value)
        else:
            runs += channel.steps.take(at, value)
    return runs


CHANNEL = TypeAdapter(Channel)  # packs a channel as JSON for the store, and unpacks it
