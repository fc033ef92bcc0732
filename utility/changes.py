"""What the core asks the store to make durable."""

from dataclasses import dataclass
from typing import TypeAlias

from commonwatt.codec.payloads import Payloads
from commonwatt.model.blocks import Blocks
from commonwatt.model.records import EventRecord
from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.heartbeats import Heartbeat


@dataclass(frozen=True, kw_only=True)
class Append:
    """Keep what a batch brought.

    Attributes:
        sender: The controller that sent it (P7).
        owner: The microgrid the data is of (P7).
        received: When it came.
        blocks: Its blocks, checked.
        payloads: The same, packed, to be stored byte for byte.
        events: (log generation, event).
        dead letters: Dead letters.
        held: Dead letters that a person is to decide on, each with the readings it holds.
    """

    sender: ControllerId
    owner: MicrogridId
    received: EpochSeconds
    blocks: Blocks
    payloads: Payloads
    events: list[tuple[int, EventRecord]]
    dead_letters: list[DeadLetter]
    quarantined: tuple[tuple[DeadLetter, Blocks], ...] = ()


@dataclass(frozen=True, kw_only=True)
class KeepDeadLetter:
    """Keep one dead letter about something ``sender`` sent."""

    sender: ControllerId
    dead_letter: DeadLetter


@dataclass(frozen=True, kw_only=True)
class SawGateway:
    """Remember a gateway's heartbeat; the next one replaces it.

    Attributes:
        controller: Whose.
        time: When it came.
        heartbeat: What it said.
        minima: Meter id (decimal), sharing minimum in percent, when the meter said so; of meters it may hold.
    """

    controller: ControllerId
    time: EpochSeconds
    heartbeat: Heartbeat
    minima: tuple[tuple[str, int, EpochSeconds], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CloseCommand:
    """A command needs no more sending.

    Attributes:
        id: The command's id.
        controller: The controller that answered, or was to answer; a command of another controller stays as it is.
        state: ``done`` when an outcome came, ``expired`` when its time passed without. (``superseded`` is the third
            end: ``known.add_command`` says so of those a later command replaces.)
        outcome: The outcome, as JSON.
        absent: (meter, record type, quarter, mask of slots) the gateway does not have; of meters it may hold.
    """

    id: str
    controller: ControllerId
    state: str
    outcome: str | None = None
    absent: tuple[tuple[int, int, int, int], ...] = ()


Change: TypeAlias = Append | KeepDeadLetter | SawGateway | CloseCommand


@dataclass
class Committed:
    """What a transaction made durable; events and dead letters only where they were new.

    Attributes:
        batches: Appended batches.
        blocks: Appended parts.
        slots: Readings in them.
        events: New events.
        dead letters: New dead letters, held ones included.
        held: New dead letters that a person is to decide on.
        event_conflicts: New events that contradict a kept one.
    """

    batches: int = 0
    blocks: int = 0
    slots: int = 0
    events: int = 0
    dead_letters: int = 0
    quarantined: int = 0
    event_conflicts: int = 0

    def add(self, other: "Committed") -> None:
        """Add the counts of ``other``."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


@dataclass(frozen=True, kw_only=True)
class OpenCommand:
    """A command that waits for its outcome.

    Attributes:
        id: Its id.
        controller: The controller it is for.
        message: The message, JSON.
        until: When it is no longer wanted.
    """

    id: str
    controller: ControllerId
    message: str
    until: int
