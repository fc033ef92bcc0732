"""A settled day as bytes: what goes in comes out, and damage is named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.model.exceptions import StoreError
from commonwatt.settlement.packed import MeterDays, contents, days_of, packed, unpacked
from commonwatt.settlement.settled import Quantity


def days(seed: int, rows: int, scale: int) -> MeterDays:
    rng = np.random.default_rng(seed)
    has = {quantity: np.zeros(rows, np.bool_) for quantity in Quantity}
    for pair in ((Quantity.IMPORTED, Quantity.SHARED_IN), (Quantity.EXPORTED, Quantity.SHARED_OUT)):
        has[pair[0]] = has[pair[1]] = rng.random(rows) < 0.7
    return MeterDays(
        energies={
            quantity: rng.integers(0, scale, (rows, 96))
            * (rng.random((rows, 96)) < rng.random())
            * has[quantity][:, None]
            for quantity in Quantity
        },
        has=has,
        quality=rng.integers(0, 5, (rows, 96 if seed % 2 else 1)).astype(np.uint8) * np.ones((1, 96), np.uint8),
    )


@given(seed=st.integers(0, 10**6), rows=st.integers(0, 4), scale=st.sampled_from([1, 2, 300, 10**5, 2**40, 2**52]))
@settings(max_examples=40, deadline=None)
def test_what_is_packed_comes_out_again(seed: int, rows: int, scale: int) -> None:
    before = days(seed, rows, scale)
    made = contents(before)
    keys = [(2**63 + n, 20_000 + n) for n in range(rows)]
    assert unpacked(keys, packed(keys, made)) == made
    after = days_of(made)
    for quantity in Quantity:
        assert (after.energies[quantity] == before.energies[quantity]).all()
        assert (after.has[quantity] == before.has[quantity]).all()
    assert (after.quality == before.quality).all()


@pytest.mark.parametrize("most", [2 ** (8 * n) + more for n in range(1, 7) for more in (-1, 0)])
def test_values_at_the_edge_of_a_width_come_out_again(most: int) -> None:
    before = days(3, 1, 1)
    before.has[Quantity.IMPORTED][:] = before.has[Quantity.SHARED_IN][:] = True
    # 1 and the greatest value have no divisor in common.
    before.energies[Quantity.IMPORTED][0, :2] = 1, most
    assert (days_of(contents(before)).energies[Quantity.IMPORTED] == before.energies[Quantity.IMPORTED]).all()


def test_damage_and_another_meters_day_are_named() -> None:
    (payload,) = packed([(7, 20_000)], contents(days(1, 1, 1000)))
    too_long = payload[:4] + bytes([payload[4] ^ 128]) + payload[5:]  # Its size then is one of many terabytes.
    for damaged in (payload[:-1], payload[:9] + b"?" + payload[10:], payload[4:], b"1234", too_long):
        with pytest.raises(StoreError, match="settled day 20000 of meter 7"):
            unpacked([(7, 20_000)], [damaged])
    with pytest.raises(StoreError, match="settled day 20000 of meter 8: its checksum"):
        unpacked([(8, 20_000)], [payload])
