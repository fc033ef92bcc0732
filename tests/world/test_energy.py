"""No island closes on a dead line, nothing is shared below a floor: seeded worlds of energy, and bugs they must find.

A failing world prints its story and the command that replays it.
"""

from collections import Counter

from harness.world.run import attempt, simulate
from harness.world.world import Options, Run

SEEDS, HOURS = (1_003, 1_010), 0.5  # together they show all that is to be seen
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


def test_worlds_of_energy_keep_every_promise() -> None:
    """# req: C5, C2, A8, U4"""
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        counts.update(simulate(seed, Options(hours=HOURS, kind="energy")).counts)
    for seen in SEEN:
        assert counts[seen], f"no world had {seen}"


def test_the_same_seed_is_the_same_world_of_energy() -> None:
    one, other = (attempt(7, Options(hours=0.1, kind="energy")) for _ in range(2))
    assert isinstance(one, Run)
    assert one == other
