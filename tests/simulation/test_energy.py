"""No island closes on a dead line, nothing is shared below a floor: seeded worlds of energy, and bugs they must find.

A failing world prints its story and the command that replays it.
"""

import os
from collections import Counter
from time import process_time

import pytest

from harness.simulation import campaign
from harness.simulation.energy.planted import ENERGY_BUGS
from harness.simulation.story import Violation
from harness.simulation.world import Options, Run

SEEDS = int(os.environ.get("ENERGY_SEEDS", "4"))
FIRST = 1_000
HOURS = 1.0
BITE_SEEDS = 100
SEEN = (
    "dead feeders",
    "islands",
    "returns",
    "slots of sharing",
    "slots of buying",
    "slots of a limit",
    "broadband cuts",
    "crashes",
)
FOUND = {
    "a switch that closes on a dead line": ("E3", 2),
    "a switch that waits for no stable voltage": ("E3", 2),
    "a switch that does not trip": ("E2", 1),
    "an export to a dead feeder": ("E1", 16),
    "a manager that closes at once": ("E3", 1),
    "late reports of the boundary count": ("E4", 2),
    "notices are obeyed": ("E4", 1),
    "a broadband cut that islands": ("E4", 1),
    "a restart that forgets the island": ("E9", 2),
    "commands to share below a floor": ("E5", 1),
    "a battery that shares below its floor": ("E5", 13),
    "sharing that outlives its command": ("I7", 1),
    "two purchases for a quarter-hour": ("E7", 1),
    "a purchase that begins anew at a start": ("E7", 8),
    "a ration on the hospital": ("E6", 3),
    "an import above its limit": ("E8", 89),
    "a limit that outlives its supply": ("E8", 4),
}
"""By planted bug: the invariant that catches it, and the first seed in which it did when this was written.

That seed is tried before all others.
"""


def test_worlds_of_energy_keep_every_promise() -> None:
    """# req: C5, C2, A8, U4"""
    counts: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + SEEDS):
        result = campaign.attempt(seed, Options(hours=HOURS, energy=True))
        if isinstance(result, Violation):
            pytest.fail(str(result), pytrace=False)
        counts.update(result.counts)
    for seen in SEEN:
        assert counts[seen], f"no world had {seen}"


def test_the_same_seed_is_the_same_world_of_energy() -> None:
    one, other = (campaign.attempt(7, Options(hours=0.1, energy=True)) for _ in range(2))
    assert isinstance(one, Run)
    assert one == other


@pytest.mark.parametrize("name", ENERGY_BUGS)
def test_a_planted_bug_of_energy_is_found(name: str) -> None:
    """It must bite: within so many worlds, and by the invariant that it breaks."""
    began, options = process_time(), Options(hours=HOURS, bug=name, energy=True)
    invariant, first = FOUND[name]
    for seed in (first, *range(1, BITE_SEEDS + 1)):
        result = campaign.attempt(seed, options)
        if isinstance(result, Violation):
            break
    else:
        pytest.fail(f"{name}: not found in {BITE_SEEDS} worlds")
    print(f"{name} | {result.what.splitlines()[0]} | seed {seed} | {process_time() - began:.1f} core-seconds")
    assert result.what.startswith(invariant)
    assert str(result).endswith(f"replay: {options.command(result.seed)}")
