"""What the mechanisms of a policy decided in a run, and why two policies have the same figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import EpochSeconds, MilliwattHours
from meter_sim.physics.boundary import NO_LIMIT_W
from meter_sim.physics.plant import Order
from meter_sim.physics.step import Inputs

MECHANISMS = ("sharing", "reduction", "turns", "rationing", "purchases ahead", "use of the reserve")

Stated = Mapping[str, Mapping[str, object]]
"""Of each mechanism, in how many ``steps`` it acted, and a ``digest`` of its decisions and their times."""


class Decided:
    """The decisions of each mechanism in a run."""

    def __init__(self) -> None:
        self._steps = Counter[str]()
        self._digests = {name: blake2b(digest_size=16) for name in MECHANISMS}

    def add(
        self,
        time: EpochSeconds,
        inputs: Sequence[Inputs],
        limits: Sequence[NDArray[np.int64]],
        order: Order,
        plant_level: MilliwattHours,
    ) -> None:
        """Add a step that ended at ``plant_level``; the reserve is used in a step that ends at or below it."""
        decisions: tuple[Sequence[NDArray[np.int64] | NDArray[np.bool_] | None], ...] = (
            [one.weights for one in inputs],
            [one.reducing for one in inputs],
            [one.isolated for one in inputs],
            [np.where(one < NO_LIMIT_W, one + 1, 0) for one in limits],
            [np.array([order.buy])],
            [np.array([order.keep if plant_level <= order.keep else 0])],
        )
        for name, each in zip(MECHANISMS, decisions, strict=True):
            some = [(row, one) for row, one in enumerate(each) if one is not None and one.any()]
            self._steps[name] += bool(some)
            self._digests[name].update(b"".join(f"{time} {row} ".encode() + one.tobytes() for row, one in some))

    def stated(self) -> Stated:
        """Return what was decided."""
        return {name: {"steps": self._steps[name], "digest": it.hexdigest()} for name, it in self._digests.items()}


def equal_rows(rows: Sequence[Mapping[str, object]], decided: Mapping[str, Stated]) -> list[str]:
    """Return a sentence for each row that is equal to one before it: to which, and why.

    Args:
        rows: A row a policy: its name, under ``policy``, and its figures.
        decided: What each policy decided, by its name.
    """
    first: dict[tuple[object, ...], str] = {}
    found = []
    for row in rows:
        name, *figures = row.values()
        other = first.setdefault(tuple(figures), str(name))
        if other != name:
            found.append(f"{name} is equal to {other}: {_reason(decided[str(name)], decided[other])}.")
    return found


def _reason(one: Stated, other: Stated) -> str:
    acted = [name for name in MECHANISMS if one[name]["steps"] or other[name]["steps"]]
    if differing := [name for name in acted if one[name] != other[name]]:
        steps = [f"{name} ({one[name]['steps']} steps, not {other[name]['steps']})" for name in differing]
        return f"different decisions on {', '.join(steps)} change less than the table shows"
    idle = ", ".join(name for name in MECHANISMS if name not in acted) or "none"
    return f"the same decisions in every step on {', '.join(acted) or 'nothing'}; never acted: {idle}"
