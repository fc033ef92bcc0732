"""Random histories of a foreign counter: what flowed, and what the device reports of it.

A history has a strange first sample, restarts (to zero, also of a counter near zero, or to an older total),
rollovers, jumps to a higher total over a restart or a silence, glitches of one or two samples, also right after the
report of a start, duplicates, samples out of order, reports of a start without one, and gaps, also one right after
the first sample. A restart is reported as a preset reads it, each preset's evidence in its turn.

Energy counted never exceeds what flowed; what is not counted is at most the one interval of each restart, report or
large rise over a silence.
``python -m harness.foreign.counters --sequences N`` judges N.
"""

import argparse
import random
import sys
from collections import Counter as Tally
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from adapters.energy.channel import Channel, ChannelRule, TimedValue, take
from adapters.energy.counter import BEGUN_SHARE, CONFIRMING, LIKELY, SILENT_MS, WINDOW_MS, CounterLimits, SampleOutcome
from adapters.mapping.readers import Readers, readers_of
from commonwatt.config.adapter import AdapterSettings
from commonwatt.model.records import RecordType
from commonwatt.model.units import MilliwattHours

RATED_W = 12_000
WIDTH = 1_000_000_000
YOUNG = 10_000_000  # a counter below this may have begun at a lower total
HOUR_MS = 3_600_000
LOAD = 110
WILD = (0, 1, 10, 100)  # parts of the rated power, of ``LOAD``
CALM = (0, 1, 2, 4)  # the same of calm loads

FAULTS = ("restart", "glitch", "duplicate", "disorder", "gap", "reconnection", "jump")

UP = '{"UptimeSec":5}'
ZIGBEE = {
    "zigbee2mqtt/y/x/availability": '{"state":"online"}',
    "zigbee2mqtt/bridge/event": '{"type":"device_announce","data":{"friendly_name":"y/x"}}',
}
EVIDENCE: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "tasmota": ("x", {"tele/x/LWT": "Online", "x/tele/INFO3": '{"RestartReason":"Power On"}', "tele/x/STATE": UP}),
    "esphome": ("x/sensor/energy", {"x/status": "online"}),
    "homeassistant-statestream": ("x", {"homeassistant/sensor/x/state": "unavailable"}),
    "openenergymonitor": ("x/E1", {"emon/x/MSG": "3"}),
    "openenergymonitor-json": ("x", {"emon/JSON/x": '{"MSG":3,"E1":7}', "emon/x": '{"MSG":3}'}),
    **dict.fromkeys(("shelly-em", "shelly-em1", "shelly-pm"), ("x", {"x/online": "true"})),
    **dict.fromkeys(("shelly-gen1", "shelly-gen1-3em", "shelly-gen1-plug"), ("x", {"shellies/x/online": "true"})),
    **dict.fromkeys(("zigbee2mqtt", "zigbee2mqtt-channel"), ("y/x", ZIGBEE)),
}
"""The source of a meter of each preset, and the messages that show its device's restart."""


@dataclass(frozen=True)
class Sample:
    """What a device reports."""

    arrival: int  # when its message arrives, epoch milliseconds
    device: int | None  # its own time; ``None``: it has no clock
    value: MilliwattHours  # its counter
    # The rise of the device's counter since its first sample, without all faults, milliwatt-hours.
    flowed: MilliwattHours
    restarted: bool = False  # whether it reported a restart before
    mark: str = ""  # a value that changes when the register is set back
    is_strange: bool = False  # whether the value is not its total
    is_lossy: bool = False  # whether the interval before it may be lost
    fell: MilliwattHours = 0  # the fall of a reported restart
    power: int = 0  # the highest power that may be known at a jump, milliwatts; 0: no jump


@dataclass(frozen=True)
class History:
    """A history with the habits of its device."""

    samples: list[Sample]
    limits: CounterLimits
    preset: str
    is_bounded: bool = True  # whether the energy that may be lost is known


