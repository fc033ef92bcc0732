"""What a message leads to: changes that the core has the store commit, with their counts, and effects."""

from dataclasses import dataclass
from typing import TypeAlias

from commonwatt.codec.payloads import Payloads
from commonwatt.model.blocks import Blocks
from commonwatt.model.effects import Effect
from commonwatt.model.ids import MeterId
from commonwatt.model.records import EventRecord
from commonwatt.model.units import AccountNumber, ControllerId, EpochSeconds, MicrogridId, Quarter
from commonwatt.protocol.batches import BatchRefusal, Mark
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.plant_messages import PlantQuarter, PlantReport


@dataclass(frozen=True, kw_only=True)
class ToldAccount:
    """A record whose account is not the one that had its meter."""

    meter: MeterId  # the meter
    told: AccountNumber  # the account in the record
    registered: AccountNumber  # the account that had the meter then; 0: nobody
    time: EpochSeconds  # the record's start


@dataclass(frozen=True, kw_only=True)
class Append:
    """Store the contents of a batch."""

    sender: ControllerId  # the controller that sent the batch (P7)
    owner: MicrogridId  # the microgrid that the data belongs to (P7)
    received: EpochSeconds  # time of receipt
    blocks: Blocks  # its blocks, checked
    payloads: Payloads  # the same blocks, packed; stored byte for byte
    events: list[tuple[int, EventRecord]]  # (log generation, event)
    dead_letters: list[DeadLetter]  # dead letters to store
    # Dead letters that wait for a decision, each with its readings; of an event none.
    quarantined: tuple[tuple[DeadLetter, Blocks], ...] = ()
    told: tuple[ToldAccount, ...] = ()  # records whose account is not the registered one
    size: int = 0  # bytes of the message


@dataclass(frozen=True, kw_only=True)
class KeepDeadLetter:
    """Store one dead letter of data that ``sender`` sent."""

    sender: ControllerId
    dead_letter: DeadLetter


@dataclass(frozen=True, kw_only=True)
class SawGateway:
    """Store a gateway's heartbeat in place of its last one."""

    controller: ControllerId  # the gateway's controller
    time: EpochSeconds  # time of receipt
    heartbeat: Heartbeat  # the heartbeat
    # Meter id, sharing minimum in percent, time of the meter's report; assigned meters only.
    minima: tuple[tuple[MeterId, int, EpochSeconds], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CloseCommand:
    """Close a command, so that it is not sent again."""

    id: str  # the command's id
    controller: ControllerId  # the controller that the command is for; a command for another controller is not changed
    # ``done`` after an outcome, ``expired`` when its time passed without one. (``superseded`` is the third end:
    # ``registry.add_command`` sets it on commands that a later one replaces.).
    state: str
    outcome: str | None = None  # the outcome, as JSON
    # (meter, record type, quarter, mask of slots) that the gateway does not have; assigned meters only.
    absent: tuple[tuple[int, int, int, int], ...] = ()
    report: str | None = None  # the report that the outcome brought, as in ``ControllerOutcome``
    has_no_store: bool = False  # whether a data request was refused since the gateway has no store of that microgrid


@dataclass(frozen=True, kw_only=True)
class SawPlant:
    """Store the plant's report in place of its last one."""

    time: EpochSeconds  # time of receipt
    report: PlantReport  # the report


@dataclass(frozen=True)
class KeepPlantQuarters:
    """Store what the plant measured in finished quarters; of a quarter the row with most slots stays."""

    quarters: tuple[PlantQuarter, ...]  # the quarters
    oldest: Quarter  # quarters before this one are deleted


@dataclass(frozen=True, kw_only=True)
class ClosePurchase:
    """Close a purchase, so that it is not sent to the plant again."""

    id: str  # the purchase's id
    state: str  # ``done`` if the plant accepted it, ``refused`` if not, ``expired`` without an answer in its quarter
    outcome: str | None = None  # the outcome, as JSON


Change: TypeAlias = Append | KeepDeadLetter | SawGateway | CloseCommand | SawPlant | KeepPlantQuarters | ClosePurchase


@dataclass
class Committed:
    """Counts of what a transaction committed; events and dead letters count only if new."""

    batches: int = 0  # appended batches
    blocks: int = 0  # appended parts
    slots: int = 0  # readings in them
    events: int = 0  # new events
    dead_letters: int = 0  # new dead letters, quarantined ones included
    quarantined: int = 0  # new dead letters that wait for a person's decision
    event_conflicts: int = 0  # new events that contradict a stored one

    def add(self, other: "Committed") -> None:
        """Add the counts of ``other``."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


@dataclass(frozen=True, kw_only=True)
class OpenCommand:
    """A command that waits for its outcome."""

    id: str  # its id
    controller: ControllerId  # the controller it is for, or ``plant``: a purchase
    message: str  # the message, JSON
    until: int  # when it expires


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The refusal of a controller's batch, shown to people as the reason why its data waits."""

    controller: ControllerId  # the batch's sender
    time: EpochSeconds  # time of receipt
    status: BatchRefusal  # as in the acknowledgement
    reason: str  # metric label; one of a small set
    text: str  # message for people; it names the meter


@dataclass(frozen=True, kw_only=True)
class Deposed:
    """A controller names another epoch than the one under which it was sent a command."""

    controller: ControllerId  # the controller
    microgrid: MicrogridId  # the microgrid that the command is for
    epoch: Epoch  # the epoch that it names as the one in force


@dataclass(frozen=True)
class Step:
    """The result of handling one message."""

    # Metric label: ``stored``, ``stored_for_another`` (the data belongs to another controller's microgrid),
    # ``not_assigned`` (some of it is of meters that the sender may not hold), ``seen``, ``outcome``, or why not.
    result: str
    effects: tuple[Effect[Change], ...] = ()  # effects for the shell to perform
    refused: Refused | None = None  # the refusal of a registered controller's batch; else ``None``
    deposed: Deposed | None = None  # what an outcome says of who manages; else ``None``
    unknown_states: int = 0  # number of events with state bits unknown to this version
    # A mark that a heartbeat names and the database lacks: it went back (``readings.marks``); else ``None``.
    lost: Mark | None = None
