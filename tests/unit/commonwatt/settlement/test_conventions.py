"""The division of what a microgrid shares: exact, balanced, and in a stated order."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.settlement.conventions import CONVENTIONS, Members, pro_rata, sharing_first
from commonwatt.settlement.splits import in_proportion, row_sums

energies = st.lists(st.integers(0, 10**6), min_size=1, max_size=6)


def members(sent: list[int], taken: list[int], **more: list[int]) -> Members:
    arrays = {name: np.array([values], np.int64) for name, values in more.items()}
    return Members(sent=np.array([sent], np.int64), taken=np.array([taken], np.int64), **arrays)


@given(sent=energies, taken=energies)
@settings(max_examples=100, deadline=None)
def test_what_is_shared_out_is_shared_in_to_the_milliwatt_hour(sent: list[int], taken: list[int]) -> None:  # req: C4
    one = members(sent, taken)
    for convention in CONVENTIONS.values():
        split = convention(one)
        assert row_sums(split.shared_in) == row_sums(split.shared_out) == min(sum(sent), sum(taken))
        assert (split.shared_in >= 0).all()
        assert (split.shared_in <= one.taken).all()
        assert (split.shared_out >= 0).all()
        assert (split.shared_out <= one.sent).all()


def test_pro_rata_gives_odd_milliwatt_hours_to_the_largest_remainders() -> None:
    split = pro_rata(members([10], [4, 4, 4]))
    assert split.shared_in.tolist() == [[4, 3, 3]], "of equal remainders, the first"
    split = pro_rata(members([100, 1], [7, 2, 5]))
    assert split.shared_out.tolist() == [[14, 0]]
    assert split.shared_in.tolist() == [[7, 2, 5]], "the town took the rest"


def test_sharing_first_gives_a_battery_what_was_given_to_it() -> None:
    # 60 of 100 were given to the first by sharing; the second takes 300 for its loads.
    split = sharing_first(members([100], [60, 300], given=[60], received=[60, 0]))
    assert split.shared_in.tolist() == [[60, 40]]
    # Pro rata the giver's energy goes mostly to the loads, and the battery pays for what it was given.
    assert pro_rata(members([100], [60, 300])).shared_in.tolist() == [[17, 83]]


def test_energies_of_any_size_are_divided_exactly() -> None:
    total, weights = 2**52 + 1, [2**53, 2**53 - 1, 1]
    parts = in_proportion(np.array([total]), np.array([weights]))[0].tolist()
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(total * weight, sum(weights))) < 1
