"""What the shell tells the gateway's core: one frozen value an event, handled by ``Gateway.handle``."""

from dataclasses import dataclass
from typing import TypeAlias

from commonwatt.model.byte_count import ByteCount
from commonwatt.model.machine import Machine


@dataclass(frozen=True, slots=True)
class FromMeter:
    """A message from the microgrid's broker."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class FromUtility:
    """A message from the head-end."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection to the head-end is up and subscribed."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Everything that earlier events asked for is committed."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A look at one side of the LTE line.

    Attributes:
        side: One of ``gateway.lte.line.SIDES``.
        run: The count's beginning: a new one began at 0.
        sums: Bytes since then.
    """

    side: str
    run: str
    sums: ByteCount


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing was heard for a while over a connection that is up.

    Attributes:
        link: One of ``gateway.links``: ``METERS`` or ``HEAD_END``.
    """

    link: str


@dataclass(frozen=True, slots=True)
class NotStored:
    """A message from a meter whose transaction failed."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class MachineRead:
    """A look at the machine's clocks."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class ClockJumped:
    """The machine's clock was set."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A job's period may have come.

    Attributes:
        job: One of ``gateway.core.JOBS``.
    """

    job: str


Event: TypeAlias = (
    FromMeter | FromUtility | Connected | Committed | Counted | Quiet | NotStored | MachineRead | ClockJumped | Tick
)
