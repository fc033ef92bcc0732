"""One microgrid's store in the shell: its file, its opening after a failure, and the steps of the cores on it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from commonwatt.model.effects import Effect, Publish, Write, perform
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.sqlite import SqliteError, is_damage, is_locked, quarantined_before
from gateway.core import HostedMicrogrid
from gateway.loop.machine import THREADS
from gateway.shown.metrics import StoreFigures
from gateway.store.changes import Change
from gateway.store.recovery import Recovery, replace
from gateway.store.released import open_in_use
from gateway.store.store import Store


class HostedStore:
    """An open store.

    Attributes:
        figures: The shell's counts of it.
        quarantined: The damaged file that it replaced, since the start; ``None``: none.
        opening: Whether it failed, and another thread may open it again.
        failure: Why it failed last; empty: it never did.
        view: The microgrid's state for the status page, as JSON, as it was last read.
        state: The store's, likewise.
    """

    def __init__(self, path: Path, opened: tuple[Store, Recovery | None]) -> None:
        self.path = path
        self.figures = StoreFigures()
        self.quarantined: str | None = None
        self.opening, self.failure = False, ""
        self.view: dict[str, object] = {}
        self.state: dict[str, object] = {}
        self._use(opened)

    @classmethod
    def open(cls, path: Path, now: EpochSeconds) -> Self:
        """Open a store, or replace it if it is damaged.

        Raises:
            StoreError: It can't be opened.
        """
        return cls(path, open_in_use(path, now))

    def open_again(self, failure: Exception, now: EpochSeconds, *, gone: bool) -> None:
        """Open the store after it failed; replace it if it is damaged, or if its file is gone."""
        if gone and not self.store.closed:
            # The open file is the only copy: it is closed only after the new store is written, even after failures.
            self._use(replace(self.path, now, "its file was deleted, moved or replaced", self.store))
            return
        self.store.close()
        is_damaged = isinstance(failure, SqliteError) and is_damage(failure)
        self._use(replace(self.path, now, str(failure), None) if is_damaged else open_in_use(self.path, now))

    def _use(self, opened: tuple[Store, Recovery | None]) -> None:
        """Take an opened store; record whether it was replaced."""
        self.store, recovery = opened
        if recovery is not None:
            self.figures.quarantined += 1
            self.quarantined = str(recovery.quarantined)

    async def commit(self, changes: list[Change]) -> None:
        """Commit changes; until the sync on another thread ends, no other caller may use the store."""
        try:
            self.store.write(changes)
        except SqliteError as error:
            if not is_locked(error):
                raise
            await THREADS.run(self.store.commit, changes)  # It waits for the other program.
        else:
            await THREADS.run(self.store.sync)
        self.figures.commits += 1
        self.figures.committed = time.monotonic()

    def look(self, core: HostedMicrogrid, view: dict[str, object]) -> None:
        """Read the figures and what the status page shows, with the view of the core."""
        figures = self.figures
        figures.backlog = dict(zip(("parts", "events", "dead_letters"), self.store.backlog(), strict=True))
        figures.backlog_age_s = core.backlog_age_s(core.now)
        figures.used_bytes = self.store.used_bytes()
        figures.kept_quarantined = len(quarantined_before(self.path))
        self.view, self.state = (
            view,
            {
                "refusing": core.upkeep.short,
                "quarantined": self.quarantined,
                "damaged_rows": core.upkeep.damaged.total(),
                "kept_quarantined": figures.kept_quarantined,
            },
        )


@dataclass
class Step:
    """The effects of a group of events, by microgrid."""

    effects: dict[MicrogridId, list[Effect[Change]]] = field(default_factory=dict)
    failed: dict[MicrogridId, SqliteError] = field(default_factory=dict)  # why a microgrid's store failed in this step

    def __bool__(self) -> bool:
        """Return whether there is anything to do."""
        return bool(self.effects or self.failed)

    def add(self, microgrid: MicrogridId, effects: list[Effect[Change]]) -> None:
        """Add the effects of an event on a microgrid's store."""
        if effects:
            self.effects.setdefault(microgrid, []).extend(effects)

    @property
    def writes(self) -> bool:
        """Whether anything is to be committed."""
        return any(isinstance(effect, Write) for effects in self.effects.values() for effect in effects)

    async def perform(self, stores: Mapping[MicrogridId, HostedStore], publish: Callable[[Publish], object]) -> None:
        """Commit each store's changes in one transaction of that store, then publish.

        Nothing is published of a microgrid whose store failed; the others are not stopped.
        """
        messages: list[Publish] = []
        for microgrid, effects in self.effects.items():
            if microgrid in self.failed or microgrid not in stores:
                continue
            try:
                await perform(effects, stores[microgrid].commit, messages.append)
            except SqliteError as error:
                self.failed[microgrid] = error
        for message in messages:
            publish(message)
