"""The events of the gateway's core: frozen values that the shell passes to ``Controller.handle``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from commonwatt.config.settings import Settings
from commonwatt.model.time import MachineClocks
from commonwatt.model.units import ByteCount, EpochSeconds, MicrogridId
from commonwatt.protocol.commands import Result
from commonwatt.protocol.controller_commands import ControllerCommand


class WantedRelease(Settings):
    """The release that the utility wants here."""

    id: str  # the command's id
    release: str  # its version
    sha256: str  # the checksums of its packages, one for each processor, with commas between


@dataclass(frozen=True, kw_only=True)
class UpgradeEnded:
    """How a command ``upgrade`` ended."""

    id: str  # the command's id
    result: Result  # ``done``, or ``refused``: the installed release stayed, or came back
    why: str = ""  # why, if it was not done


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
class Granted:
    """The clique lets this controller manage a microgrid from now on, under an epoch that nobody had before."""

    microgrid: MicrogridId


@dataclass(frozen=True, slots=True)
class ToldStates:
    """The manager of a microgrid says what the utility has set there."""

    microgrid: MicrogridId
    states: Mapping[str, Any]  # as ``gateway.controller.carried`` returns it
    sent: EpochSeconds  # the manager's time


@dataclass(frozen=True, slots=True)
class Committed:
    """All changes of earlier events of a microgrid are committed."""

    microgrid: MicrogridId


@dataclass(frozen=True, slots=True)
class LineCounted:
    """A byte count of one side of the LTE line."""

    side: str  # ``gateway.line.line.METERS``, ``UTILITY`` or ``INTERFACE``
    run: str  # the counter's run; a new run begins at 0
    sums: ByteCount  # the byte count since the run began


@dataclass(frozen=True, slots=True)
class Quiet:
    """No message came for a while over an open connection."""

    link: str  # one of ``gateway.links``: ``METERS`` or ``HEAD_END``


@dataclass(frozen=True, slots=True)
class NotStored:
    """A message from a meter whose transaction failed."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class MachineRead:
    """A reading of the machine's clocks."""

    machine: MachineClocks


@dataclass(frozen=True, slots=True)
class ClockJumped:
    """The machine's clock was set."""


@dataclass(frozen=True, slots=True)
class Reported:
    """The report or signature that the utility asked for is made."""

    command: ControllerCommand  # the command that asked for it
    said: Mapping[str, str]  # the outcome's keys: ``report``, ``signed``; or ``result`` and ``reason``


@dataclass(frozen=True, slots=True)
class Tick:
    """A job may be due."""

    job: str  # one of ``gateway.controller.JOBS``


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A command ``upgrade`` ended."""

    ended: UpgradeEnded  # how


# The events of one microgrid, besides meters' messages.
MicrogridEvent: TypeAlias = FromUtility | Connected | Granted | Committed | Quiet | NotStored | Tick
# The events of a controller.
Event: TypeAlias = (
    MicrogridEvent | FromMeter | ToldStates | LineCounted | MachineRead | ClockJumped | Reported | Upgraded
)
