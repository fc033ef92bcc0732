import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.energy.splits import Array, fill, pro_rata
from harness.energy.reference import split, water_fill

Member = tuple[int, int]


def one_row(total: int, members: list[Member]) -> tuple[Array, Array, Array]:
    weights, caps = (np.array([[member[i] for member in members]], dtype=np.int64) for i in (0, 1))
    return np.array([total]), weights.reshape(1, -1), caps.reshape(1, -1)


members_ = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 10**8)), max_size=12)


@given(total=st.integers(0, 10**9), members=members_)
def test_division_pro_rata_is_exact_capped_and_proportional(total: int, members: list[Member]) -> None:
    arguments = one_row(total, members)
    parts = pro_rata(*arguments)[0].tolist()
    assert parts == split(total, [w for w, _ in members], [c for _, c in members])
    assert all(0 <= part <= cap for part, (_, cap) in zip(parts, members, strict=True))
    assert sum(parts) == min(total, sum(cap for weight, cap in members if weight))
    for part, (weight, cap) in zip(parts, members, strict=True):
        if weight and part < cap:
            # No place below its cap has less than another has per weight, but for rounding by one.
            assert all((o - 1) * weight <= (part + 1) * w for o, (w, _) in zip(parts, members, strict=True) if w)


@given(total=st.integers(0, 1000), caps=st.lists(st.integers(0, 300), max_size=8))
def test_equal_division_is_level(total: int, caps: list[int]) -> None:
    parts = fill(np.array([total]), np.array([caps], dtype=np.int64))[0].tolist()
    assert parts == water_fill(total, caps)
    assert sum(parts) == min(total, sum(caps))
    below = [part for part, cap in zip(parts, caps, strict=True) if part < cap]
    if below:
        assert max(parts) <= min(below) + 1


@given(rows=st.lists(st.tuples(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), min_size=4, max_size=4))))
def test_rows_are_divided_independently(rows: list[tuple[int, list[int]]]) -> None:
    totals = np.array([total for total, _ in rows], dtype=np.int64)
    caps = np.array([each for _, each in rows], dtype=np.int64).reshape(-1, 4)
    weights = np.arange(4) + np.zeros_like(caps)
    assert fill(totals, caps).tolist() == [water_fill(total, each) for total, each in rows]
    assert pro_rata(totals, weights, caps).tolist() == [split(total, range(4), each) for total, each in rows]


def test_three_apartment_buildings_are_divided_without_overflow() -> None:
    # The largest weights; the product of a total with a weight would be beyond 2⁶³.
    building = 100 * 600 * 24 * 1000
    for total in (3 * building - 1, 3 * building * 10**6 - 1):
        members = [(1000, total // 2), (999, total), (1, total)]
        arguments = one_row(total, members)
        assert pro_rata(*arguments)[0].tolist() == split(total, [1000, 999, 1], [total // 2, total, total])
        assert fill(arguments[0], arguments[2])[0].tolist() == water_fill(total, [total // 2, total, total])


def test_town_totals_are_divided_without_overflow() -> None:
    rng = np.random.default_rng(1)
    total = 10**15  # ten thousand times the town battery
    members = [
        (int(w), int(c)) for w, c in zip(rng.integers(1, 1001, 8303), rng.integers(0, 10**12, 8303), strict=True)
    ]
    assert total * max(weight for weight, _ in members) * 10 > 2**63
    parts = pro_rata(*one_row(total, members))[0]
    assert parts.tolist() == split(total, [w for w, _ in members], [c for _, c in members])
