"""Read-only views of the gateway's store, which ``gateway.store.store.Store`` implements on its SQLite file.

The core changes nothing through them: it returns each change as a ``Write`` (``gateway.changes``).
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from commonwatt.model.ids import MeterId
from commonwatt.model.records import EventRecord, Log
from commonwatt.model.units import Quarter
from commonwatt.protocol.dead_letters import DeadLetter
from gateway.changes import Desired, MeterInfo, Part

Key = tuple[int, int, int]  # a block: (meter, record type, quarter)


@dataclass(frozen=True)
class DamagedRow:
    """A row whose content is not what was written."""

    table: str  # its table
    row: int  # its row number
    content: tuple[Any, ...]  # its columns as they could be read


class KeptSettings(Protocol):
    """Settings by name."""

    def setting(self, key: str) -> str | None:
        """Return a value kept by ``Setting``."""


class Stored(KeptSettings, Protocol):
    """All that the core reads."""

    damaged: dict[tuple[str, int], DamagedRow]  # damaged rows found and not deleted yet, by table and row number

    @property
    def store_id(self) -> int:
        """The random id of the store."""

    # What meters sent and reported

    def event(self, meter: MeterId, generation: int, record_id: int) -> EventRecord | None:
        """Return one event."""

    def coverage(self, meter: MeterId, log: Log, generation: int) -> list[tuple[int, int]]:
        """Return the ranges (first, last) of ids of a log that are in the store, ascending."""

    def meters(self) -> list[MeterInfo]:
        """Return the settings that each meter reported."""

    def desired(self) -> list[Desired]:
        """Return the desired states."""

    def period(self, job: str) -> int | None:
        """Return the last period of ``job`` that is done."""

    # Blocks, stored in parts

    def block_parts(self, keys: Iterable[Key]) -> list[Part]:
        """Return all parts of the blocks ``keys``."""

    def parts_after(self, number: int, first: Quarter) -> Iterator[Part]:
        """Yield the parts numbered above ``number`` of the quarters from ``first`` on."""

    def keys_between(self, first: Quarter, last: Quarter, limit: int) -> list[Key]:
        """Return the keys of the blocks of a range of quarters, the newest first."""

    def coarse_keys(self, keys: Iterable[Key]) -> set[Key]:
        """Return the ``keys`` of blocks of which the utility may have averages."""

    def newest_part(self) -> int:
        """Return the highest number of a part; 0: there is none."""

    def new_keys(self, after: int, up_to: int, meters: Collection[MeterId]) -> list[Key]:
        """Return the keys of the parts of ``meters`` numbered above ``after``, at most ``up_to``, without joins."""

    def keys_to_compact(self, before: Quarter, limit: int) -> list[Key]:
        """Return blocks of quarters before ``before`` that the utility has and that are not joined."""

    # Data that the utility has not acknowledged

    def unsent_parts(
        self, first: Quarter, before: Quarter, limit: int, flying: Collection[int], without: Collection[MeterId]
    ) -> list[Part]:
        """Return the newest parts of quarters from ``first`` to before ``before``, but ``flying`` and ``without``."""

    def unsent_events(self, limit: int, without: Collection[MeterId] = ()) -> list[tuple[int, EventRecord]]:
        """Return the newest (log generation, event)s, except of meters ``without``."""

    def unsent_dead_letters(self, limit: int) -> list[tuple[int, DeadLetter]]:
        """Return (number, dead letter)s, the oldest first."""

    def forgetting(self) -> dict[str, int]:
        """Return, by table, the last row with an acknowledgement from a store that the utility lost; 0: none."""

    def unsent_before(self, quarter: Quarter) -> int:
        """Return how many parts of quarters before ``quarter`` the utility has not acknowledged."""

    def backlog(self) -> tuple[int, int, int]:
        """Return how many parts, events and dead letters the utility has not acknowledged."""

    def backlog_since(self, first: Quarter = 0) -> int | None:
        """Return the oldest quarter from ``first`` on with parts that the utility has not acknowledged, or ``None``."""

    # The acknowledged data, and the size of the file

    def examine(self, after: int, limit: int) -> int:
        """Check the parts numbered above ``after`` for damage; return the last number, 0 at the end."""

    def used_bytes(self) -> int:
        """Return the bytes of the file that are in use."""

    def free_bytes(self) -> int:
        """Return the bytes of the file that are free for reuse."""

    def oldest_backup(self, limit: int) -> tuple[int, ...]:
        """Return the numbers of the oldest acknowledged parts, by quarter."""

    def oldest_acknowledged(self, table: str, limit: int) -> tuple[int, ...]:
        """Return the row numbers of the oldest acknowledged events or dead letters, in order of arrival."""
