"""A meter's fields, the changes that its core writes to its store, and the state that the store loads."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, TypeAlias

from commonwatt.model.records import Log, RecordType
from commonwatt.model.units import EpochSeconds, MeterId, MilliwattHours
from commonwatt.protocol.commands import Epoch, HeldState, Kind
from commonwatt.protocol.meter_messages import RevokedList
from commonwatt.town.town import Battery


class Description(Protocol):
    """A meter."""

    @property
    def id(self) -> MeterId:
        """Its 64-bit id."""

    @property
    def microgrid(self) -> str:
        """The microgrid it belongs to."""

    @property
    def account(self) -> int:
        """The account in its records; 0: none."""

    @property
    def record_types(self) -> tuple[RecordType, ...]:
        """Its record types, ascending."""

    @property
    def battery(self) -> Battery | None:
        """The battery whose sharing it controls; ``None``: no battery."""

    @property
    def commandable(self) -> frozenset[Kind]:
        """The kinds of states that commands can set."""

    @property
    def push(self) -> bool:
        """Whether it sends without a request (M4); otherwise it sends only on ``get``."""


class LogRow(NamedTuple):
    """One record of a log."""

    first_id: int  # the record's own id
    last_id: int  # highest id it stands for; higher than its own after it was merged with later records (M7)
    data: bytes  # the record's 36 or 24 bytes


@dataclass(frozen=True, slots=True)
class NewRecords:
    """New records at the end of a log."""

    meter: MeterId
    log: Log
    generation: int
    rows: tuple[LogRow, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """Records ``first_id`` to ``last_id`` of the history log were aggregated into ``rows``."""

    meter: MeterId
    first_id: int
    last_id: int
    rows: tuple[LogRow, ...]


@dataclass(frozen=True, slots=True)
class Delete:
    """Records up to ``last_id`` were acknowledged (M6)."""

    meter: MeterId
    log: Log
    last_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterState:
    """All other durable state of a meter; each write replaces it whole."""

    meter: MeterId  # its id
    generation: int  # generation of both logs; higher after its store was lost
    next_history: int = 1  # next id of the history log
    next_event: int = 1  # next id of the event log
    frozen_history: int = 0  # last id of the history batch in flight; 0: none
    frozen_event: int = 0  # last id of the event batch in flight; 0: none
    bits: int = 0  # ``State`` bits of the last event in the log
    stopped: bool = False  # shut down by a command
    changed_at: EpochSeconds = 0  # time of the newest event, epoch seconds
    last_slot: EpochSeconds = 0  # end of the last slot it was up for; 0: none yet
    # Level of its battery at that time, milliwatt-hours; ``None``: not measured yet, or no battery.
    level: MilliwattHours | None = None
    made: int = 0  # readings recorded so far, one for each slot and type
    acknowledged: int = 0  # of these, readings that the gateway has acknowledged
    gaps: int = 0  # slots not recorded because the log was full
    offset_s: int = 0  # the controller's time minus its own, as reported since its start
    trust: int = 0  # trust of that time
    # Energy below the resolution, carried to the next slot, milliwatt-hours by record type.
    remainders: dict[RecordType, MilliwattHours] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DesiredStates:
    """The highest epoch a meter has seen, and its desired states with their pairs (I7)."""

    meter: MeterId
    epoch: Epoch
    held: dict[Kind, HeldState]
    # By controller's rank, when it raised the epoch within the last day, on the meter's own clock (``OwnClock``).
    raises: dict[int, list[float]] = field(default_factory=dict)
    own_s: float = 0.0  # that clock at the last write
    digest: str = ""  # of the token under which the epoch was seen; empty: not known


@dataclass(frozen=True, slots=True)
class BrokerOrder:
    """The order of brokers that the manager commanded."""

    meter: MeterId
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeptRevoked:
    """The newest list of revoked controllers."""

    meter: MeterId
    listed: RevokedList


MeterChange: TypeAlias = NewRecords | Replace | Delete | MeterState | DesiredStates | BrokerOrder | KeptRevoked


@dataclass(frozen=True, kw_only=True)
class StoredMeter:
    """The stored state of one meter."""

    state: MeterState
    desired_states: DesiredStates
    history: list[LogRow] = field(default_factory=list)
    events: list[LogRow] = field(default_factory=list)
    order: tuple[str, ...] = ()  # the order of brokers that the manager commanded; empty: none
    revoked: RevokedList = field(default_factory=RevokedList)  # the newest list of revoked controllers


def under_token(stored: StoredMeter, digest: str) -> StoredMeter:
    """Return a meter's stored state under its present token: a new token clears its epoch (R4).

    States in force stay to their end, under a pair that every command replaces.
    """
    was = stored.desired_states
    if was.digest in ("", digest):
        return replace(stored, desired_states=replace(was, digest=digest))
    held = {kind: one.model_copy(update={"epoch": (0, 0), "seq": 0}) for kind, one in was.held.items()}
    return replace(stored, desired_states=DesiredStates(was.meter, (0, 0), held, digest=digest))


def new_meter(meter: MeterId, now: float) -> StoredMeter:
    """Return the state of a meter that is new in the store; its generation is higher than in any store lost before."""
    return StoredMeter(
        state=MeterState(meter=meter, generation=int(now)), desired_states=DesiredStates(meter, (0, 0), {})
    )
