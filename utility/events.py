"""What the shell tells the utility's core: one frozen value an event, handled by ``Core.handle``."""

from dataclasses import dataclass
from typing import TypeAlias

from utility.changes import OpenCommand


@dataclass(frozen=True, slots=True)
class FromGateway:
    """A message from the head-end."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class CommandsOpen:
    """A look at the commands that wait for their outcomes."""

    commands: tuple[OpenCommand, ...]


Event: TypeAlias = FromGateway | CommandsOpen
