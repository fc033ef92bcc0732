"""Random histories of a foreign counter: what flowed, and what the device reports of it.

A history has a strange first sample, restarts (to zero, also of a counter near zero, or to an older total),
rollovers, glitches of one or two samples, also right after the report of a start, duplicates, samples out of order,
reports of a start without one, and gaps, also one right after the first sample.
``python -m harness.foreign.counters --sequences N`` judges N.
"""

import argparse
import random
import sys
from collections import Counter as Tally
from dataclasses import dataclass, replace

from adapters.energy.channel import Channel, ChannelRule, Value, take
from adapters.energy.counter import CONFIRMING, CounterLimits, Outcome
from commonwatt.model.records import RecordType
from commonwatt.model.units import MilliwattHours

RATED_MW = 12_000_000
RESOLUTION = 10_000
WIDTH = 1_000_000_000

FAULTS = ("restart", "glitch", "duplicate", "disorder", "gap", "reconnection")


@dataclass(frozen=True)
class Sample:
    """What a device reports."""

    arrival: int  # when its message arrives, epoch milliseconds
    device: int | None  # its own time; ``None``: it has no clock
    value: MilliwattHours  # its counter
    # The rise of the device's counter since its first sample, without all faults, milliwatt-hours.
    flowed: MilliwattHours
    restarted: bool = False  # whether it reported a restart before


@dataclass(frozen=True)
class History:
    """A history with the habits of its device."""

    samples: list[Sample]
    limits: CounterLimits
    counts_all: bool


def history(rng: random.Random, faults: tuple[str, ...] = FAULTS, length: int = 40) -> History:
    """Return a random history; the last four samples are without faults.

    ``counts_all``: whether all that flowed must count, since no fault lost a part of it.
    """
    habit = rng.choice(("zero", "older", "width", "none"))
    has_clock = rng.random() < 0.5
    spacing = rng.choice((1_000, 10_000, 15_000, 60_000, 300_000))
    step = rng.choice((1, 1_000, RESOLUTION))
    limits = _limits(habit)
    at = 1_790_000_000_000 + rng.randrange(60_000)
    counter = saved = (
        WIDTH - rng.randrange(6_000_000, 30_000_000) if habit == "width" else rng.randrange(100_000_000, 200_000_000)
    )
    # After a restart a young counter stands near its old value; a lower strange total is no strange one to anybody.
    is_young = habit == "zero" and rng.random() < 0.3
    counter = rng.randrange(3 * RESOLUTION) if is_young else counter
    counter = saved = counter // step * step
    before: int | None = None
    flowed, since_saved, counts_all = 0, 0, True
    samples: list[Sample] = []
    glitches = glitch = quiet = 0
    for n in range(length):
        fault = _fault(rng, faults, n, length)
        wait = spacing * (rng.randrange(2, 200) if fault == "gap" else 1) + rng.randrange(spacing // 5 + 1)
        # Devices report a start at each connection.
        at, since_saved, restarted = at + wait, since_saved + 1, fault == "reconnection" or rng.random() < 0.02
        if fault == "restart" and habit in ("zero", "older") and not glitches:
            before = counter = 0 if habit == "zero" else saved
            counts_all = False
            restarted = restarted or rng.random() < 0.3
        counter += rng.choice((0, 1, 10, 100)) * RATED_MW * wait // 3_600_000 // 110
        if since_saved > 5:
            saved, since_saved = counter // step * step, 0
        shown = counter // step * step
        flowed += 0 if before is None else shown - before
        before = shown
        if habit == "width":
            shown %= WIDTH
        quiet -= 1
        if fault == "glitch" and quiet < 0 and habit != "width":
            # Three samples that agree are no glitch to anybody without the truth.
            glitches, quiet = rng.choice((1, 2)), 5
            # A strange total may be the first one after a start.
            restarted = restarted or rng.random() < 0.3
            glitch = rng.choice((shown + 60 * RATED_MW, *(() if is_young else (0, rng.randrange(shown + 1) // 3))))
        if glitches:
            glitches -= 1
            shown = glitch
        if n == 0 and not is_young and rng.random() < 0.1:
            shown = rng.choice((0, 1, rng.randrange(shown + 1) // 3, shown + 60 * RATED_MW))
            # A rollover between it and the second sample looks like a start.
            counts_all = habit != "width"
        device = at - rng.randrange(500) if has_clock else None
        sample = Sample(at, device, shown, flowed, restarted)
        samples.append(sample)
        if fault == "duplicate" and has_clock:
            samples.append(replace(sample, arrival=at + 5, restarted=False))
        if fault == "disorder" and has_clock and len(samples) > 1:
            samples.append(replace(samples[-2], arrival=at + 7, flowed=flowed, restarted=False))
    return History(samples, limits, counts_all)


def _limits(habit: str) -> CounterLimits:
    """Return what a counter with a habit can do."""
    return CounterLimits(
        rated_mw=RATED_MW,
        resolution=RESOLUTION,
        rollover=WIDTH if habit == "width" else None,
        restarts_at_zero=habit == "zero",
    )


def _fault(rng: random.Random, faults: tuple[str, ...], n: int, length: int) -> str:
    """Return the fault of a sample: any once counting has begun, a gap also after the first sample."""
    if "gap" in faults and n == 1:
        return "gap" if rng.random() < 0.25 else ""
    return rng.choice(faults) if faults and 6 < n < length - 6 and rng.random() < 0.25 else ""


def rule_of(limits: CounterLimits) -> ChannelRule:
    """Return the rule of a history's register."""
    return ChannelRule(
        kind="register",
        record_type=RecordType.THROUGH,
        limits=limits,
        longest_gap_ms=10**12,
        highest=0,
    )


def judge(found: History) -> tuple[str, Tally[Outcome]]:
    """Return what is wrong with the energy counted since the start, else an empty text; and the outcomes."""
    channel, rule = Channel(), rule_of(found.limits)
    outcomes: Tally[Outcome] = Tally()
    begun = before = 0
    for sample in found.samples:
        channel.restarted |= sample.restarted
        taken = take(channel, rule, Value(sample.value, sample.arrival, sample.device))
        if isinstance(taken.outcome, Outcome):
            outcomes[taken.outcome] += 1
        if taken.outcome is Outcome.STARTED:
            begun = before
        before = sample.flowed
        if channel.counter.total > sample.flowed - begun:
            return f"phantom energy: {channel.counter.total - sample.flowed + begun} mWh", outcomes
        if len(channel.counter.held) >= CONFIRMING:
            return f"{len(channel.counter.held)} samples are held back", outcomes
    short = before - begun - channel.counter.total
    if found.counts_all and short and not channel.counter.held:
        return f"{short} mWh did not count", outcomes
    return "", outcomes


def main() -> int:
    """Judge many histories."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    total: Tally[Outcome] = Tally()
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
