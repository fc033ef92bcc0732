"""The core of an adapter: messages of foreign meters in, records of our meters out (K5, M9; docs/adapters.md).

It takes a message and the time, and returns effects: changes to commit, then messages to publish. It reads no clock
and has no connection. All its state is in its meters and channels, and is built from the store at a start.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from adapters.commands import CommandLoops, DeviceCommand
from adapters.energy.channel import Channel, Ignored, TakenValue, TimedValue, take
from adapters.energy.counter import EpochMilliseconds, SampleOutcome, SlotRun
from adapters.mapping.readers import Reader, Readers, RuleReading
from adapters.mapping.values import instant
from adapters.messages import AdapterChange, Arrived, ChannelChange, Handled, HandledChange, Key
from commonwatt.config.adapter import AdapterMeter
from commonwatt.device.meter import MeterCore, Timers
from commonwatt.device.records import SlotsReading as Record
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.records import MAX_RECORD_S, RecordType
from commonwatt.model.units import SLOT_S, MeterId, MicrogridId
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.topics import ACKS
from commonwatt.town.town import Battery

KEPT_WRONG = 100  # unreadable messages kept for inspection; the oldest is dropped
KEPT_BYTES = 300  # bytes of each that are kept

Effects: TypeAlias = list[Effect[AdapterChange]]

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


class ExplainedValue(NamedTuple):
    """What became of one value of a message, for people."""

    reading: RuleReading  # what the rule found
    taken: TakenValue | None  # what became of it; ``None``: there was no value


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
        meters: Mapping[MeterId, MeterCore],
        channels: Mapping[Key, Channel],
        handled: Mapping[str, Handled],
        tally: Tally,
        commands: Sequence[DeviceCommand] = (),
    ) -> None:
        self.meters = dict(meters)  # the cores of their meters
        self.channels = dict(channels)  # their channels
        self._handled = dict(handled)
        self.tally = tally  # event counts of the adapter and its meters
        # Their rules, by source; ``None``: all, for recordings, which have no source.
        self.readers: dict[str | None, Readers] = {source: readers.of(source) for source in readers.sources}
        self.readers[None] = readers
        self._settings = {meter.id: meter for meter in settings}
        self.commands = CommandLoops(commands, self.meters, tally)  # what their devices are told
        self._timers = Timers()
        self._told: set[MeterId] = set()  # the meters that have told of themselves since the start
        self.wrong: deque[Wrong] = deque(maxlen=KEPT_WRONG)  # the last messages that could not be read

    def message(self, message: Arrived, behind_ms: int = 0) -> Effects:
        """Handle a message of a foreign meter, once; ``behind_ms``: how far its time is behind the gateway's."""
        handled = self._handled.setdefault(message.source, Handled())
        if handled.take(message):
            self.tally["message", "sent_again"] += 1
            return []
        self.commands.show(message.source, message.topic, message.payload, message.at / 1000, retained=message.retained)
        if behind_ms:
            message = message._replace(at=message.at + behind_ms)
        found = self.explain(message.source, message.topic, message.payload, message.at, retained=message.retained)
        effects = [effect for _, effects in found for effect in effects]
        for topic, payload in self._readers(message.source).requests(message.at):
            effects.append(Publish(topic, payload, 0, via=message.source))
            self.tally["device_command", "rebirth"] += 1
        # What has no effect needs no commit, and may come again.
        if effects and message.qos:
            effects.append(Write(HandledChange(message.source, handled)))
        return effects

    def explain(
        self, source: str | None, topic: str, payload: bytes, at: EpochMilliseconds, *, retained: bool
    ) -> Iterator[tuple[ExplainedValue | None, Effects]]:
        """Handle a message that arrived at ``at``; yield what became of each of its values, and the effects."""
        if retained:
            # It may be of any age. A broker sends it for each subscription.
            self.tally["message", "retained"] += 1
            return
        for reader, uptime in self._readers(source).reports(topic, payload):
            channel = self._channel(reader)
            # An uptime that rises is stored with the next value.
            if channel.restarts(uptime):
                yield None, [Write(ChannelChange((reader.meter, reader.record_type), channel))]
        heard = max(0, at // 1000)
        for reading in self._readers(source).read(topic, payload):
            self.meters[reading.reader.meter].deferred.heard = heard
            if reading.value is None:
                if reading.fault:
                    self.tally["message", "unreadable"] += 1
                    self.wrong.append(Wrong(at, topic, payload[:KEPT_BYTES], reading.fault))
                    self._ignore(reading.reader, "unreadable", topic, reading.fault)
                yield ExplainedValue(reading, None), self._end(reading.reader, at) if reading.has_ended else []
            else:
                explained, effects = self._value(reading, reading.value, at)
                if explained.taken is not None and isinstance(explained.taken.outcome, Ignored):
                    self._ignore(
                        reading.reader, explained.taken.outcome.name.lower(), topic, payload.decode(errors="replace")
                    )
                yield explained, effects

    def receive(self, meter: MeterId, leaf: str, payload: bytes, now: float) -> Effects:
        """Handle a message of the gateway to one of the meters."""
        effects: Effects = [*self.meters[meter].receive(leaf, payload, now)]
        self.commands.heard_at = now
        if leaf == ACKS and meter not in self._told:
            # Its file may have changed: the gateway is told at the first sign of it after a start.
            self._told.add(meter)
            effects += self.meters[meter].tell(now)
        self._timers.set(meter, self.meters[meter].wake_at)
        return effects

    def boot(self, now: float) -> Effects:
        """Start the meters.

        An adapter that was away measured nothing wrong: the registers went on. So the meters log no loss of power.
        """
        effects: Effects = []
        self.commands.boot(self._settings.values())
        self.commands.heard_at = now
        for meter, core in self.meters.items():
            effects += core.boot(now, power_lost=False)
            self._timers.set(meter, core.wake_at)
        return effects

    def tick(self, now: float) -> Effects:
        """Do the due work of the meters, and tell devices what they should do."""
        effects: Effects = []
        for meter in self._timers.due(now):
            effects += self.meters[meter].tick(now)
            self._timers.set(meter, self.meters[meter].wake_at)
        return effects + self.commands.run(now)

    @property
    def wake_at(self) -> float | None:
        """When ``tick`` is due next; ``None``: not by itself."""
        times = (self._timers.next, self.commands.wake_at)
        return min((at for at in times if at is not None), default=None)

    def reconnected(self, source: str, session: int, now: float) -> Effects:
        """Read the devices' states after a new connection (``Arrived.session``), as they may have missed commands."""
        self.commands.connected(source, now)
        handled = self._handled.setdefault(source, Handled())
        handled.begin(session)
        return [Write(HandledChange(source, handled))]

    def _value(self, reading: RuleReading, value: int, at: EpochMilliseconds) -> tuple[ExplainedValue, Effects]:
        reader = reading.reader
        device = instant(reading.times, at, queued=reader.rule.queued or reading.is_late) if reading.times else None
        if reading.times and device is None:
            self.tally["value", "clock_wrong"] += 1
        channel = self._channel(reader)
        if reader.exchanged is not None:
            channel.begin_again(reader.exchanged, at)
        effects: Effects = []
        meter = self.meters[reader.meter]
        if channel.set_back(at):
            self.tally["value", "clock_set_back"] += 1
            effects += meter.set_back(at // (SLOT_S * 1000) * SLOT_S)
        taken = take(
            channel,
            reader.channel,
            TimedValue(
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
        if isinstance(taken.outcome, SampleOutcome):
            if taken.missing_ms:
                self.tally["value", "unresolved_dip" if taken.outcome is SampleOutcome.DIP else "after_gap"] += 1
            if reader.record_type is RecordType.STORED:
                assert channel.steps is not None
                effects += meter.report_level(channel.at // 1000, channel.steps.value)
        if runs := {kind: run for kind, run in taken.runs.items() if kind in meter.description.record_types}:
            effects += meter.record(_records(runs))
        if taken.outcome not in (Ignored.DUPLICATE, Ignored.OUT_OF_ORDER, Ignored.CLOCK):
            effects.append(Write(ChannelChange((reader.meter, reader.record_type), channel)))
        return ExplainedValue(reading, taken), effects

    def _readers(self, source: str | None) -> Readers:
        return self.readers.get(source) or Readers(())

    def _ignore(self, reader: Reader, reason: str, topic: str, text: str) -> None:
        self.meters[reader.meter].deferred.ignore(reason, f"{topic}: {text}")

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


def foreign_meter(
    microgrid: MicrogridId, settings: AdapterMeter, readers: Readers, commands: Sequence[DeviceCommand] = ()
) -> ForeignMeter:
    """Return the description of a meter, with the record types that its rules make, and the states it can be told."""
    own = [reader for reader in readers.all if reader.meter == settings.id]
    types = {reader.record_type for reader in own}
    if any(reader.rule.kind == "register" and reader.record_type is RecordType.THROUGH for reader in own):
        types.add(RecordType.REGISTER)
    if settings.counts == "register":
        types.discard(RecordType.THROUGH)
    kinds = {command.kind for command in commands if command.meter == settings.id and not command.is_refused}
    capacity = settings.capacity_wh
    return ForeignMeter(
        id=settings.id,
        microgrid=microgrid,
        account=settings.account,
        record_types=tuple(sorted(types)),
        battery=None
        if capacity is None
        else Battery(capacity=capacity * 1000, minimum_percent=settings.minimum_percent),
        commandable=frozenset({Kind.AGGREGATION, Kind.PUT_PERIOD} | kinds),
    )


def _records(runs: Mapping[RecordType, Sequence[SlotRun]]) -> list[Record]:
    return [
        Record(kind, start, min(start + MAX_RECORD_S, run.end), run.value, run.lossy)
        for kind, found in runs.items()
        for run in found
        for start in range(run.start, run.end, MAX_RECORD_S)
    ]
