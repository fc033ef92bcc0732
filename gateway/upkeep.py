"""Upkeep of the store: damaged rows, the size of the backup, and a full disk."""

from collections import Counter

from commonwatt.model.disk_space import ENOUGH_BYTES, LOW_BYTES
from commonwatt.model.effects import Effect, Write
from commonwatt.model.ids import unsigned64
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.dead_letters import MAX_DEAD_LETTER_BYTES, DeadLetter, DeadLetterSource, LocalReason
from gateway.changes import AddDeadLetters, Change, DropBackup, DropDamaged
from gateway.stored import DamagedRow, Stored

MAX_DEAD_LETTERS_A_DAY = 1000  # damaged rows kept as dead letters in a day; further ones are only counted
EXAMINED_PARTS = 100  # parts checked at a time, in under a millisecond
EXAMINE_EVERY = 6  # turns, each of 5 s: a million parts in 3.5 days
SHORT_SLICE_PARTS = 5000  # parts deleted in one turn while the disk is full
SLICE_PARTS = 500  # parts deleted in one turn, few enough not to delay other work


class Upkeep:
    """Checks the store and limits its size, a slice at a time."""

    def __init__(self, store: Stored, backup_bytes: int) -> None:
        self.damaged: Counter[str] = Counter()  # damaged rows found, by table
        self.dropped = 0  # acknowledged parts deleted to free space
        self.short = False  # whether disk space is too low for more records; other changes are still written
        self._store = store
        self._backup_bytes = backup_bytes
        self._examined = self._turns = 0
        self._is_too_large = False
        self._day = 0
        self._dead_letters = 0

    def turn(self) -> list[Effect[Change]]:
        """Check the next parts; delete the oldest acknowledged data if the backup is too large or the disk full."""
        is_examined = self._turns % EXAMINE_EVERY == 0
        if is_examined:
            self._examined = self._store.examine(self._examined, EXAMINED_PARTS)
        self._turns += 1
        if self.short:
            return self._drop(SHORT_SLICE_PARTS)
        if is_examined or self._is_too_large:
            self._is_too_large = self._store.used_bytes() > self._backup_bytes
        return self._drop() if self._is_too_large else []

    def disk_space(self, free_bytes: int) -> bool:
        """Set the free bytes on the disk; return whether ``short`` changed.

        Free pages within the file count too: SQLite uses them before the file grows.
        """
        before = self.short
        needed = ENOUGH_BYTES if before else LOW_BYTES
        self.short = free_bytes < needed and free_bytes + self._store.free_bytes() < needed
        return self.short != before

    def _drop(self, step: int = SLICE_PARTS) -> list[Effect[Change]]:
        """Delete acknowledged data: first dead letters (the utility has them), then parts, last events."""
        if dead_letters := self._store.oldest_acknowledged("letter", step):
            return [Write(DropBackup(dead_letters=dead_letters))]
        if oldest := self._store.oldest_backup(step):
            self.dropped += len(oldest)
            return [Write(DropBackup(oldest))]
        events = self._store.oldest_acknowledged("event", step)
        return [Write(DropBackup(events=events))] if events else []

    def clear(self, now: EpochSeconds) -> list[Effect[Change]]:
        """Delete the damaged rows that were found; keep their content as dead letters, up to the daily limit."""
        effects: list[Effect[Change]] = []
        if now // 86_400 != self._day:
            self._day, self._dead_letters = now // 86_400, 0
        for row in list(self._store.damaged.values()):
            self.damaged[row.table] += 1
            self._dead_letters += 1
            effects.append(Write(DropDamaged(row.table, row.row)))
            if self._dead_letters <= MAX_DEAD_LETTERS_A_DAY and row.table != "letter":
                effects.append(Write(AddDeadLetters((dead_letter_about(row, now),))))
        return effects


def dead_letter_about(row: DamagedRow, now: EpochSeconds) -> DeadLetter:
    """Return a dead letter with a damaged row's table and columns, as text."""
    meter = row.content[0] if row.content else None
    content = repr((row.table, *row.content)).encode(errors="replace")
    return DeadLetter(
        meter=unsigned64(meter) if isinstance(meter, int) else 0,
        log=DeadLetterSource.UNKNOWN,
        reason=LocalReason.DAMAGED_AT_GATEWAY,
        generation=0,
        record_id=row.row,
        time=now,
        content=content[:MAX_DEAD_LETTER_BYTES],
    )
