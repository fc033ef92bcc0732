"""Settled quarters: corrections over readings, and a day as bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.model.blocks import Quality, empty, make_blocks
from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import SLOTS
from utility.corrections.estimates import Method
from utility.energy.quarters import Overlay, Quantity, SettledQuality, applied, no_overlay
from utility.settlement.packed import MeterDays, contents, days_of, packed, unpacked

KEY = (7, 3, 100)


def an_overlay(value: int, *, edited: bool, key: tuple[int, int, int] = KEY) -> Overlay:
    """Return a correction of the first slot of a block."""
    values, quality = np.zeros((1, SLOTS), np.int64), np.zeros((1, SLOTS), np.uint8)
    values[0, 0], quality[0, 0] = value, Quality.EXACT
    method = np.where(quality > 0, np.uint8(Method.EDIT if edited else Method.BALANCE), np.uint8(0))
    return Overlay(
        blocks=make_blocks([key], values, quality), method=method, edited=np.full((1, SLOTS), edited) & (quality > 0)
    )


@pytest.mark.parametrize(
    ("reading", "edited", "expected"),
    [
        (Quality.MISSING, False, (5, SettledQuality.ESTIMATED)),
        (Quality.MISSING, True, (5, SettledQuality.EDITED)),
        (Quality.AVERAGED, False, (9, SettledQuality.AVERAGED)),
        (Quality.AVERAGED, True, (5, SettledQuality.EDITED)),
        (Quality.EXACT, False, (9, SettledQuality.MEASURED)),
        (Quality.EXACT, True, (5, SettledQuality.EDITED)),
    ],
)
def test_reading_beats_an_estimate_and_an_edit_beats_a_reading(
    reading: Quality, edited: bool, expected: tuple[int, SettledQuality]
) -> None:
    raw = make_blocks([KEY], np.full((1, SLOTS), 9), np.full((1, SLOTS), reading))
    found = applied(raw, an_overlay(5, edited=edited))
    assert (found.values[0, 0], found.quality[0, 0]) == expected
    untouched = (0, SettledQuality.MISSING) if reading == Quality.MISSING else (9, found.quality[0, 1])
    assert (found.values[0, 1], found.quality[0, 1]) == untouched
    assert (raw.values[0] == np.where(raw.quality[0] > 0, 9, 0)).all(), "readings are never changed"


def test_blocks_without_readings_come_after_those_with() -> None:
    raw = make_blocks([(8, 3, 1), (9, 3, 1)], np.ones((2, SLOTS)), np.full((2, SLOTS), Quality.EXACT))
    found = applied(raw, an_overlay(5, edited=False, key=(2**64 - 1, 3, 0)))
    assert list(found.keys) == [(8, 3, 1), (9, 3, 1), (2**64 - 1, 3, 0)]
    assert found.values[:, 0].tolist() == [1, 1, 5]
    other_type = applied(raw, an_overlay(5, edited=True, key=(8, 1, 1)))
    assert list(other_type.keys) == [(8, 3, 1), (9, 3, 1), (8, 1, 1)]
    assert list(applied(raw, no_overlay()).keys) == [(8, 3, 1), (9, 3, 1)]
    assert len(applied(empty(), no_overlay()).keys) == 0


def test_corrections_of_one_quarter_are_taken_out_of_those_of_a_day() -> None:
    overlay = an_overlay(5, edited=True)
    assert list(overlay.of(KEY[2]).blocks.keys()) == [KEY]
    assert len(overlay.of(KEY[2] + 1).blocks) == 0


def test_the_qualities_are_five_numbers_that_files_keep() -> None:
    assert [(each.name, each.value) for each in SettledQuality] == [
        *(("MISSING", 0), ("ESTIMATED", 1), ("EDITED", 2), ("AVERAGED", 3), ("MEASURED", 4))
    ]


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
