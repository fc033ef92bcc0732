"""The controllers of microgrids in a scenario: who shares, who reduces, who is off in turn (C1, C2, U5).

They know the levels at a step's beginning, and their commands arrive at once. Where no controller works, nothing is
commanded.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from commonwatt.energy.places import Places
from commonwatt.energy.shedding import Islands, energy_h, number_of, ranks, reduces, shed
from commonwatt.energy.step import NO_LIMIT_W, Inputs
from commonwatt.energy.strategies import BAND_PERMILLE, LEAST_S, Batteries, Strategy
from commonwatt.model.units import EpochSeconds

_Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ControllerRules:
    """The rules that controllers follow."""

    sharing: Strategy | None = None  # how batteries share; ``None``: they do not
    # Whether places reduce in an island with little energy, within an import limit, and while supply is not NORMAL.
    reduces: bool = False
    reduces_all_islands: bool = False  # whether places of an island reduce however much energy it has (A5)
    sheds: bool = False  # whether places are off in turn in an island and within an import limit


@dataclass(frozen=True, kw_only=True, eq=False)
class StepSituation:
    """What controllers know at the beginning of a step, by microgrid unless stated."""

    level: NDArray[np.int64]  # level of each battery, by microgrid and place
    islands: _Flags  # which microgrids are islands
    managed: _Flags  # which controllers work
    short: _Flags  # which received that the supply is short
    import_limit_w: NDArray[np.int64]  # the limit of the import, watts; ``NO_LIMIT_W``: none
    held: bool = False  # whether a storm is announced: batteries share as in an island


class Controllers:
    """The controllers of the microgrids of one layout."""

    def __init__(self, places: Places, rules: ControllerRules) -> None:
        self.switches = 0  # changes between sharing and not sharing, of all batteries
        self._places = places
        self._rules = rules
        self.sharing = np.zeros(places.shape, dtype=np.bool_)  # which batteries share by command, (M, P)
        self._since = np.zeros(places.shape, dtype=np.int64)
        self._islands = np.zeros(places.shape[0], dtype=np.bool_)
        self._reducing = np.zeros(places.shape[0], dtype=np.bool_)
        self.off = self.sharing  # which places are off in turn
        self._rank = ranks(places.priority)
        self._number = np.array([number_of(name) for name in places.microgrids])

    def command(self, time: EpochSeconds, inputs: Inputs, seen: StepSituation) -> Inputs:
        """Return the inputs of a step with the commands."""
        limited = seen.import_limit_w < NO_LIMIT_W
        islands = seen.islands
        if not self._rules.reduces_all_islands:
            islands = islands & reduces(energy_h(self._islands_of(seen)), self._reducing)
        self._reducing = (islands | seen.short | limited) & seen.managed & self._rules.reduces
        if self._reducing.any():
            inputs = replace(inputs, reducing=np.broadcast_to(self._reducing[:, None], self._places.shape))
        self.off = self._shed(time, seen)
        if self.off.any():
            inputs = replace(inputs, isolated=self.off)
        weights = self._share(time, seen)
        return replace(inputs, weights=weights if weights.any() else None)

    def _shed(self, time: EpochSeconds, seen: StepSituation) -> _Flags:
        """Return which places are off: in an island, and within an import limit."""
        limited = (seen.islands | (seen.import_limit_w < NO_LIMIT_W)) & seen.managed & self._rules.sheds
        if not limited.any():
            return np.zeros_like(self.off)
        return np.asarray(shed(self._islands_of(seen), time) & limited[:, None])

    def _islands_of(self, seen: StepSituation) -> Islands:
        places = self._places
        return Islands(
            level=seen.level,
            floor=places.minimum,
            capacity=places.capacity,
            known=places.capacity > 0,
            priority=places.priority,
            rank=self._rank,
            off=self.off,
            number=self._number,
            import_w=np.where(seen.islands, 0, seen.import_limit_w),
        )

    def _share(self, time: EpochSeconds, seen: StepSituation) -> NDArray[np.int64]:
        """Return the weights of the batteries that share."""
        if self._rules.sharing is None:
            return np.zeros(self._places.shape, dtype=np.int64)
        has = self._places.capacity > 0
        # An island's beginning or end ends the least time.
        islands = seen.islands | seen.held
        self._since[islands != self._islands] = 0
        self._islands = islands
        plan = self._rules.sharing(
            Batteries(
                level=seen.level,
                capacity=self._places.capacity,
                minimum=self._places.minimum,
                available=has & seen.managed[:, None] & ~self.off,
                may_share=has,
                sharing=self.sharing,
                weight=self._places.weight,
                band_permille=BAND_PERMILLE,
                islands=islands,
                recent=time - self._since < LEAST_S,
            )
        )
        self.switches += int((plan.donors != self.sharing).sum())
        self._since[plan.donors & ~self.sharing] = time
        self.sharing = plan.donors
        return plan.weights
