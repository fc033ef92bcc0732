"""The residual of members against the boundary: honest meters stay within the bound, theft does not."""

from functools import reduce
from itertools import pairwise

import numpy as np
import pytest

from commonwatt.settlement.residual import Balance, DayResidual, Stretch, Tolerance, residual_of, tolerance
from commonwatt.town.town import Direction, Function
from harness.settlement.emulated import EmulatedTown, small_town
from harness.settlement.truth import hours
from utility.settlement.day import Rules

RULES = Rules(resolution=100, battery_loss_permille=50)


def test_honest_meters_are_within_the_bound_and_a_theft_of_half_a_percent_is_found() -> None:  # req: C4
    town = small_town(50)
    stolen = {
        meter.id: 0.995
        for meter in town.meters
        if meter.direction is Direction.INCOMING
        and meter.function in (Function.APARTMENT, Function.HOSPITAL)
        and meter.location in ("building 1 apartment 2", "hospital")
    }
    honest = hours(EmulatedTown(town, "winter"), RULES, 1, 17)
    assert {name: one.excess for name, one in honest.items() if one.excess > 0} == {}
    found = hours(EmulatedTown(town, "winter", tampered=stolen), RULES, 1, 17)
    assert {name for name, one in found.items() if one.excess > 0} == {"apt", "pub"}


def spans(seed: int) -> tuple[Balance, np.ndarray, Tolerance]:
    rng = np.random.default_rng(seed)
    shape = 1, 60
    balance = Balance(
        residual=rng.integers(-50, 60, shape),
        known=rng.random(shape) < rng.choice([0.8, 0.97, 1.0]),
        averaged=rng.integers(0, 3, shape),
        charging=rng.integers(0, 2, shape),
        turns=rng.integers(0, 2, shape),
        passed=rng.integers(0, 1000, shape),
    )
    return balance, rng.random(60) < 0.05, Tolerance(fixed=20, charging=3, turn=5, loop_permille=10)


def cut(balance: Balance, part: slice) -> Balance:
    return Balance(**{name: values[:, part] for name, values in vars(balance).items()})


@pytest.mark.parametrize("seed", range(20))
def test_spans_in_sequence_have_the_residual_of_the_whole(seed: int) -> None:
    balance, begins, allowed = spans(seed)
    whole = residual_of(balance, 0, allowed, begins)
    edges = [0, *sorted(np.random.default_rng(seed).integers(1, 59, 3).tolist()), 60]
    parts = [slice(a, b) for a, b in pairwise(edges) if b > a]
    found = [residual_of(cut(balance, part), 0, allowed, begins[part]) for part in parts]
    assert reduce(DayResidual.then, found) == whole
    assert reduce(lambda later, earlier: earlier.then(later), reversed(found)) == whole, "in any grouping"


@pytest.mark.parametrize("place", ["head", "tail", "worst"])
def test_the_excess_is_that_of_the_worst_stretch(place: str) -> None:
    stretches: dict[str, Stretch] = {"head": Stretch(residual=-10), "tail": Stretch()}
    stretches |= {place: Stretch(residual=-35)} if place != "worst" else {}
    found = DayResidual(**stretches, worst=15 if place == "worst" else None, fixed=20)
    assert found.excess == 15


def test_batteries_without_loss_and_a_loop_without_loss_have_no_tolerance() -> None:
    assert tolerance(3, 1, 100, 0, 0) == Tolerance(fixed=500, charging=0, turn=0, loop_permille=0)


def test_a_loop_adds_its_share_of_what_passed_to_the_bound() -> None:
    none, unknown = np.zeros((1, 1), np.int64), np.zeros((1, 1), np.bool_)
    passed = Balance(residual=none, known=unknown, averaged=none, charging=none, turns=none, passed=none + 100_000)
    assert passed.halves(Tolerance(fixed=0, charging=0, turn=0, loop_permille=10)) == 2 * 1000
