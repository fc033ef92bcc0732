"""The core of an adapter: messages of foreign meters in, records of our meters out (K5, M9; docs/adapters.md).

It takes a message and the time, and returns effects: changes to commit, then messages to publish. It reads no clock
and has no connection. All its state is in its meters and channels, and is built from the store at a start.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from adapters.arrived import Arrived
from adapters.changes import Change, ChannelChange, HandledChange, Key
from adapters.energy.channel import Channel, Ignored, Taken, Value, take
from adapters.energy.counter import Outcome
from adapters.energy.spread import EpochMilliseconds, Run
from adapters.handled import Handled
from adapters.mapping.readers import Reader, Readers, Reading
from adapters.mapping.times import instant
from commonwatt.config.adapter import AdapterMeter
from commonwatt.device.meter import Meter
from commonwatt.device.records.recording import Reading as Record
from commonwatt.device.timers import Timers
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.ids import MeterId
from commonwatt.model.records import MAX_RECORD_S, RecordType
from commonwatt.model.units import SLOT_S, MicrogridId
from commonwatt.protocol.commands import Kind
from commonwatt.town.town import Battery

# Seconds until the command of a state in force is published again: a device that restarts has forgotten it.
REPEAT_S = 300
KEPT_WRONG = 100  # unreadable messages kept for inspection; the oldest is dropped
KEPT_BYTES = 300  # bytes of each that are kept

Effects: TypeAlias = list[Effect[Change]]

Tally: TypeAlias = Counter[tuple[str, str]]
"""Event counts: (``value``, outcome or reason), (``message``, why it is not used), and the meters' own."""


@dataclass(frozen=True, kw_only=True)
class ForeignMeter:
    """A foreign meter, as the core of a meter needs it (``device.description.Description``)."""

    id: MeterId
    microgrid: MicrogridId
    account: int
    record_types: tuple[RecordType, ...]
    battery: Battery | None
    commandable: frozenset[Kind]
    push: bool = True


class Explained(NamedTuple):
    """What became of one value of a message, for people."""

    reading: Reading  # what the rule found
    taken: Taken | None  # what became of it; ``None``: there was no value


class Wrong(NamedTuple):
    """A message that could not be read."""

    at: EpochMilliseconds  # when it arrived
    topic: str  # its topic
    payload: bytes  # the beginning of its payload
    fault: str  # why it could not be read


