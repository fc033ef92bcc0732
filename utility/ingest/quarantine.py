"""Sets implausible readings of a batch apart, so that nobody is billed for them unseen (pure).

Gateways hold them back already; this is for those that don't. What is set apart goes into letters, from where a person
releases or refuses it; the rest of the block is stored as ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from commonwatt.codec.packing import pack
from commonwatt.codec.payloads import Payloads
from commonwatt.model.blocks import Blocks, concatenate, make_blocks
from commonwatt.model.records import Rejection
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.batches import Letter
from commonwatt.protocol.dead_letters import block_letters, held_blocks
from utility.store.registry import KnownMeter

Held = tuple[Letter, Blocks]
"""A letter that a person is to decide on, and the readings it holds."""


@dataclass(frozen=True)
class Sorted:
    """A batch's blocks without what is implausible.

    Attributes:
        blocks: The plausible slots.
        payloads: The same packed; as received where nothing was set apart.
        held: What was set apart.
    """

    blocks: Blocks
    payloads: Payloads
    held: tuple[Held, ...] = ()


def sort_out(blocks: Blocks, payloads: Payloads, limits: npt.NDArray[np.int64], now: EpochSeconds) -> Sorted:
    """Set slots over their block's limit apart; nearly always there are none, and nothing is copied."""
    over = blocks.values.max(axis=1) > limits
    over[blocks.extras["row"][blocks.extras["value"] > limits[blocks.extras["row"]]]] = True
    if not over.any():
        return Sorted(blocks, payloads)
    rows = np.flatnonzero(over)
    good, apart = _split(blocks.take(rows), limits[rows])
    kept = np.flatnonzero(good.quality.any(axis=1))
    others = np.setdiff1d(np.arange(len(blocks)), rows)
    mended = good.take(kept)
    letters = block_letters(now, apart, Rejection.IMPLAUSIBLE)
    return Sorted(
        concatenate([blocks.take(others), mended]),
        Payloads.of([*payloads.take(others), *pack(mended)]),
        tuple((letter, apart.take([row])) for row, letter in enumerate(letters)),
    )


def _split(blocks: Blocks, limits: npt.NDArray[np.int64]) -> tuple[Blocks, Blocks]:
    """Divide each value of each slot; a slot with values on both sides is in both."""
    sides: list[dict[tuple[int, int], list[int]]] = [{}, {}]
    for row in range(len(blocks)):
        for slot in np.flatnonzero(blocks.quality[row]).tolist():
            more = [value for at, value in blocks.extras_of(row) if at == slot]
            for value in [int(blocks.values[row, slot]), *more]:
                sides[bool(value > limits[row])].setdefault((row, slot), []).append(value)
    good, apart = (_of(blocks, side) for side in sides)
    return good, apart


def _of(blocks: Blocks, slots: dict[tuple[int, int], list[int]]) -> Blocks:
    values = np.zeros(blocks.values.shape, np.int64)
    quality = np.zeros(blocks.quality.shape, np.uint8)
    extras = []
    for (row, slot), (smallest, *more) in slots.items():
        values[row, slot], quality[row, slot] = smallest, blocks.quality[row, slot]
        extras += [(row, slot, value) for value in more]
    return make_blocks(blocks.keys(), values, quality, extras)


def held_letters(
    letters: Sequence[Letter], owner: str, meters: Mapping[int, KnownMeter]
) -> tuple[list[Letter], tuple[Held, ...]]:
    """Divide relayed letters into those that stay letters, and those that a person is to decide on."""
    plain, held = [], []
    for letter in letters:
        meter = meters.get(letter.meter)
        blocks = None
        if meter is not None and meter.microgrid == owner:
            blocks = held_blocks(letter, meter.account, meter.record_types)
        if blocks is None:
            plain.append(letter)
        else:
            held.append((letter, blocks))
    return plain, tuple(held)
