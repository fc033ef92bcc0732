"""What the gateway's core may ask its store to change; one transaction holds all changes of a step."""

from dataclasses import dataclass
from typing import TypeAlias

from commonwatt.model.records import EventRecord, HistoryRecord, Log
from commonwatt.model.units import EpochSeconds, MeterId, MilliwattHours, Quarter
from commonwatt.protocol.commands import Epoch, Kind
from commonwatt.protocol.dead_letters import DeadLetter

RELAYED_SLOTS = "relayed_slots"
"""Setting that counts the slots the utility acknowledged."""

# Any two of these numbers differ in two bits, so that no single flipped bit makes one another. A number that is none
# of them is treated as OFFERED: sent again, whole and exact, which never does harm.

UNSENT = 0
"""The utility has not acknowledged it."""
OFFERED = 3
"""Nor this part, but averages of its block, or an answer with all of it, were sent: next time its block goes exact and
whole, since what the utility has of it is not known."""
AVERAGED = 5
"""The utility acknowledged averages of its block; its exact slots may still go there."""
DONE = 6
"""The utility acknowledged it; kept as backup."""


@dataclass(frozen=True)
class Part:
    """A stored part of a block.

    Attributes:
        id: Its number in the store; 0 before it has one.
        key: (meter, record type, quarter).
        payload: As packed by ``commonwatt.codec.packing``.
        relayed: ``UNSENT``, ``OFFERED``, ``AVERAGED`` or ``DONE``.
        joined: Whether it is what the compactor made of a finished quarter.
    """

    id: int
    key: tuple[int, int, int]
    payload: bytes
    relayed: int = UNSENT
    joined: bool = False


@dataclass(frozen=True)
class AppendParts:
    """Add parts."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class AppendRecords:
    """Add accepted records; all of a transaction become parts together, one of each block."""

    records: tuple[HistoryRecord, ...]


@dataclass(frozen=True)
class ReplaceParts:
    """Put one part in the place of those it is the join of; nothing, if it is ``None``."""

    ids: tuple[int, ...]
    by: Part | None


@dataclass(frozen=True)
class DropBackup:
    """Delete the oldest of what the utility acknowledged; nothing else, whatever is asked for.

    Attributes:
        parts: Numbers of parts.
        events: Row numbers of events.
        dead letters: Numbers of letters.
    """

    parts: tuple[int, ...] = ()
    events: tuple[int, ...] = ()
    dead_letters: tuple[int, ...] = ()


@dataclass(frozen=True)
class DropDamaged:
    """Delete a row that is not what was written; what is left of it is kept as a letter.

    Attributes:
        table: Its table.
        row: Its row number.
    """

    table: str
    row: int


@dataclass(frozen=True)
class AppendEvents:
    """Add events to the set; one that is already there stays."""

    events: tuple[tuple[int, EventRecord], ...]


@dataclass(frozen=True)
class AddDeadLetters:
    """Keep dead letters; one already kept is not kept twice."""

    dead_letters: tuple[DeadLetter, ...]


@dataclass(frozen=True)
class Cover:
    """Note that ids ``first`` to ``last`` of a meter's log are in the store."""

    meter: MeterId
    log: Log
    generation: int
    first: int
    last: int


@dataclass(frozen=True)
class MeterInfo:
    """What a meter said of itself when it was last initialized.

    Attributes:
        meter: The meter.
        push: Its manual switch: sends by itself.
        minimum_percent: Its sharing minimum; ``None`` without a battery.
        capacity: Its battery's capacity, milliwatt-hours; ``None`` without a battery.
        time: When it said so (T6: the truth, dated).
    """

    meter: MeterId
    push: bool
    minimum_percent: int | None
    capacity: MilliwattHours | None
    time: EpochSeconds


@dataclass(frozen=True)
class Desired:
    """One desired state of one meter, outstanding until ``confirmed`` or past its end.

    Attributes:
        meter: The meter.
        kind: Of which kind of state.
        value: What is desired.
        epoch: Under which epoch it was ordered.
        seq: Its number within the kind.
        until: When it ends; ``None``: never.
        weight: Share of the discharge relative to other donors.
        confirmed: Whether the meter said that it holds this very pair.
        for_s: Whether its meter was sent a duration, not a time of end: while this process runs, its end is shifted
            when the time is set. A store knows it by ``until`` alone.
    """

    meter: MeterId
    kind: Kind
    value: str
    epoch: Epoch
    seq: int
    until: EpochSeconds | None
    weight: int | None = None
    confirmed: bool = False
    for_s: bool = False


@dataclass(frozen=True)
class Offered:
    """Note, before they are sent, that averages or an answer hold these unsent parts."""

    parts: tuple[int, ...]


@dataclass(frozen=True)
class OfferedFrom:
    """The same of all unsent parts of ``quarter`` and later ones."""

    quarter: Quarter


@dataclass(frozen=True)
class Relayed:
    """Note what the utility acknowledged.

    Attributes:
        done: Numbers of parts it has whole.
        averaged: Numbers of parts of which it has the averages.
        events: (meter, generation, id).
        dead letters: Numbers of letters.
        slots: How many slots they filled.
    """

    done: tuple[int, ...]
    averaged: tuple[int, ...]
    events: tuple[tuple[int, int, int], ...]
    dead_letters: tuple[int, ...]
    slots: int


@dataclass(frozen=True)
class ForgetRelayed:
    """The utility has a new, empty store: all there is now is sent again, blocks exact and whole.

    This only notes up to where; ``ForgetMore`` marks it, the newest first, until ``StoreReads.forgetting`` is over.
    """


@dataclass(frozen=True)
class ForgetMore:
    """Mark the next ``rows`` parts, events and dead letters that ``ForgetRelayed`` has noted as not acknowledged."""

    rows: int


@dataclass(frozen=True)
class PeriodDone:
    """Note that a job's period is done, so that no restart does it twice."""

    job: str
    period: int


@dataclass(frozen=True)
class Setting:
    """Keep a small value by name."""

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
    | Offered
    | OfferedFrom
    | Relayed
    | ForgetRelayed
    | ForgetMore
    | PeriodDone
    | Setting
)