@cache
def readers(preset: str) -> Readers:
    """Return the rules of a meter of a preset."""
    meter = {"id": 1, "preset": preset, "source": EVIDENCE[preset][0], "rated_w": RATED_W}
    return readers_of(AdapterSettings.model_validate({"microgrid": "r001", "meter": [meter]}))


class _Device:
    """A device with its counter."""

    def __init__(self, rng: random.Random, preset: str) -> None:
        self.rng, self.preset = rng, preset
        limits = readers(preset).all[0].channel.limits
        self.habit = rng.choice(("zero", "older", "width", "none"))
        self.limits = replace(
            limits, rollover=WIDTH if self.habit == "width" else None, restarts_at_zero=self.habit == "zero"
        )
        self.step = rng.choice((1, 100, limits.resolution))
        # With small loads a jump can be told from energy.
        self.is_calm = rng.random() < 0.5
        start = (
            WIDTH - rng.randrange(6_000_000, 30_000_000) if self.habit == "width" else rng.randrange(10**8, 2 * 10**8)
        )
        # After a restart a young counter stands near its old value; a lower strange total is no strange one to anybody.
        self.is_young = self.habit == "zero" and rng.random() < 0.3
        self.counter = self.saved = self._whole(rng.randrange(3 * limits.resolution) if self.is_young else start)
        self.before: int | None = None  # what it showed last, strange totals aside
        self.flowed = self.since_saved = self.power = 0

    def _whole(self, counter: int) -> int:
        return counter - counter % self.step

    def restart(self) -> MilliwattHours:
        """Go on from zero or from the total that was saved; return the fall."""
        was = self.before or 0
        self.before = self.counter = 0 if self.habit == "zero" else self.saved
        return was - self.counter

    def jump(self, wait: int, *, restarted: bool, longest: int) -> bool:
        """Rise by more than what is likely until ``longest``, within the rated power; return whether that can be."""
        rated, step = self.limits.rated_mw, self.step
        self.power = rated * CALM[-1] // LOAD + step * HOUR_MS // WINDOW_MS
        likely = LIKELY * self.power
        likely = max(likely, rated // BEGUN_SHARE) if longest >= SILENT_MS else likely
        low, high = likely * longest // HOUR_MS + self.limits.resolution + step, rated * 9 // 10 * wait // HOUR_MS
        if not self.is_calm or self.before is None or low >= high or not (restarted or wait > SILENT_MS + 1000):
            return False
        jump = self._whole(self.rng.randrange(low, high)) + step
        self.counter, self.before = self.counter + jump, self.before + jump
        return True

    def run(self, wait: int) -> int:
        """Count for a time; return what is shown."""
        self.counter += self.rng.choice(CALM if self.is_calm else WILD) * self.limits.rated_mw * wait // HOUR_MS // LOAD
        self.since_saved += 1
        if self.since_saved > 5:
            self.saved, self.since_saved = self._whole(self.counter), 0
        shown = self._whole(self.counter)
        self.flowed += 0 if self.before is None else shown - self.before
        self.before = shown
        return shown % WIDTH if self.habit == "width" else shown

    def glitch(self, shown: int) -> int:
        """Return a strange total."""
        strange = [shown + 60 * 1000 * RATED_W]
        strange += [] if shown < YOUNG else [0, self.rng.randrange(shown + 1) // 3]
        return self.rng.choice(strange)


def history(rng: random.Random, faults: tuple[str, ...] = FAULTS, length: int = 40) -> History:
    """Return a random history; the last six samples are without faults."""
    device = _Device(rng, rng.choice(tuple(EVIDENCE)))
    has_clock, spacing = rng.random() < 0.5, rng.choice((1_000, 10_000, 15_000, 60_000, 300_000))
    at, mark, is_bounded = 1_790_000_000_000 + rng.randrange(60_000), 0, True
    samples: list[Sample] = []
    glitches = glitch = quiet = 0
    jumped = faulted = -9  # the sample of the last jump, and of the last restart or glitch
    for n in range(length):
        fault = _fault(rng, faults, n, length)
        # A jump with another fault right after it, or a long time, is power to anybody without the truth.
        fault = "" if n < jumped + 4 and fault in ("gap", "jump", "restart", "glitch") else fault
        is_long = fault == "gap" or (fault == "jump" and rng.random() < 0.5)
        wait = spacing * (rng.randrange(2, 200) if is_long else 1) + rng.randrange(spacing // 5 + 1)
        at += wait
        # Devices report a start at each connection.
        restarted = fault == "reconnection" or rng.random() < 0.02
        fell, is_lossy = 0, False
        if fault == "restart" and device.habit in ("zero", "older") and not glitches:
            restarted, is_lossy = restarted or rng.random() < 0.5, True
            fell = device.restart()
            # Without a report a small fall may be the end of a spike.
            is_bounded = is_bounded and restarted
        # The power must be known.
        is_jump = False
        if fault == "jump" and not glitches and n > faulted + 3:
            restarted, jumped = restarted or rng.random() < 0.5, n
            is_jump = is_lossy = device.jump(wait, restarted=restarted, longest=wait + 8 * spacing)
        shown = device.run(wait)
        quiet -= 1
        if fault == "glitch" and quiet < 0 and device.habit != "width":
            # Three samples that agree are no glitch to anybody without the truth.
            glitches, quiet = rng.choice((1, 2)), 5
            # A strange total may be the first one after a start.
            restarted, glitch = restarted or rng.random() < 0.3, device.glitch(shown)
        # A strange total before a restart is confirmed hides that it was reported.
        is_bounded = is_bounded and not (glitches and fault == "glitch" and n < faulted + 4)
        is_bounded = is_bounded and not (restarted and device.habit == "width")
        faulted = n if fault in ("restart", "glitch") or glitches else faulted
        is_strange = glitches > 0
        shown, glitches = (glitch, glitches - 1) if glitches else (shown, 0)
        if n == 0 and not device.is_young and rng.random() < 0.1:
            shown = rng.choice((0, 1, rng.randrange(shown + 1) // 3, shown + 60 * 1000 * RATED_W))
            # A rollover between it and the second sample looks like a start.
            is_bounded = device.habit != "width"
        mark += restarted and rng.random() < 0.3
        clock = at - rng.randrange(min(500, spacing // 25)) if has_clock else None
        rest = f"{mark}", is_strange, is_lossy or restarted, fell, device.power * is_jump
        samples.append(Sample(at, clock, shown, device.flowed, restarted, *rest))
        if has_clock:
            samples += _again(samples, fault, at, device.flowed)
    return History(samples, device.limits, device.preset, is_bounded)


def _again(samples: list[Sample], fault: str, at: int, flowed: int) -> list[Sample]:
    """Return what arrives after the newest sample: itself again, or the one before it, late."""
    if fault == "duplicate":
        return [replace(samples[-1], arrival=at + 5, restarted=False, fell=0)]
    if fault == "disorder" and len(samples) > 1:
        return [replace(samples[-2], arrival=at + 7, flowed=flowed, restarted=False, is_strange=True)]
    return []


def _fault(rng: random.Random, faults: tuple[str, ...], n: int, length: int) -> str:
    """Return the fault of a sample: any once counting has begun, a gap also after the first sample."""
    if "gap" in faults and n == 1:
        return "gap" if rng.random() < 0.25 else ""
    return rng.choice(faults) if faults and 6 < n < length - 6 and rng.random() < 0.25 else ""


def rule_of(limits: CounterLimits) -> ChannelRule:
    """Return the rule of a history's register."""
    return ChannelRule(kind="register", record_type=RecordType.THROUGH, limits=limits, longest_gap_ms=10**12, highest=0)


def _report(channel: Channel, preset: str, n: int) -> None:
    """Let a device report its restart by one of the messages of its preset."""
    messages = list(EVIDENCE[preset][1].items())
    topic, payload = messages[n % len(messages)]
    for _, uptime in readers(preset).reports(topic, payload.encode()):
        # The uptime before is not played: it was higher.
        channel.uptime = 90_000
        channel.restarts(uptime)


class _Losses:
    """The most energy that may not count: of the interval of a restart, a report, or a large rise over a silence.

    Until two later samples agree, another one makes the intervals between them uncertain too. After a reported fall a
    later reading above the highest one goes on from before: then at most the fall does not count.
    """

    def __init__(self, limits: CounterLimits, first: Sample) -> None:
        self._limits, self._last = limits, first
        self._is_lossy = False
        self._since, self._uncertain = CONFIRMING, 0  # samples after the last such interval, and their energy
        self._fell: MilliwattHours = 0  # the fall of the last reported restart, as far as no energy was allowed for it
        self.most: MilliwattHours = 0  # energy that may not count

    def take(self, sample: Sample, *, is_held: bool) -> None:
        """Take the next sample; ``is_held``: after it some are held back."""
        self._is_lossy |= sample.is_lossy or (sample.is_strange and self._since < CONFIRMING)
        if sample.is_strange:
            return
        flowed, passed_ms = sample.flowed - self._last.flowed, sample.arrival - self._last.arrival
        is_large = flowed > self._limits.rated_mw // BEGUN_SHARE * passed_ms // HOUR_MS
        is_large |= self._since < CONFIRMING - 1
        if self._is_lossy or (passed_ms >= SILENT_MS and is_large):
            self.most += flowed + self._uncertain + min(sample.fell, self._limits.resolution)
            self._since, self._uncertain = 0, 0
        else:
            self._since += 1
            self._uncertain = self._uncertain + flowed if self._since < CONFIRMING or is_held else 0
        behind = min(self._fell, flowed) if self._since < CONFIRMING or self._fell < YOUNG else 0
        self.most += behind
        self._last, self._is_lossy, self._fell = sample, False, sample.fell or self._fell - behind


def judge(found: History) -> tuple[str, Tally[SampleOutcome]]:
    """Return what is wrong with the energy counted since the start, else an empty text; and the outcomes."""
    channel, rule = Channel(), rule_of(found.limits)
    outcomes: Tally[SampleOutcome] = Tally()
    begun = before = 0
    last, losses = found.samples[0], _Losses(found.limits, found.samples[0])
    for n, sample in enumerate(found.samples):
        known = channel.counter.peaks if channel.counter.peaks_at else (sample.power + 1, 0)
        if sample.power and (max(known) > sample.power or channel.counter.held or channel.counter.fallen is not None):
            # A jump is power to anybody without the power before it, or before a fall is decided.
            break
        if sample.restarted and sample.mark == last.mark:
            _report(channel, found.preset, n)
        value = TimedValue(sample.value, sample.arrival, sample.device, restart_mark=sample.mark)
        taken = take(channel, rule, value)
        if isinstance(taken.outcome, SampleOutcome):
            outcomes[taken.outcome] += 1
        if taken.outcome is SampleOutcome.STARTED:
            begun, losses.most = before, 0
        before = sample.flowed
        losses.take(sample, is_held=bool(channel.counter.held))
        last = last if sample.is_strange else sample
        if channel.counter.total > sample.flowed - begun:
            return f"phantom energy: {channel.counter.total - sample.flowed + begun} mWh", outcomes
        if len(channel.counter.held) >= CONFIRMING:
            return f"{len(channel.counter.held)} samples are held back", outcomes
    short = before - begun - channel.counter.total
    if found.is_bounded and short > losses.most and not channel.counter.held:
        return f"{short} mWh did not count, at most {losses.most} may be lost", outcomes
    return "", outcomes


def main() -> int:
    """Judge many histories."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    total: Tally[SampleOutcome] = Tally()
    for seed in range(given.seed, given.seed + given.sequences):
        wrong, outcomes = judge(history(random.Random(seed)))
        total += outcomes
        if wrong:
            print(f"seed {seed}: {wrong}")
            return 1
    print(f"{given.sequences:,} histories, no phantom energy:", ", ".join(f"{n:,} {o}" for o, n in total.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
