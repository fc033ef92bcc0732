"""Events from the shell to the utility's core: frozen values, handled by ``Core.handle``."""

from dataclasses import dataclass
from typing import TypeAlias

from utility.outbox.changes import OpenCommand


@dataclass(frozen=True, slots=True)
class FromGateway:
    """A gateway's message, received over the head-end broker."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class CommandsOpen:
    """The commands that wait for their outcomes."""

    commands: tuple[OpenCommand, ...]


Event: TypeAlias = FromGateway | CommandsOpen