class Adapter:
    """The foreign meters of one microgrid."""

    def __init__(
        self,
        *,
        settings: Sequence[AdapterMeter],
        readers: Readers,
        meters: Mapping[MeterId, Meter],
        channels: Mapping[Key, Channel],
        handled: Handled,
        tally: Tally,
    ) -> None:
        self.meters = dict(meters)  # the cores of their meters
        self.channels = dict(channels)  # their channels
        self._handled = handled
        self.tally = tally  # event counts of the adapter and its meters
        self.readers = readers  # their rules
        self._settings = {meter.id: meter for meter in settings}
        self._commandable = [meter for meter in settings if meter.share is not None or meter.reduce is not None]
        self._timers = Timers()
        self.wrong: deque[Wrong] = deque(maxlen=KEPT_WRONG)  # the last messages that could not be read
        self._commanded: dict[tuple[MeterId, Kind], tuple[bool, float]] = {}

    def message(self, message: Arrived) -> Effects:
        """Handle a message of a foreign meter; one that its broker sends again has no effect."""
        if self._handled.take(message):
            self.tally["message", "sent_again"] += 1
            return []
        found = self.explain(message.topic, message.payload, message.at, retained=message.retained)
        effects = [effect for _, effects in found for effect in effects]
        for topic, payload in self.readers.requests(message.at):
            effects.append(Publish(topic, payload, 0))
            self.tally["device_command", "rebirth"] += 1
        # What has no effect needs no commit, and may come again.
        if effects and message.qos:
            effects.append(Write(HandledChange(self._handled)))
        return effects

    def explain(
        self, topic: str, payload: bytes, at: EpochMilliseconds, *, retained: bool
    ) -> Iterator[tuple[Explained | None, Effects]]:
        """Handle a message that arrived at ``at``; yield what became of each of its values, and the effects."""
        if retained:
            # It may be of any age. A broker sends it for each subscription.
            self.tally["message", "retained"] += 1
            return
        for reader, uptime in self.readers.reports(topic, payload):
            channel = self._channel(reader)
            # An uptime that rises is stored with the next value.
            if channel.restarts(uptime):
                yield None, [Write(ChannelChange((reader.meter, reader.record_type), channel))]
        for reading in self.readers.read(topic, payload, at):
            if reading.value is None:
                if reading.fault:
                    self.tally["message", "unreadable"] += 1
                    self.wrong.append(Wrong(at, topic, payload[:KEPT_BYTES], reading.fault))
                yield Explained(reading, None), self._end(reading.reader, at) if reading.has_ended else []
            else:
                yield self._value(reading, reading.value, at)

    def receive(self, meter: MeterId, leaf: str, payload: bytes, now: float) -> Effects:
        """Handle a message of the gateway to one of the meters."""
        effects: Effects = [*self.meters[meter].receive(leaf, payload, now)]
        self._timers.set(meter, self.meters[meter].wake_at)
        return effects

    def boot(self, now: float) -> Effects:
        """Start the meters.

        An adapter that was away measured nothing wrong: the registers went on. So the meters log no loss of power.
        """
        effects: Effects = []
        for meter, core in self.meters.items():
            effects += core.boot(now, power_lost=False)
            self._timers.set(meter, core.wake_at)
        return effects

    def tick(self, now: float) -> Effects:
        """Do the due work of the meters, and publish commands to devices."""
        effects: Effects = []
        for meter in self._timers.due(now):
            effects += self.meters[meter].tick(now)
            self._timers.set(meter, self.meters[meter].wake_at)
        return effects + self.commands(now)

    @property
    def wake_at(self) -> float | None:
        """When ``tick`` is due next; ``None``: not by itself."""
        times = [] if self._timers.next is None else [self._timers.next]
        times += [at + REPEAT_S for on, at in self._commanded.values() if on]
        return min(times, default=None)

    def reconnected(self, session: int) -> Effects:
        """Publish commands again after a new connection (``Arrived.session``), as devices may have missed them."""
        self._commanded.clear()
        self._handled.begin(session)
        return [Write(HandledChange(self._handled))]

    def commands(self, now: float) -> Effects:
        """Return the messages to devices: for desired states that began or ended, and again for those in force.

        After a start, a state that was commanded once is published too, also if it ended meanwhile.
        """
        effects: Effects = []
        for settings in self._commandable:
            meter = settings.id
            core = self.meters[meter]
            commanded = core.commanded(int(core.time(now)))
            for kind, on, table in (
                (Kind.SHARING, commanded.sharing and commanded.weight > 0, settings.share),
                (Kind.REDUCING, commanded.reducing, settings.reduce),
            ):
                never = (False if kind not in core.desired_states.held else None, float("-inf"))
                was, at = self._commanded.get((meter, kind), never)
                if table is None or (on == was and not (on and at + REPEAT_S <= now)):
                    continue
                self._commanded[meter, kind] = (on, now)
                topic = table.topic.replace("{device}", settings.source).replace("{channel}", settings.channel)
                effects.append(Publish(topic, (table.on if on else table.off).encode(), 0))
                self.tally["device_command", kind.value] += 1
        return effects

    def _value(self, reading: Reading, value: int, at: EpochMilliseconds) -> tuple[Explained, Effects]:
        reader = reading.reader
        device = instant(reading.times, at, queued=reader.rule.queued or reading.is_late) if reading.times else None
        if reading.times and device is None:
            self.tally["value", "clock_wrong"] += 1
        channel = self._channel(reader)
        exchanged = self._settings[reader.meter].exchanged
        if exchanged is not None:
            channel.begin_again(int(exchanged.timestamp() * 1000), at)
        effects: Effects = []
        meter = self.meters[reader.meter]
        if channel.set_back(at):
            self.tally["value", "clock_set_back"] += 1
            effects += meter.set_back(at // (SLOT_S * 1000) * SLOT_S)
        taken = take(
            channel,
            reader.channel,
            Value(
                value,
                at,
                device,
                reader.rank,
                reading.part,
                len(reader.topics),
                reading.restart_mark,
                difference=bool(reader.rule.less),
                lowest=reader.lowest,
            ),
        )
        self.tally["value", taken.outcome.name.lower()] += 1
        if isinstance(taken.outcome, Outcome):
            if taken.missing_ms:
                self.tally["value", "unresolved_dip" if taken.outcome is Outcome.DIP else "after_gap"] += 1
            if reader.record_type is RecordType.STORED:
                assert channel.steps is not None
                effects += meter.report_level(channel.at // 1000, channel.steps.value)
        if taken.runs:
            effects += meter.record(_records(taken.runs))
        if taken.outcome not in (Ignored.DUPLICATE, Ignored.OUT_OF_ORDER, Ignored.CLOCK):
            effects.append(Write(ChannelChange((reader.meter, reader.record_type), channel)))
        return Explained(reading, taken), effects

    def _end(self, reader: Reader, at: EpochMilliseconds) -> Effects:
        """End the level of a device that died: none is known until its next value."""
        if reader.record_type is not RecordType.STORED:
            return []
        channel = self._channel(reader)
        channel.steps, channel.parts, channel.fresh = None, {}, []
        effects = self.meters[reader.meter].report_level(at // 1000, None)
        return [*effects, Write(ChannelChange((reader.meter, reader.record_type), channel))]

    def _channel(self, reader: Reader) -> Channel:
        return self.channels.setdefault((reader.meter, reader.record_type), Channel())


def foreign_meter(microgrid: MicrogridId, settings: AdapterMeter, readers: Readers) -> ForeignMeter:
    """Return the description of a meter, with the record types that its rules make."""
    own = [reader for reader in readers.all if reader.meter == settings.id]
    types = {reader.record_type for reader in own}
    if any(reader.rule.kind == "register" and reader.record_type is RecordType.THROUGH for reader in own):
        types.add(RecordType.REGISTER)
    kinds = {Kind.AGGREGATION, Kind.PUT_PERIOD}
    kinds |= {Kind.SHARING} if settings.share is not None else set()
    kinds |= {Kind.REDUCING} if settings.reduce is not None else set()
    capacity = settings.capacity_wh
    return ForeignMeter(
        id=settings.id,
        microgrid=microgrid,
        account=settings.account,
        record_types=tuple(sorted(types)),
        battery=None
        if capacity is None
        else Battery(capacity=capacity * 1000, minimum_percent=settings.minimum_percent),
        commandable=frozenset(kinds),
    )


def _records(runs: Mapping[RecordType, Sequence[Run]]) -> list[Record]:
    return [
        Record(kind, start, min(start + MAX_RECORD_S, run.end), run.value, run.lossy)
        for kind, found in runs.items()
        for run in found
        for start in range(run.start, run.end, MAX_RECORD_S)
    ]
