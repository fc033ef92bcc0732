"""All that a controller's core is given: events, and what its shell tells it beside them."""

from dataclasses import dataclass
from typing import TypeAlias

from commonwatt.model.effects import Effect
from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.town.registry import RegisteredMeter
from gateway.changes import Change
from gateway.controller import Controller
from gateway.events import Event
from gateway.stored import Stored


@dataclass(frozen=True, slots=True)
class Handled:
    """An event, and the microgrid that handles it."""

    microgrid: MicrogridId
    event: Event


@dataclass(frozen=True, slots=True)
class Hosted:
    """A microgrid is hosted from now on, or its store was opened again."""

    microgrid: MicrogridId
    store: Stored
    meters: dict[MeterId, RegisteredMeter]
    is_again: bool = False  # whether it was opened again


@dataclass(frozen=True, slots=True)
class Registered:
    """The registry of a microgrid changed."""

    microgrid: MicrogridId
    meters: dict[MeterId, RegisteredMeter]


@dataclass(frozen=True, slots=True)
class DiskSeen:
    """Free bytes on the disk of a microgrid's store."""

    microgrid: MicrogridId
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Told:
    """The core of a microgrid was told the time, since it was looked at."""

    microgrid: MicrogridId


@dataclass(frozen=True, slots=True)
class ProgramSeen:
    """What the shell sees of the program and its machine."""

    release: str  # the program's
    cert_days: int | None  # whole days until the first certificate ends; ``None``: there is none
    disk_free_bytes: int  # free bytes of the stores' disk


Input: TypeAlias = Handled | Hosted | Registered | DiskSeen | Told | ProgramSeen


def give(controller: Controller, given: Input, raw: EpochSeconds) -> list[Effect[Change]]:
    """Give an input to a core; return its effects."""
    match given:
        case Handled(microgrid, event):
            return controller.handle(microgrid, event, raw)
        case Hosted(microgrid, store, meters, is_again):
            controller.host(microgrid, store, meters)
            if is_again:
                controller.hosted[microgrid].reopened(raw)
        case Registered(microgrid, meters):
            controller.register(microgrid, meters)
        case DiskSeen(microgrid, free_bytes):
            controller.hosted[microgrid].disk_space(free_bytes)
        case Told(microgrid):
            controller.hosted[microgrid].tell(raw)
        case ProgramSeen(release, cert_days, free_bytes):
            controller.program.release, controller.program.cert_days = release, cert_days
            controller.disk_free_bytes = free_bytes
    return []
