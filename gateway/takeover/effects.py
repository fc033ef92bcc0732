"""What the takeover's core lets its shell do, in the order of the list; a ``Keep`` is durable before what follows."""

from dataclasses import dataclass
from typing import TypeAlias

from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.clique_messages import SendBeat, States, Tell
from commonwatt.protocol.commands import Epoch


@dataclass(frozen=True)
class Kept:
    """What a controller keeps of a microgrid over restarts; it may manage while the two are equal."""

    held: Epoch  # the last epoch granted to this controller; counter 0: none
    highest: Epoch  # the highest epoch known to be granted, to whomever

    def text(self) -> str:
        """Return the text of a setting that keeps it."""
        return ",".join(map(str, (*self.held, *self.highest)))

    @staticmethod
    def read(text: str) -> "Kept":
        """Return what ``text`` wrote."""
        held, rank, highest, of = map(int, text.split(","))
        return Kept((held, rank), (highest, of))


@dataclass(frozen=True)
class Keep:
    """Make it durable."""

    microgrid: MicrogridId
    kept: Kept


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


Effect: TypeAlias = Keep | Begin | Tell | AskMeters | SendBeat | TakeStates
