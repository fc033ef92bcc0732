"""All that a controller's core is given: events, and what its shell tells it beside them."""

from collections.abc import Mapping
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
class Program:
    """What heartbeats say of the program and its machine."""

    program: Mapping[str, object]
    disk_free_bytes: int


Input: TypeAlias = Handled | Hosted | Registered | DiskSeen | Told | Program


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
        case Program(program, free_bytes):
            controller.program, controller.disk_free_bytes = program, free_bytes
    return []
