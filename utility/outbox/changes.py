"""What a message leads to: changes that the store commits, effects, and settings that commands change.

A microgrid's next manager has to be sent the settings that the last ones set and that still hold (R12).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from commonwatt.codec.packing_arrays import Payloads
from commonwatt.model.blocks import Blocks
from commonwatt.model.effects import Effect
from commonwatt.model.records import EventRecord
from commonwatt.model.units import AccountNumber, ControllerId, EpochSeconds, MeterId, MicrogridId, Quarter
from commonwatt.protocol.batches import BatchRefusal, Mark
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.controller_commands import Action
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
    # ``utility.outbox.store.add_command`` sets it on commands that a later one replaces.)
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


UtilityChange: TypeAlias = (
    Append | KeepDeadLetter | SawGateway | CloseCommand | SawPlant | KeepPlantQuarters | ClosePurchase
)


@dataclass
class CommittedCounts:
    """Counts of what a transaction committed; events and dead letters count only if new."""

    batches: int = 0  # appended batches
    blocks: int = 0  # appended parts
    slots: int = 0  # readings in them
    events: int = 0  # new events
    dead_letters: int = 0  # new dead letters, quarantined ones included
    quarantined: int = 0  # new dead letters that wait for a person's decision
    event_conflicts: int = 0  # new events that contradict a stored one

    def add(self, other: "CommittedCounts") -> None:
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
class CoreStep:
    """The result of handling one message."""

    # Metric label: ``stored``, ``stored_for_another`` (the data belongs to another controller's microgrid),
    # ``not_assigned`` (some of it is of meters that the sender may not hold), ``seen``, ``outcome``, or why not.
    result: str
    effects: tuple[Effect[UtilityChange], ...] = ()  # effects for the shell to perform
    refused: Refused | None = None  # the refusal of a registered controller's batch; else ``None``
    deposed: Deposed | None = None  # what an outcome says of who manages; else ``None``
    unknown_states: int = 0  # number of events with state bits unknown to this version
    # A mark that a heartbeat names and the database lacks: it went back (``readings.marks``); else ``None``.
    lost: Mark | None = None


STATES = (Action.REDUCE, Action.SUPPLY, Action.NOTICE, Action.ISOLATE, Action.HOLD)
"""Commands that set one state of the microgrid, of their name."""

STRATEGY, WEIGHTS, METERS = "strategy", "weights", "meters"
AT_GATEWAY, AT_METERS = "aggregation at gateway", "aggregation at meters"

WANTED_S = 86_400  # most seconds for which such a command is sent
# What a successor is never commanded (it has no switch), and what concerns the controller that is named alone.
_NEVER = {Action.ISOLATE, Action.RATES, Action.UPGRADE, Action.UNPACK, Action.WITNESS}


def settings_of(message: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the settings that a command, by its keys, changes; none for a command that only asks."""
    match message.get("cmd"):
        case Action.SCHEDULE:
            meters = {METERS} if message.get("meters") else set()
            return frozenset({*(message.get("periods") or ()), *meters})
        case Action.SHARING:
            return frozenset(name for name in (STRATEGY, WEIGHTS) if message.get(name) is not None)
        case Action.AGGREGATE | Action.DEAGGREGATE:
            return frozenset({AT_METERS if message.get("at") == "meters" else AT_GATEWAY})
        case Action.RATES:
            return frozenset({f"rates of {message['tariff']}"})
        case Action.STOP:
            return frozenset({f"stop of {message['meter']}"})
        case Action.ASSIGN:
            return frozenset({"orders"})
        case Action.UPGRADE:
            return frozenset({"release"})
        case Action.UNPACK:
            return frozenset({"bundle"})
        case Action.SPARE:
            return frozenset({"spared"})
        case cmd if cmd in STATES:
            return frozenset({str(cmd)})
    return frozenset()


def without(message: Mapping[str, Any], taken: frozenset[str]) -> dict[str, Any] | None:
    """Return a command without the settings that a later one changes; ``None``: nothing of it is left."""
    if not settings_of(message) - taken:
        return None
    left = {key: value for key, value in message.items() if key not in taken}
    if "periods" in left:
        left["periods"] = {name: value for name, value in (left["periods"] or {}).items() if name not in taken}
    return left


@dataclass(frozen=True, kw_only=True)
class EarlierCommand:
    """An earlier command to a microgrid."""

    message: Mapping[str, Any]  # its message
    created: EpochSeconds  # when it was given
    is_done: bool  # whether it was carried out; otherwise it is still sent by itself


def to_repeat(newest_first: Iterable[EarlierCommand], now: EpochSeconds) -> Iterator[dict[str, Any]]:
    """Yield the messages of what is in force, the newest first; each setting comes once.

    Durations are those that are left. An end that passed, and what is still being sent, is left out.
    """
    seen: frozenset[str] = frozenset()
    for each in newest_first:
        message = without(each.message, seen)
        if message is None or message["cmd"] in _NEVER:
            continue
        if (message.get("from_time") or 0) <= now:
            seen |= settings_of(message)
        left_s = WANTED_S if message.get("for_s") is None else each.created + message["for_s"] - now
        until = message["until"] if message["cmd"] == Action.HOLD else now + min(left_s, WANTED_S)
        if not each.is_done or left_s <= 0 or until <= now:
            continue
        yield message | {"until": until} | ({} if message.get("for_s") is None else {"for_s": left_s})
