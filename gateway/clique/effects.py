"""A controller's place in one microgrid, and what the takeover's core lets its shell do, in order."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from commonwatt.clique.messages import SendBeat, States, Tell
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.commands import ALONE, Epoch


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


@dataclass(frozen=True)
class EpochPair:
    """What a controller keeps of a microgrid over restarts; it may manage while the two are equal."""

    held: Epoch  # the last epoch granted to this controller; counter 0: none
    highest: Epoch  # the highest epoch known to be granted, to whomever

    def text(self) -> str:
        """Return the text of a setting that keeps it."""
        return ",".join(map(str, (*self.held, *self.highest)))

    @staticmethod
    def read(text: str) -> "EpochPair":
        """Return what ``text`` wrote."""
        held, rank, highest, of = map(int, text.split(","))
        return EpochPair((held, rank), (highest, of))


@dataclass(frozen=True)
class Keep:
    """Make it durable."""

    microgrid: MicrogridId
    kept: EpochPair


@dataclass(frozen=True)
class Begin:
    """Manage a microgrid from now on, under an epoch that nobody had before: initialize its meters."""

    microgrid: MicrogridId
    epoch: Epoch
    why: str  # why it manages, for people


@dataclass(frozen=True)
class AskMeters:
    """Ask some meters of a microgrid which epoch they hold, and whether a controller still acknowledges."""

    microgrid: MicrogridId
    about: ControllerId | None  # the controller believed lost; ``None``: only the epoch is asked
    count: int  # how many meters


@dataclass(frozen=True)
class TakeStates:
    """Keep what the manager says that the utility has set for a microgrid."""

    states: States


CliqueEffect: TypeAlias = Keep | Begin | Tell | AskMeters | SendBeat | TakeStates
