"""Changes that the core has the store commit, and the counts of a commit."""

from dataclasses import dataclass
from typing import TypeAlias

from commonwatt.codec.payloads import Payloads
from commonwatt.model.blocks import Blocks
from commonwatt.model.ids import MeterId
from commonwatt.model.records import EventRecord
from commonwatt.model.units import AccountNumber, ControllerId, EpochSeconds, MicrogridId, Quarter
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.plant_messages import PlantQuarter, PlantReport


@dataclass(frozen=True, kw_only=True)
class ToldAccount:
    """A record whose account is not the one that had its meter.

    Attributes:
        meter: The meter.
        told: The account in the record.
        registered: The account that had the meter then; 0: nobody.
        time: The record's start.
    """

    meter: MeterId
    told: AccountNumber
    registered: AccountNumber
    time: EpochSeconds


@dataclass(frozen=True, kw_only=True)
class Append:
    """Store the contents of a batch.

    Attributes:
        sender: The controller that sent the batch (P7).
        owner: The microgrid that the data belongs to (P7).
        received: Time of receipt.
        blocks: Its blocks, checked.
        payloads: The same blocks, packed; stored byte for byte.
        events: (log generation, event).
        dead_letters: Dead letters to store.
        quarantined: Dead letters that wait for a decision, each with its readings; of an event none.
        told: Records whose account is not the registered one.
        size: Bytes of the message.
    """

    sender: ControllerId
    owner: MicrogridId
    received: EpochSeconds
    blocks: Blocks
    payloads: Payloads
    events: list[tuple[int, EventRecord]]
    dead_letters: list[DeadLetter]
    quarantined: tuple[tuple[DeadLetter, Blocks], ...] = ()
    told: tuple[ToldAccount, ...] = ()
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class KeepDeadLetter:
    """Store one dead letter of data that ``sender`` sent."""

    sender: ControllerId
    dead_letter: DeadLetter


@dataclass(frozen=True, kw_only=True)
class SawGateway:
    """Store a gateway's heartbeat in place of its last one.

    Attributes:
        controller: The gateway's controller.
        time: Time of receipt.
        heartbeat: The heartbeat.
        minima: Meter id, sharing minimum in percent, time of the meter's report; assigned meters only.
    """

    controller: ControllerId
    time: EpochSeconds
    heartbeat: Heartbeat
    minima: tuple[tuple[MeterId, int, EpochSeconds], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CloseCommand:
    """Close a command, so that it is not sent again.

    Attributes:
        id: The command's id.
        controller: The controller that the command is for; a command for another controller is not changed.
        state: ``done`` after an outcome, ``expired`` when its time passed without one. (``superseded`` is the third
            end: ``registry.add_command`` sets it on commands that a later one replaces.)
        outcome: The outcome, as JSON.
        absent: (meter, record type, quarter, mask of slots) that the gateway does not have; assigned meters only.
    """

    id: str
    controller: ControllerId
    state: str
    outcome: str | None = None
    absent: tuple[tuple[int, int, int, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class SawPlant:
    """Store the plant's report in place of its last one.

    Attributes:
        time: Time of receipt.
        report: The report.
    """

    time: EpochSeconds
    report: PlantReport


@dataclass(frozen=True)
class KeepPlantQuarters:
    """Store what the plant measured in finished quarters; of a quarter the row with most slots stays.

    Attributes:
        quarters: The quarters.
        oldest: Quarters before this one are deleted.
    """

    quarters: tuple[PlantQuarter, ...]
    oldest: Quarter


@dataclass(frozen=True, kw_only=True)
class ClosePurchase:
    """Close a purchase, so that it is not sent to the plant again.

    Attributes:
        id: The purchase's id.
        state: ``done`` if the plant accepted it, ``refused`` if not, ``expired`` without an answer in its quarter.
        outcome: The outcome, as JSON.
    """

    id: str
    state: str
    outcome: str | None = None


Change: TypeAlias = Append | KeepDeadLetter | SawGateway | CloseCommand | SawPlant | KeepPlantQuarters | ClosePurchase


@dataclass
class Committed:
    """Counts of what a transaction committed; events and dead letters count only if new.

    Attributes:
        batches: Appended batches.
        blocks: Appended parts.
        slots: Readings in them.
        events: New events.
        dead_letters: New dead letters, quarantined ones included.
        quarantined: New dead letters that wait for a person's decision.
        event_conflicts: New events that contradict a stored one.
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
        controller: The controller it is for, or ``plant``: a purchase.
        message: The message, JSON.
        until: When it expires.
    """

    id: str
    controller: ControllerId
    message: str
    until: int
