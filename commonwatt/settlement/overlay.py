"""Readings with the corrections that are in force: what settlement takes as the energy of each slot (B4).

A person's value replaces a reading; an estimate does not. A reading that comes later takes the place of an estimate by
itself, and never that of a person's value. Readings themselves are never changed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.block_keys import Keys
from commonwatt.model.blocks import Blocks, Quality, empty
from commonwatt.model.units import SLOTS, Quarter
from commonwatt.settlement.settled import SettledQuality


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlay:
    """The corrections in force of some blocks, each block once."""

    blocks: Blocks  # their values; the quality of a slot without a correction is ``MISSING``
    method: NDArray[np.uint8]  # ``Method`` of each slot's value, 0 without one, uint8 (n, 60)
    edited: NDArray[np.bool_]  # whether a person entered the value, (n, 60)

    def of(self, quarter: Quarter) -> "Overlay":
        """Return the corrections of a quarter."""
        rows = np.flatnonzero(self.blocks.quarter == quarter)
        return Overlay(blocks=self.blocks.take(rows), method=self.method[rows], edited=self.edited[rows])


def no_overlay() -> Overlay:
    """Return an overlay of no corrections."""
    return Overlay(blocks=empty(), method=np.zeros((0, SLOTS), np.uint8), edited=np.zeros((0, SLOTS), np.bool_))


@dataclass(frozen=True, kw_only=True, eq=False)
class Corrected:
    """Blocks with their corrections: those with readings in their order, then those with corrections alone."""

    keys: Keys  # meter, record type and quarter, (n)
    values: NDArray[np.int64]  # milliwatt-hours; 0 where missing, (n, 60)
    quality: NDArray[np.uint8]  # ``SettledQuality`` of each slot, uint8 (n, 60)


def applied(raw: Blocks, overlay: Overlay) -> Corrected:
    """Return the readings with the corrections in force.

    Args:
        raw: Joined readings, each block once.
        overlay: Corrections of any blocks.
    """
    quality = _MEASURED[raw.quality]
    if not len(overlay.blocks):
        return Corrected(keys=raw.keys(), values=raw.values, quality=quality)
    rows, alone = _places(raw, overlay.blocks)
    keys, more = raw.keys(), overlay.blocks.keys().take(alone)
    nothing = np.zeros((len(alone), SLOTS), np.int64)
    values = np.concatenate([raw.values, nothing])
    quality = np.concatenate([quality, nothing.astype(np.uint8)])
    corrected = overlay.blocks.quality > Quality.MISSING
    taken = corrected & (overlay.edited | (quality[rows] == SettledQuality.MISSING))
    made = np.where(overlay.edited, np.uint8(SettledQuality.EDITED), np.uint8(SettledQuality.ESTIMATED))
    values[rows] = np.where(taken, overlay.blocks.values, values[rows])
    quality[rows] = np.where(taken, made, quality[rows])
    every = Keys(
        np.concatenate([keys.meter, more.meter]),
        np.concatenate([keys.record_type, more.record_type]),
        np.concatenate([keys.quarter, more.quarter]),
    )
    return Corrected(keys=every, values=values, quality=quality)


_MEASURED = np.zeros(len(Quality), np.uint8)
_MEASURED[Quality.AVERAGED] = SettledQuality.AVERAGED
_MEASURED[Quality.EXACT] = SettledQuality.MEASURED


def _places(raw: Blocks, corrected: Blocks) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row of each corrected block in the result, and which of them have no reading."""
    # Corrections are few, readings a town's: only blocks of the same meters are looked at one by one.
    near = np.flatnonzero(np.isin(raw.meter, corrected.meter)).tolist()
    there = {raw.key(row): row for row in near}
    rows = np.array([there.get(corrected.key(row), -1) for row in range(len(corrected))], np.intp)
    alone = np.flatnonzero(rows < 0)
    rows[alone] = len(raw) + np.arange(len(alone))
    return rows, alone
