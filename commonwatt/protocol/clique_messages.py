"""Messages of the controllers of a clique and the utility about who manages a microgrid (docs/controllers.md).

All are JSON over authenticated connections. Each is repeated by its sender as long as it matters, so that none needs an
acknowledgement of its own.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from commonwatt.cliques.signs import Beat
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.json_messages import Message, Moment

Nonce = Annotated[int, Field(ge=0, lt=2**32)]


class Who(Message):
    """Who manages a microgrid? The answer is ``Known``."""

    microgrid: MicrogridId


class Known(Message):
    """What a controller, or the utility, knows of a microgrid."""

    microgrid: MicrogridId
    highest: Epoch  # the highest epoch that it knows to be granted; (0, 0): none
    manages: bool = False  # whether the sender manages under it
    doubts: bool = False  # whether it voted that the manager is lost, and so can't confirm an epoch
    meters: Annotated[int, Field(ge=0)] = 0  # how many of the microgrid's meters are connected to the sender


class Ask(Message):
    """Is a manager lost? Asked of the third member of the clique, before a claim."""

    microgrid: MicrogridId
    lost: Epoch  # the epoch of the manager believed lost
    nonce: Nonce  # the claim's number, repeated in the answer


class Vote(Message):
    """The answer to ``Ask``."""

    microgrid: MicrogridId
    nonce: Nonce
    saw: Literal["alive", "lost", "nothing"]  # nothing: it never heard that manager, and can't judge
    highest: Epoch  # the highest epoch that the voter knows


class Yield(Message):
    """The manager gives a microgrid to a controller that comes before it, under the epoch that it names."""

    microgrid: MicrogridId
    epoch: Epoch


class Grant(Message):
    """The utility grants a microgrid to a controller."""

    microgrid: MicrogridId
    epoch: Epoch  # the epoch that is granted
    replaces: Epoch  # the epoch that it replaces; a controller that knows a higher one refuses


MOST_STATES_BYTES = 1_000  # of the states as JSON, so that a message fits into a datagram


class States(Message):
    """What the utility has set for a microgrid: from its manager to those that may take it over."""

    microgrid: MicrogridId
    now: Moment  # the sender's time, beside which the ends in ``states`` stand
    states: dict[str, Any]  # the states, as gateways keep them; at most ``MOST_STATES_BYTES``


CliqueMessage = Who | Known | Ask | Vote | Yield | Grant | States


@dataclass(frozen=True)
class Tell:
    """Send a message to a member of the clique, or to the utility; it may be lost."""

    to: ControllerId
    message: CliqueMessage


@dataclass(frozen=True)
class SendBeat:
    """Send a datagram: a beat, its answer or a probe; it may be lost."""

    to: ControllerId
    beat: Beat
