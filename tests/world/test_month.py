"""Bills are what was measured, and files show nothing else: seeded worlds at a month's end, and bugs they must find."""

from collections import Counter

import pytest

from harness.world.found import FOUND_IN_MONTH, HOURS, violation_of
from harness.world.run import attempt
from harness.world.story import Violation
from harness.world.world import Options

SEEDS = (1, 8, 15, 26)  # among them some that issue bills, and some whose files rot


def test_worlds_at_a_months_end_bill_what_was_measured() -> None:
    counts = Counter[str]()
    for seed in SEEDS:
        result = attempt(seed, Options(hours=HOURS, kind="month"))
        if isinstance(result, Violation):
            pytest.fail(str(result), pytrace=False)
        counts.update(result.counts)
    for seen in ("settlement done", "bills done", "bills issued", "crashes", "archive write", "archive rots"):
        assert counts[seen], f"no world had {seen}"


@pytest.mark.parametrize("name", FOUND_IN_MONTH)
def test_a_planted_bug_of_money_is_found(name: str) -> None:
    invariant, seed = FOUND_IN_MONTH[name]
    result = violation_of(name, seed)
    assert result is not None, f"seed {seed} no longer finds it: python -m harness.world.found"
    assert result.what.startswith(invariant)
