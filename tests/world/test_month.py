"""Bills are what was measured, and files show nothing else: seeded worlds at a month's end."""

from collections import Counter

from harness.world.campaign import simulate
from harness.world.world import Options

SEEDS, HOURS = (15, 35), 0.5  # one of them issues bills, and files of one rot


def test_worlds_at_a_months_end_bill_what_was_measured() -> None:
    counts = Counter[str]()
    for seed in SEEDS:
        counts.update(simulate(seed, Options(hours=HOURS, kind="month")).counts)
    for seen in ("settlement done", "bills done", "bills issued", "crashes"):
        assert counts[seen], f"no world had {seen}"
