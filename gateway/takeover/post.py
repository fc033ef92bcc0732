"""The place of a controller in one microgrid, and what it can do there."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.commands import ALONE


@dataclass(frozen=True, kw_only=True)
class Post:
    """The place of a controller in one microgrid."""

    microgrid: MicrogridId  # the microgrid
    own: ControllerId  # this controller
    order: tuple[ControllerId, ...]  # who may manage it, the first one first
    ranks: Mapping[ControllerId, int]  # the ranks of those
    meters: int  # how many meters the microgrid has

    @cached_property
    def names(self) -> dict[int, ControllerId]:
        """Who may manage it, by rank; the own controller without a clique, too."""
        return {ALONE: self.order[0]} | {self.ranks[name]: name for name in self.order}

    @cached_property
    def others(self) -> tuple[ControllerId, ...]:
        """Who else may manage it."""
        return tuple(name for name in self.order if name != self.own)

    @cached_property
    def before(self) -> tuple[ControllerId, ...]:
        """Who comes before this controller."""
        return self.order[: self.order.index(self.own)]


@dataclass
class Means:
    """What the controller can do at present; its shell keeps it."""

    able: bool = True  # whether it hears two thirds of the microgrid's meters
    commits: bool = True  # whether its store takes commits
    connected: int = 0  # how many of the microgrid's meters are connected to it

    def __bool__(self) -> bool:
        return self.able and self.commits
