"""What the parts of the core read of the gateway's store: a small protocol for each.

``gateway.store.Store`` serves all of them from its SQLite file; tests serve single ones from memory. A core changes
nothing by them: what is to be kept it returns as a ``Write`` (``gateway.changes``).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from commonwatt.model.records import EventRecord, Log
from commonwatt.model.units import MeterId, Quarter
from commonwatt.protocol.dead_letters import DeadLetter
from gateway.changes import Desired, MeterInfo, Part

Key = tuple[int, int, int]
"""A block: (meter, record type, quarter)."""


@dataclass(frozen=True)
class DamagedRow:
    """A row that is not what was written.

    Attributes:
        table: Its table.
        row: Its row number.
        content: What is left of it, to be looked at.
    """

    table: str
    row: int
    content: tuple[Any, ...]


class KeptSettings(Protocol):
    """Values by name."""

    def setting(self, key: str) -> str | None:
        """Return a value kept by ``Setting``."""


class KeptEvents(Protocol):
    """The meters' events, for ``collect``."""

    @property
    def store_id(self) -> int:
        """The random id of the store."""

    def event(self, meter: MeterId, generation: int, record_id: int) -> EventRecord | None:
        """Return one event."""


class KeptMeters(KeptSettings, Protocol):
    """What the meters are and shall be, for ``control``."""

    def meters(self) -> list[MeterInfo]:
        """Return what each meter said of itself."""

    def desired(self) -> list[Desired]:
        """Return the desired states."""


class KeptParts(Protocol):
    """Blocks, in parts."""

    def block_parts(self, keys: Iterable[Key]) -> list[Part]:
        """Return all parts of the blocks ``keys``."""

    def keys_between(self, first: Quarter, last: Quarter, limit: int) -> list[Key]:
        """Return the keys of the blocks of a range of quarters, the newest first."""

    def coarse_keys(self, keys: Iterable[Key]) -> set[Key]:
        """Return those of ``keys`` of whose blocks the utility may have averages."""


class Unsent(KeptParts, Protocol):
    """What the utility has not acknowledged, newest first, for ``relay.outbox``."""

    def unsent_parts(
        self, before_quarter: Quarter, limit: int, flying: Collection[int], without: Collection[MeterId]
    ) -> list[Part]:
        """Return parts of quarters before ``before_quarter``, without the numbers ``flying``, of other meters."""

    def unsent_events(self, limit: int, without: Collection[MeterId] = ()) -> list[tuple[int, EventRecord]]:
        """Return (log generation, event)s."""

    def unsent_dead_letters(self, limit: int) -> list[tuple[int, DeadLetter]]:
        """Return (number, dead letter)s, the oldest first."""


class KeptBacklog(Unsent, KeptSettings, Protocol):
    """What ``relay`` sends, and what it notes."""

    @property
    def store_id(self) -> int:
        """The random id of the store."""

    def forgetting(self) -> dict[str, int]:
        """Return, by table, the rows up to which acknowledgements are of a store that the utility has lost."""

    def keys_to_compact(self, before: Quarter, limit: int) -> list[Key]:
        """Return blocks of quarters before ``before`` that the utility has and that are not joined."""


class Backup(Protocol):
    """What the utility has, and the file itself, for ``upkeep``."""

    damaged: dict[tuple[str, int], DamagedRow]

    def examine(self, after: int, limit: int) -> int:
        """Look through the parts numbered above ``after`` for damaged ones; return the last number, 0 at the end."""

    def used_bytes(self) -> int:
        """Return how much of the file is in use."""

    def free_bytes(self) -> int:
        """Return how much of the file is free to be used again."""

    def oldest_backup(self, limit: int) -> tuple[int, ...]:
        """Return the numbers of the oldest parts the utility has, by quarter."""

    def oldest_acknowledged(self, table: str, limit: int) -> tuple[int, ...]:
        """Return the row numbers of the oldest events or dead letters the utility has, in the order they came."""


class Stored(KeptEvents, KeptMeters, KeptBacklog, Backup, Protocol):
    """All of it, for the core."""

    def coverage(self, meter: MeterId, log: Log, generation: int) -> list[tuple[int, int]]:
        """Return the ranges (first, last) of ids of a log that are in the store, ascending."""

    def period(self, job: str) -> int | None:
        """Return the last period of ``job`` that is done."""

    def backlog(self) -> tuple[int, int, int]:
        """Return how many parts, events and dead letters the utility has not acknowledged."""

    def backlog_since(self) -> int | None:
        """Return the oldest quarter of which the utility has not acknowledged everything; ``None``: it has all."""
