"""Corrections over readings: what counts where both are there."""

import numpy as np
import pytest

from commonwatt.model.blocks import Quality, empty, make_blocks
from commonwatt.model.units import SLOTS
from commonwatt.settlement.estimates.methods import Method
from commonwatt.settlement.overlay import Overlay, applied, no_overlay
from commonwatt.settlement.settled import SettledQuality

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
