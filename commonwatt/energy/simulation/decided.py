"""What the mechanisms of a policy decided in a run, and why two policies have the same figures."""

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np

from commonwatt.energy.physics.boundary import NO_LIMIT_W
from commonwatt.energy.physics.plant import Order
from commonwatt.energy.physics.step import Inputs
from commonwatt.model.units import EpochSeconds
from commonwatt.settlement.splits import Array, Flags

MECHANISMS = ("sharing", "reduction", "turns", "rationing", "purchases ahead", "use of the reserve")

# Of each mechanism, in how many steps it acted, and a checksum of its decisions with their times.
Decided = Mapping[str, Sequence[int]]
NOTHING: Decided = dict.fromkeys(MECHANISMS, (0, 0))  # no mechanism acted


def added(
    decided: Decided, time: EpochSeconds, inputs: Sequence[Inputs], limits: Sequence[Array], order: Order, level: int
) -> Decided:
    """Return what was decided with one more step; the reserve is used if the plant's ``level`` ends at or below it."""
    decisions: tuple[Sequence[Array | Flags | None], ...] = (
        [one.weights for one in inputs],
        [one.reducing for one in inputs],
        [one.isolated for one in inputs],
        [np.where(one < NO_LIMIT_W, one + 1, 0) for one in limits],
        [np.array([order.buy])],
        [np.array([order.keep if level <= order.keep else 0])],
    )
    found = {}
    for (name, (steps, check)), of in zip(decided.items(), decisions, strict=True):
        some = [(row, one) for row, one in enumerate(of) if one is not None and one.any()]
        made = b"".join(f"{time} {row} ".encode() + one.tobytes() for row, one in some)
        found[name] = steps + bool(some), crc32(made, check)
    return found


def equal_rows(rows: Sequence[Mapping[str, object]], decided: Mapping[str, Decided]) -> list[str]:
    """Return a sentence for each row (a policy's name, and its figures) that is equal to an earlier one: why it is."""
    first: dict[tuple[object, ...], str] = {}
    found = []
    for row in rows:
        name, *figures = row.values()
        other = first.setdefault(tuple(figures), str(name))
        if other != name:
            found.append(f"{name} is equal to {other}: {_reason(decided[str(name)], decided[other])}.")
    return found


def _reason(one: Decided, other: Decided) -> str:
    acted = [name for name in MECHANISMS if one[name][0] or other[name][0]]
    if differing := [name for name in acted if one[name] != other[name]]:
        steps = (f"{name} ({one[name][0]} steps, not {other[name][0]})" for name in differing)
        return f"different decisions on {', '.join(steps)} change less than the table shows"
    idle = ", ".join(name for name in MECHANISMS if name not in acted) or "none"
    return f"the same decisions in every step on {', '.join(acted) or 'nothing'}; never acted: {idle}"
