"""Strategies of sharing by name: pure functions of arrays, for one microgrid or a whole town (docs/control.md).

Batteries of many microgrids as arrays, what each has and lacks, and the plan of a strategy.
Every array has the shape microgrids x places. Energies are int64 milliwatt-hours, each below 2**53 in size, so that
the sum over the places of a microgrid stays below 2**63 for up to 1,024 places.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from commonwatt.energy.splits import counts, fill, pro_rata, row_sums

Energies = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

ISLAND_TARGET = 24  # in an island help goes up to the capacity over this: an hour of average use (T1, T2)
BAND_PERMILLE = 20  # thousandths of the capacity by which the start of help is delayed
# Least seconds for which a battery shares, so that noise in the levels does not switch it (``Batteries.staying``).
LEAST_S = 300
MAX_WEIGHT = 1000  # highest weight of a donor (``commonwatt.protocol.commands``)


def any_place(flags: Flags) -> Flags:
    """Return whether a flag is set at any place of each microgrid."""
    return np.asarray(counts(flags) > 0)


@dataclass(frozen=True, kw_only=True)
class Batteries:
    """The batteries of microgrids, as their meters report them; places without a battery are not available."""

    level: Energies  # the energy stored in each battery
    capacity: Energies  # its capacity
    minimum: Energies  # its sharing minimum: below it the battery receives, and does not share
    available: Flags  # whether it can take part: its level is recent, its meter is up, and it is not isolated
    may_share: Flags  # whether it shares by command; else it only receives
    sharing: Flags  # whether its meter holds ``share_power_on``
    # The share of the discharge that its owner agreed to, relative to other donors, 1 to ``MAX_WEIGHT``.
    weight: Energies
    band_permille: int  # thousandths of the capacity by which the start of help is delayed
    islands: Flags | None = None  # which microgrids are islands, (M,); ``None``: none
    # Which batteries began to share less than ``LEAST_S`` ago, without an island's beginning or end or a command since
    # then; ``None``: none.
    recent: Flags | None = None

    @cached_property
    def usable(self) -> Flags:
        """Whether a battery is available and its level can be."""
        return self.available & (self.level >= 0) & (self.level <= self.capacity)

    @cached_property
    def surplus(self) -> Energies:
        """The energy above the minimum, of batteries that may share."""
        return np.where(self.usable & self.may_share, np.maximum(self.level - self.minimum, 0), 0)

    @cached_property
    def target(self) -> Energies:
        """The level up to which a battery is helped: its minimum, in an island at most an hour of use."""
        if self.islands is None:
            return self.minimum
        return np.where(self.islands[:, None], np.minimum(self.minimum, self.capacity // ISLAND_TARGET), self.minimum)

    @cached_property
    def deficit(self) -> Energies:
        """The energy that is missing up to the target."""
        return np.where(self.usable, np.maximum(self.target - self.level, 0), 0)

    @cached_property
    def band(self) -> Energies:
        """The width of the band."""
        return self.capacity * self.band_permille // 1000

    @cached_property
    def held(self) -> Flags:
        """Whether a battery shares by a command that its meter holds."""
        return self.sharing & self.usable

    @cached_property
    def able(self) -> Flags:
        """Whether a battery can give: it starts with a surplus of the band, and goes on down to its minimum."""
        enough: Flags = self.surplus >= np.minimum(self.band, self.capacity - self.minimum)
        return (self.surplus > 0) & (self.held | enough)

    @cached_property
    def staying(self) -> Flags:
        """Whether a battery goes on sharing because one of its microgrid began recently, needed or not at the moment.

        Its own minimum ends that, and all batteries that do not share being the band above their target. Those that
        began earlier go on, too: help that one battery still gives would start them again without the band.
        """
        if self.recent is None:
            return np.zeros_like(self.sharing)
        enough = self.level >= np.minimum(self.target + self.band, self.capacity)
        others: Flags = self.usable & ~self.held & (self.target > 0) & ~enough
        giving: Flags = self.held & (self.surplus > 0)
        return giving & (any_place(giving & self.recent) & any_place(others))[:, None]

    @cached_property
    def low(self) -> Flags:
        """Whether a battery's deficit is as large as the band, or the battery is empty."""
        enough: Flags = self.deficit >= np.minimum(self.band, self.target)
        return enough & (self.deficit > 0)

    @cached_property
    def empty(self) -> Flags:
        """Whether a battery is empty, with a minimum above that."""
        zero: Flags = self.level == 0
        return zero & (self.deficit > 0)

    def acting(self, start: Flags) -> Flags:
        """Return the microgrids in which help is given, one flag each.

        Help starts with a battery of ``start``, and ends when no battery is below its target. That help was started
        is known by the meters that hold ``share_power_on``.
        """
        return any_place(start) | any_place(self.held) & any_place(self.deficit > 0)


