"""Readings with the corrections that are in force: what settlement takes as the energy of each slot (B4).

A person's value replaces a reading; an estimate does not. A reading that comes later takes the place of an estimate by
itself, and never that of a person's value. Readings themselves are never changed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.block_keys import Keys
from commonwatt.model.blocks import Blocks, Quality, empty
from commonwatt.model.units import SLOTS
from commonwatt.settlement.settled import SettledQuality

_KEY = np.dtype([("meter", np.uint64), ("record_type", np.uint8), ("quarter", np.uint32)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlay:
    """The corrections in force of some blocks, each block once, by ascending key.

    Attributes:
        blocks: Their values; the quality of a slot without a correction is ``MISSING``.
        method: ``Method`` of each slot's value, 0 without one, uint8 (n, 60).
        edited: Whether a person entered the value, (n, 60).
    """

    blocks: Blocks
    method: NDArray[np.uint8]
    edited: NDArray[np.bool_]


def no_overlay() -> Overlay:
    """Return an overlay of no corrections."""
    return Overlay(blocks=empty(), method=np.zeros((0, SLOTS), np.uint8), edited=np.zeros((0, SLOTS), np.bool_))


@dataclass(frozen=True, kw_only=True, eq=False)
class Corrected:
    """Blocks with their corrections, by ascending key.

    Attributes:
        keys: Meter, record type and quarter, (n).
        values: Milliwatt-hours; 0 where missing, (n, 60).
        quality: ``SettledQuality`` of each slot, uint8 (n, 60).
    """

    keys: Keys
    values: NDArray[np.int64]
    quality: NDArray[np.uint8]


def applied(raw: Blocks, overlay: Overlay) -> Corrected:
    """Return the readings with the corrections in force.

    Args:
        raw: Joined readings, each block once.
        overlay: Corrections of any blocks.
    """
    of_raw, of_overlay = _keys_of(raw), _keys_of(overlay.blocks)
    keys = np.union1d(of_raw, of_overlay)
    values = np.zeros((len(keys), SLOTS), np.int64)
    quality = np.zeros((len(keys), SLOTS), np.uint8)
    rows = np.searchsorted(keys, of_raw)
    values[rows] = raw.values
    quality[rows] = _MEASURED[raw.quality]
    rows = np.searchsorted(keys, of_overlay)
    corrected = overlay.blocks.quality > Quality.MISSING
    taken = corrected & (overlay.edited | (quality[rows] == SettledQuality.MISSING))
    values[rows] = np.where(taken, overlay.blocks.values, values[rows])
    made = np.where(overlay.edited, np.uint8(SettledQuality.EDITED), np.uint8(SettledQuality.ESTIMATED))
    quality[rows] = np.where(taken, made, quality[rows])
    return Corrected(
        keys=Keys(keys["meter"].copy(), keys["record_type"].copy(), keys["quarter"].copy()),
        values=values,
        quality=quality,
    )


_MEASURED = np.zeros(3, np.uint8)
_MEASURED[Quality.AVERAGED] = SettledQuality.AVERAGED
_MEASURED[Quality.EXACT] = SettledQuality.MEASURED


def _keys_of(blocks: Blocks) -> NDArray[np.void]:
    keys = np.empty(len(blocks), _KEY)
    keys["meter"], keys["record_type"], keys["quarter"] = blocks.meter, blocks.record_type, blocks.quarter
    return keys
