"""Bills of the whole town for a month, from settled quarter-hours: processor time and memory."""

import gc
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from commonwatt.model.units import Quarter
from harness.billing.worlds import ZONE, tariff, whole_town
from harness.docs.measured import Goal, Section, Table, number
from utility.billing.inputs import RunInputs
from utility.billing.run import bills_of
from utility.energy.quarters import Quantity, SettledQuarters
from utility.tariffs.tariff import Tariff

POLICIES = ("spec", "aces", "rangers")
MONTH = "2026-11"

MOST_S, MOST_MB = 1.0, 1_000  # the goals: bills in seconds, memory of the process in megabytes
_DIFFERENT = 100  # different months of a meter; the town's meters have these in turn


class Months:
    """Random settled months; counts the time that making them takes, which is not billing's."""

    def __init__(self, quarters: int) -> None:
        random = np.random.default_rng(1)
        shape = _DIFFERENT, quarters
        self._rows = {q: random.integers(0, 10**6, shape) * (random.random(shape) < 0.6) for q in Quantity}
        self._quarters = quarters
        self.seconds = 0.0

    def load(self, meters: Sequence[int], first: Quarter, until: Quarter) -> SettledQuarters:
        """Return the months of some meters."""
        begun = time.process_time()
        shape = len(meters), until - first
        found = SettledQuarters(
            meters=np.array(meters, np.uint64),
            first=first,
            energies={q: rows[np.array(meters) % _DIFFERENT] for q, rows in self._rows.items()},
            quality=np.full(shape, 4, np.uint8),
            provisional=np.zeros(shape, np.bool_),
            version=np.ones(shape, np.int32),
        )
        self.seconds += time.process_time() - begun
        return found


def tariff_of(policy: str) -> Tariff:
    """Return a tariff with two periods."""
    given = {"peak": "0.32", "off-peak": "0.20"} if policy == "rangers" else {"peak": "0.16", "off-peak": "0.10"}
    prices = tuple((name, price, given[name]) for name, price in (("peak", "0.32"), ("off-peak", "0.20")))
    return tariff(prices=prices, policy={"name": policy} | ({"off_peak": "off-peak"} if policy == "aces" else {}))


def measured(policy: str, times: int, residential: int) -> dict[str, float]:
    """Return the least processor time of some runs, and the process's memory."""
    registry, meters = whole_town(residential)
    inputs = RunInputs(month=MONTH, timezone=ZONE, registry=registry, tariffs=(tariff_of(policy),), default="town")
    seconds = []
    gc.freeze()  # As the command does: what was loaded stays.
    for _ in range(times):
        months = Months(inputs.length)
        begun = time.process_time()
        billed = bills_of(inputs, months.load).billed
        seconds.append(time.process_time() - begun - months.seconds)
    return {
        "meters": len(meters),
        "bills": len(billed),
        "seconds": min(seconds),
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def bench(*, smoke: bool = False) -> Section:
    """Bill a month with each policy, each in a process of its own."""
    times, residential = (1, 1) if smoke else (3, 800)
    found = {policy: _in_process(policy, times, residential) for policy in POLICIES[: 1 if smoke else None]}
    rows = tuple(
        (
            policy,
            f"{each['bills']:,}",
            number(each["seconds"]),
            number(each["mb"]),
        )
        for policy, each in found.items()
    )
    columns = ("policy", "bills", "computing, CPU s", "memory, MB")
    any_of = next(iter(found.values()))
    return Section(
        title="Bills of a month",
        about=f"November 2026 of the whole town: {any_of['meters']:,} meters with random settled quarter-hours, "
        f"{any_of['bills']:,} accounts, two prices, a month without moves. The settled arrays are made in memory, "
        "and their making is not counted; the least processor time of three runs.",
        tables=(Table(title="Time and memory", columns=columns, rows=rows),),
        goals=(
            Goal(
                what="processor time of all bills, the slowest policy",
                value=round(max(each["seconds"] for each in found.values()), 3),
                unit="s",
                at_most=MOST_S,
                limited_by="Most of it makes lines and amounts of bills in Python.",
            ),
            Goal(
                what="memory of the process",
                value=round(max(each["mb"] for each in found.values())),
                unit="MB",
                at_most=MOST_MB,
                limited_by="The settled quarter-hours of 1,000 meters are in memory at once.",
            ),
        ),
    )


def _in_process(policy: str, *numbers: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.billing", policy, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], *map(int, sys.argv[2:]))))