@dataclass(frozen=True)
class SharingPlan:
    """Which batteries give and receive, from now until each battery has its minimum or no surplus is left."""

    weights: Energies  # the share of the discharge of each donor relative to other donors; 0: no donor
    giving: Energies  # the energy that each donor is planned to give
    receiving: Energies  # the energy that each battery is planned to receive
    donors: Flags = field(init=False)  # whether each battery gives

    def __post_init__(self) -> None:
        object.__setattr__(self, "donors", self.weights > 0)


def spec_plan(batteries: Batteries) -> SharingPlan:
    """Return the plan: when a battery is below its minimum and others are above, those above share.

    Help starts when a deficit is as large as the band. It ends when no battery is below its minimum.
    """
    return all_above_share(batteries, batteries.acting(batteries.low))


def all_above_share(batteries: Batteries, acting: Flags) -> SharingPlan:
    """Return the plan by which all batteries above their minimum share in the microgrids ``acting``."""
    donors = batteries.able & acting[:, None] | batteries.staying
    weights = np.where(donors, batteries.weight, 0)
    caps = np.where(weights > 0, batteries.surplus, 0)
    total = np.minimum(row_sums(caps), row_sums(batteries.deficit))
    return SharingPlan(weights, pro_rata(total, weights, caps), fill(total, batteries.deficit))


def aces_plan(batteries: Batteries) -> SharingPlan:
    """Return the plan: help starts when a battery is empty. It ends when no battery is below its minimum."""
    return all_above_share(batteries, batteries.acting(batteries.empty))


_AHEAD = 2**60  # more than any surplus


def rangers_plan(batteries: Batteries) -> SharingPlan:
    """Return the plan: of the batteries above their minimum, only those give that are needed.

    Batteries that already share come first, then the largest surplus in milliwatt-hours; of equal surpluses, the first
    place. Donors' weights follow the planned energies, so that all donors reach their planned levels together; members'
    own weights do not count. Help starts and ends as under ``spec``. A battery that shares goes on until then, or down
    to its minimum.
    """
    able = batteries.able & batteries.acting(batteries.low)[:, None] | batteries.staying
    surplus = np.where(able, batteries.surplus, 0)
    need = batteries.deficit.sum(axis=1)
    donors = able & (batteries.held | (_given_before(surplus, batteries.held & able) < need[:, None]))
    surplus = np.where(donors, surplus, 0)
    before = _given_before(surplus, np.zeros_like(donors))
    giving = np.clip(need[:, None] - before, 0, surplus)
    weights = 1 + giving * (MAX_WEIGHT - 1) // np.maximum(giving.max(axis=1, initial=0), 1)[:, None]
    return SharingPlan(np.where(donors, weights, 0), giving, fill(giving.sum(axis=1), batteries.deficit))


def rangers_plan_alone(batteries: Batteries) -> SharingPlan:
    """Return the plan of a microgrid that decides alone (P2): every battery with a surplus is ready to share.

    Energy flows as soon as a battery falls below its minimum, before its level is reported. Weights follow the
    surpluses; the largest one gives most.
    """
    surplus = np.where(batteries.able, batteries.surplus, 0)
    weights = 1 + surplus * (MAX_WEIGHT - 1) // np.maximum(surplus.max(axis=1, initial=0), 1)[:, None]
    weights = np.where(batteries.able, weights, 0)
    total = np.minimum(surplus.sum(axis=1), batteries.deficit.sum(axis=1))
    return SharingPlan(weights, pro_rata(total, weights, surplus), fill(total, batteries.deficit))


def _given_before(surplus: Energies, first: Flags) -> Energies:
    """Return the sum of the surpluses that come before each: those of ``first``, then larger ones, then places."""
    order = np.argsort(-(surplus + np.where(first, _AHEAD, 0)), axis=1, kind="stable")
    ordered = np.take_along_axis(surplus, order, axis=1)
    result = np.empty_like(surplus)
    np.put_along_axis(result, order, np.cumsum(ordered, axis=1) - ordered, axis=1)
    return result


Strategy = Callable[
    [Batteries], SharingPlan
]  # returns the plan for each row; without a memory, and without a limit of power
# By the name in the gateway's setting ``sharing``.
STRATEGIES: Mapping[str, Strategy] = {"spec": spec_plan, "aces": aces_plan, "rangers": rangers_plan}
# The same in a microgrid that decides alone (P2), where that is a plan of its own.
ALONE: Mapping[str, Strategy] = {"rangers": rangers_plan_alone}
# Strategies under which a donor depends on the surpluses of others, so that a decision needs every level.
COMPARING = frozenset({"rangers"})


def strategy_of(name: str, *, alone: bool) -> Strategy:
    """Return a strategy by its name, for a microgrid that the utility reaches, or that decides alone."""
    return ALONE.get(name, STRATEGIES[name]) if alone else STRATEGIES[name]
