"""A dry run of an adapter's settings over messages: each one explained, nothing sent, nothing stored."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from adapters.core import Adapter, ExplainedValue, foreign_meter
from adapters.energy.channel import Ignored
from adapters.energy.counter import EpochMilliseconds, SampleOutcome, SlotRun
from adapters.mapping.readers import Reader, Readers
from adapters.messages import RecordedMessage, is_time
from commonwatt.config.adapter import AdapterSettings
from commonwatt.device.changes import DesiredStates, MeterState, StoredMeter
from commonwatt.device.meter import MeterCore, MeterLimits
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOT_S, EpochSeconds, MeterId

EVERY_MS = 10_000  # time between two messages that have no time of their own, in a recording without times

_COUNTED_NOTHING = {SampleOutcome.HELD_BACK, SampleOutcome.BEGUN, SampleOutcome.UNIT, *Ignored} - {
    Ignored.NOT_PREFERRED
}

_HELD_AT_A_START = 2  # values of a register that are held back before the counting starts, if all is well

_START_MS = 1_790_000_010_000


class TrialLine(NamedTuple):
    """What became of one value, in words."""

    number: int  # line of the message in the recording
    topic: str  # its topic
    meter: MeterId | None  # our meter; ``None``: no rule is for this message
    quantity: str  # the record type
    value: str  # the value with its unit
    words: str  # what became of it
    good: bool  # whether it is as it should be


class Total(NamedTuple):
    """What a recording made of one record type of one meter."""

    exact: int  # slots with an exact value
    averaged: int  # slots with an average
    sum_mwh: int  # sum over all slots, milliwatt-hours; of flows only


class Trial:
    """An adapter's core without connections and store."""

    def __init__(self, settings: AdapterSettings, readers: Readers) -> None:
        self.used = 0  # values that became part of a record, or will
        self._counting: set[Reader] = set()
        self._held: Counter[Reader] = Counter()  # values held back
        self.unused: Counter[str] = Counter()  # counts of the unused values, by reason
        self.totals: dict[tuple[MeterId, RecordType], Total] = {}  # slots made, by meter and record type
        self._readers, self._own_rules = readers, settings.rule
        self._at = _START_MS
        meters = {}
        for meter in settings.meter:
            stored = StoredMeter(
                state=MeterState(meter=meter.id, generation=1), desired_states=DesiredStates(meter.id, (0, 0), {})
            )
            description = foreign_meter(settings.microgrid, meter, readers)
            meters[meter.id] = MeterCore(description, MeterLimits(resolution=1), stored, Counter())
        self._adapter = Adapter(
            settings=settings.meter, readers=readers, meters=meters, channels={}, handled={}, tally=Counter()
        )

    @property
    def clock_wrong(self) -> int:
        """Values whose device's time was too far from their arrival, which counts instead."""
        return self._adapter.tally["value", "clock_wrong"]

    @property
    def silent(self) -> list[str]:
        """What counted nothing: rules of the file, and a preset's rules of a record type together; for people."""
        groups: dict[tuple[MeterId, str], list[Reader]] = defaultdict(list)
        for reader in self._readers.all:
            own = f" {reader.topics[0]} {reader.where}" if reader.rule in self._own_rules else ""
            groups[reader.meter, f"{reader.record_type.name.lower()}{own}"].append(reader)
        return [
            f"meter {meter}: {what}: nothing counted; {self._why(readers)}"
            for (meter, what), readers in sorted(groups.items())
            if self._counting.isdisjoint(readers)
        ]

    def _why(self, readers: list[Reader]) -> str:
        if (held := max(self._held[reader] for reader in readers)) > _HELD_AT_A_START:
            return f"{held} values held back: they rise faster than rated_w allows, or fall; check the unit of the rule"
        return "messages of a longer time are needed" if held else "check source, preset and rule"

    def take(self, message: RecordedMessage) -> Iterator[TrialLine]:
        """Run one message; yield a line for each of its values, or one if it has none."""
        self._at = self._arrival(message)
        if message.retained:
            yield self._without(message, "a retained message is never a sample")
        elif not self._readers.knows(message.topic):
            yield self._without(message, "no rule is for this topic")
        else:
            found = list(self._adapter.explain(None, message.topic, message.payload, self._at, retained=False))
            for explained, _ in found:
                if explained is None:
                    yield TrialLine(message.line, message.topic, None, "", "", "the device reports its start", True)
                else:
                    yield self._line(message, explained)

    def _arrival(self, message: RecordedMessage) -> EpochMilliseconds:
        """Return when a message arrived; without a record of it, the device's own time, or a while after the last."""
        if message.at is not None:
            return message.at
        times = [time for reading in self._readers.read(message.topic, message.payload) for time in reading.times]
        return max(filter(is_time, times), default=self._at + EVERY_MS)

    def _without(self, message: RecordedMessage, why: str) -> TrialLine:
        self.unused[why] += 1
        return TrialLine(message.line, message.topic, None, "", "", f"ignored: {why}", True)

    def _line(self, message: RecordedMessage, explained: ExplainedValue) -> TrialLine:
        reading, taken = explained
        reader = reading.reader
        unit = "mW" if reader.rule.kind == "power" else "mWh"
        value = "" if reading.value is None else f"{reading.value:,} {unit}"
        if taken is None:
            words = f"unreadable: {reading.fault}" if reading.fault else f"not in this message: {reader.where}"
        elif isinstance(taken.outcome, Ignored):
            words = f"ignored: {taken.outcome}"
        else:
            words = f"{taken.outcome}{self._slots(reader.meter, taken.runs)}"
        good = taken is not None and taken.outcome not in (SampleOutcome.UNIT, Ignored.IMPOSSIBLE)
        if taken is None or isinstance(taken.outcome, Ignored):
            self.unused[words] += 1
        else:
            self.used += 1
        if taken is not None and taken.outcome not in _COUNTED_NOTHING:
            self._counting.add(reader)
        elif taken is not None and taken.outcome is SampleOutcome.HELD_BACK:
            self._held[reader] += 1
        return TrialLine(
            message.line,
            message.topic,
            reader.meter,
            reader.record_type.name.lower(),
            value,
            words,
            good or (not reading.fault and taken is None),
        )

    def _slots(self, meter: MeterId, runs: dict[RecordType, list[SlotRun]]) -> str:
        words = []
        for kind, found in runs.items():
            for run in found:
                slots = (run.end - run.start) // SLOT_S
                exact, averaged, total = self.totals.get((meter, kind), Total(0, 0, 0))
                self.totals[meter, kind] = Total(
                    exact + (0 if run.lossy else slots),
                    averaged + (slots if run.lossy else 0),
                    total + (run.value * slots if kind.is_flow else 0),
                )
            if found and kind is not RecordType.REGISTER:
                how = "averaged" if any(run.lossy for run in found) else "exact"
                slots = sum(run.end - run.start for run in found) // SLOT_S
                words.append(f"{slots} {how} slots from {_clock(found[0].start)} to {_clock(found[-1].end)} UTC")
        return "; " + ", ".join(words) if words else ""


def _clock(time: EpochSeconds) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%H:%M:%S")
