"""The changes that the gateway's core writes to its store; one transaction holds all changes of a step."""

from dataclasses import dataclass
from typing import TypeAlias

from commonwatt.model.ids import MeterId
from commonwatt.model.records import EventRecord, HistoryRecord, Log
from commonwatt.model.units import EpochSeconds, MilliwattHours, Quarter
from commonwatt.protocol.batches import Mark
from commonwatt.protocol.commands import Epoch, Kind
from commonwatt.protocol.dead_letters import DeadLetter

RELAYED_SLOTS = "relayed_slots"  # setting that counts the slots the utility acknowledged

# Any two of these numbers differ in two bits, so that a single flipped bit never turns one into another. Any other
# number is treated as OFFERED: the block is sent again, whole and exact, which never does harm.

UNSENT = 0  # the utility has not acknowledged it
OFFERED = 3
"""The utility has not acknowledged it, but averages of its block, or an answer with all of it, were sent: the block is
sent exact and whole next time, since it is unknown what the utility has of it."""
AVERAGED = 5  # the utility acknowledged averages of its block; its exact slots may still be sent
DONE = 6  # the utility acknowledged it; kept as backup


@dataclass(frozen=True)
class Part:
    """A stored part of a block."""

    id: int  # its number in the store; 0 before it has one
    key: tuple[int, int, int]  # (meter, record type, quarter)
    payload: bytes  # as packed by ``commonwatt.codec.packing``
    relayed: int = UNSENT  # ``UNSENT``, ``OFFERED``, ``AVERAGED`` or ``DONE``
    joined: bool = False  # whether compaction made it from the parts of a finished quarter


@dataclass(frozen=True)
class AppendParts:
    """Add parts."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class AppendRecords:
    """Add accepted records; all records of a transaction together become parts, usually one for each block."""

    records: tuple[HistoryRecord, ...]


@dataclass(frozen=True)
class ReplaceParts:
    """Replace parts by the one part that joins them; ``None``: only delete them."""

    ids: tuple[int, ...]
    by: Part | None


@dataclass(frozen=True)
class DropBackup:
    """Delete the listed rows that the utility acknowledged; other listed rows stay."""

    parts: tuple[int, ...] = ()  # numbers of parts
    events: tuple[int, ...] = ()  # row numbers of events
    dead_letters: tuple[int, ...] = ()  # numbers of dead letters


@dataclass(frozen=True)
class DropDamaged:
    """Delete a damaged row; ``AddDeadLetters`` keeps its content."""

    table: str  # its table
    row: int  # its row number


@dataclass(frozen=True)
class AppendEvents:
    """Add events; an event that is already stored stays."""

    events: tuple[tuple[int, EventRecord], ...]


@dataclass(frozen=True)
class AddDeadLetters:
    """Add dead letters; one that is already stored is not added again."""

    dead_letters: tuple[DeadLetter, ...]


@dataclass(frozen=True)
class Cover:
    """Record that ids ``first`` to ``last`` of a meter's log are in the store."""

    meter: MeterId
    log: Log
    generation: int
    first: int
    last: int


@dataclass(frozen=True)
class MeterInfo:
    """A meter's settings, as its command outcomes report them."""

    meter: MeterId  # the meter
    push: bool  # whether it sends without a request (its manual switch)
    minimum_percent: int | None  # its sharing minimum; ``None`` without a battery
    capacity: MilliwattHours | None  # its battery's capacity, milliwatt-hours; ``None`` without a battery
    time: EpochSeconds  # time of the report (T6); 0: the gateway's clock was not trusted then


@dataclass(frozen=True)
class Desired:
    """One desired state of one meter, outstanding until ``confirmed`` or past its end."""

    meter: MeterId  # the meter
    kind: Kind  # the kind of state
    value: str  # the desired value
    epoch: Epoch  # the epoch of its command
    seq: int  # its sequence number within the kind
    until: EpochSeconds | None  # when it ends; ``None``: never
    weight: int | None = None  # share of the discharge relative to other donors
    confirmed: bool = False  # whether the meter reported this pair
    # Whether its meter was sent a duration, not an end time: while this process runs, its end is shifted when the time
    # is set. The store keeps ``until`` only.
    for_s: bool = False


@dataclass(frozen=True)
class ForgetDesired:
    """Forget desired states: another controller commanded the meters meanwhile, or an older version goes on."""

    kind: Kind | None = None  # only those of a kind; ``None``: all


@dataclass(frozen=True)
class Offered:
    """Mark unsent parts as ``OFFERED``, before averages or an answer with them are sent."""

    parts: tuple[int, ...]


@dataclass(frozen=True)
class OfferedFrom:
    """Mark all unsent parts of ``quarter`` and later quarters as ``OFFERED``."""

    quarter: Quarter


@dataclass(frozen=True)
class Relayed:
    """Record what the utility acknowledged."""

    done: tuple[int, ...]  # numbers of parts that the utility has exactly
    averaged: tuple[int, ...]  # numbers of parts of which the utility has averages
    events: tuple[tuple[int, int, int], ...]  # (meter, generation, id)
    dead_letters: tuple[int, ...]  # numbers of dead letters
    slots: int  # number of slots with values in the batch
    mark: Mark | None = None  # the mark of the utility's store in the acknowledgement; ``None``: an older utility
    period: int = 0  # the hour of the acknowledgement


@dataclass(frozen=True)
class ForgetRelayed:
    """Record that the utility has lost data: present rows are sent again, blocks exact and whole.

    This only records the last row numbers; ``ForgetMore`` marks the rows, the newest first, until
    ``StoreReads.forgetting`` is 0.
    """

    part: int = 0  # the lowest number of a part that is sent again; events and dead letters are all sent again
    kept: int = 0  # stretches of acknowledgements (``gateway.marks``) that still count


@dataclass(frozen=True)
class ForgetMore:
    """Mark as not acknowledged the next ``rows`` parts, events and dead letters that ``ForgetRelayed`` covers."""

    rows: int


@dataclass(frozen=True)
class PeriodDone:
    """Record that a job's period is done, so that it is not done again after a restart."""

    job: str
    period: int


@dataclass(frozen=True)
class Setting:
    """Store a small value by name."""

    key: str
    value: str


Change: TypeAlias = (
    AppendParts
    | AppendRecords
    | ReplaceParts
    | DropBackup
    | DropDamaged
    | AppendEvents
    | AddDeadLetters
    | Cover
    | MeterInfo
    | Desired
    | ForgetDesired
    | Offered
    | OfferedFrom
    | Relayed
    | ForgetRelayed
    | ForgetMore
    | PeriodDone
    | Setting
)
