"""Bugs planted on purpose: each takes one guard away, and the simulation must find it (it must bite)."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np

from commonwatt import effects
from commonwatt.blocks import Blocks, empty, join
from commonwatt.commands import Command
from commonwatt.effects import Effect, Publish, Write
from commonwatt.messages import Put, PutAck
from commonwatt.records import Expected
from commonwatt.units import EpochSeconds
from gateway.collect import Collector, Taken
from meter_sim.changes import Delete
from meter_sim.delivery import Delivery
from meter_sim.orders import DONE, HeldStates, Verdict
from utility.store import compactor, parts


@dataclass(frozen=True)
class Bug:
    """A planted bug.

    Attributes:
        plant: Plants it for a while.
        unsynced: Nodes whose commits a crash undoes.
    """

    plant: Callable[[], AbstractContextManager[object]] = nullcontext
    unsynced: tuple[str, ...] = ()


@contextmanager
def _acknowledge_before_commit() -> Iterator[None]:
    async def hasty(
        wanted: Iterable[Effect[object]],
        commit: Callable[[list[object]], Awaitable[None]],
        publish: Callable[[Publish], object],
    ) -> None:
        several = list(wanted)
        for effect in several:
            if isinstance(effect, Publish):
                publish(effect)
        if changes := [effect.change for effect in several if isinstance(effect, Write)]:
            await commit(changes)

    with patch.object(effects, "perform", hasty):
        yield


@contextmanager
def _join_adds() -> Iterator[None]:
    def adding(batches: Sequence[Blocks]) -> Blocks:
        joined = join(batches)
        rows = {key: row for row, key in enumerate(joined.keys())}
        sums = np.zeros_like(joined.values)
        for batch in batches:
            for row, key in enumerate(batch.keys()):
                best = batch.quality[row] == joined.quality[rows[key]]
                sums[rows[key]] += np.where(best, batch.values[row], 0)
        return replace(joined, values=sums, extras=empty().extras)

    with patch.object(parts, "join", adding), patch.object(compactor, "join", adding):
        yield


@contextmanager
def _delete_on_any_acknowledgement() -> Iterator[None]:
    def acknowledged(self: Delivery, ack: PutAck) -> Delete | None:
        self.retry_at = None
        return self.log.delete_batch() if self.log.frozen else None

    with patch.object(Delivery, "acknowledged", acknowledged):
        yield


@contextmanager
def _ids_are_identity() -> Iterator[None]:
    real = Collector._history

    def history(self: Collector, put: Put, expected: Expected, now: EpochSeconds) -> Taken:
        covered = self._store._db.execute(
            "SELECT 1 FROM coverage WHERE meter = ? AND log = ? AND first <= ? AND last >= ?",
            (expected.meter_id, put.log, put.first_id, put.last_id),
        ).fetchone()
        if covered is None:
            return real(self, put, expected, now)
        return Taken(self._covered(put, expected.meter_id, Counter(put.counts()), [], now))

    with patch.object(Collector, "_history", history):
        yield


@contextmanager
def _judging(ignored: tuple[str, ...]) -> Iterator[None]:
    real = HeldStates.judge

    def judge(self: HeldStates, command: Command, now: float) -> Verdict:
        verdict = real(self, command, now)
        return DONE if verdict.result in ignored else verdict

    with patch.object(HeldStates, "judge", judge):
        yield


BUGS: dict[str, Bug] = {
    "acknowledge before commit": Bug(_acknowledge_before_commit),
    "commits of gateways not synced": Bug(unsynced=("r001", "r002")),
    "commits of the utility not synced": Bug(unsynced=("utility",)),
    "commits of meters not synced": Bug(unsynced=("r001-m", "r002-m")),
    "a join that adds": Bug(_join_adds),
    "delete on any acknowledgement": Bug(_delete_on_any_acknowledgement),
    "ids used for identity": Bug(_ids_are_identity),
    "states without an end": Bug(lambda: patch.object(HeldStates, "expire", return_value=None)),
    "commands obeyed after their end": Bug(lambda: _judging(("expired",))),
    "no fence": Bug(lambda: _judging(("superseded", "fenced"))),
}
"""By name."""
