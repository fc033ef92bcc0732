"""Planted bugs: each removes one guard, and the simulation must find the violation."""

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
from sqlalchemy.exc import OperationalError

from broker import access_rules
from commonwatt.device.changes import Delete
from commonwatt.device.commands.desired_states import DONE, HeldStates, Verdict
from commonwatt.device.meter import Effects, Meter
from commonwatt.device.records.delivery import Delivery
from commonwatt.device.store import DeviceStore
from commonwatt.model import effects
from commonwatt.model.blocks import Blocks, empty, join
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.ids import MeterId
from commonwatt.model.records import HistoryRecord, Log, Rejection
from commonwatt.model.time.now import Now, Trust
from commonwatt.model.validation import Expected, judge_history
from commonwatt.protocol.batches import BatchAck, BatchFlag
from commonwatt.protocol.commands import Command, Epoch
from commonwatt.protocol.meter_messages import Put, PutAck
from commonwatt.town.registry import RegisteredMeter
from gateway.changes import Change, Part, Relayed, Setting
from gateway.collect.collector import Collector, Taken
from gateway.control.epochs import Epochs
from gateway.relay import outbox, relay
from gateway.relay.relay import Relay
from gateway.store.store import Store
from harness.world.planted_by_others import BY_OTHERS
from utility.readings.store import compactor, parts


@dataclass(frozen=True)
class Bug:
    """A planted bug."""

    plant: Callable[[], AbstractContextManager[object]] = nullcontext  # context in which the bug is active
    unsynced: tuple[str, ...] = ()  # nodes whose commits a crash undoes


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

    def history(
        self: Collector, put: Put, records: list[HistoryRecord], expected: Expected, account: int, now: Now
    ) -> Taken:
        assert isinstance(self._store, Store)
        covered = self._store._db.execute(
            "SELECT 1 FROM coverage WHERE meter = ? AND log = ? AND first <= ? AND last >= ?",
            (expected.meter_id, put.log, put.first_id, put.last_id),
        ).fetchone()
        if covered is None:
            return real(self, put, records, expected, account, now)
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


@contextmanager
def _failed_commits_are_acknowledged() -> Iterator[None]:
    async def deaf(
        wanted: Iterable[Effect[object]],
        commit: Callable[[list[object]], Awaitable[None]],
        publish: Callable[[Publish], object],
    ) -> None:
        several = list(wanted)
        if changes := [effect.change for effect in several if isinstance(effect, Write)]:
            with suppress(sqlite3.OperationalError, OperationalError):
                await commit(changes)
        for effect in several:
            if isinstance(effect, Publish):
                publish(effect)

    with patch.object(effects, "perform", deaf):
        yield


@contextmanager
def _averages_beside_exact_slots() -> Iterator[None]:
    real = outbox._split

    def split(store: Store, unsent: list[Part], mode: outbox.Mode) -> tuple[list[Part], list[Part]]:
        return ([], unsent) if mode.name == "lossy" else real(store, unsent, mode)

    with patch.object(outbox, "_split", split):
        yield


@contextmanager
def _deleted_when_sent() -> Iterator[None]:
    real = Meter._send

    def send(self: Meter, log: Log, now: float, to_id: int | None = None) -> Effects:
        wanted = real(self, log, now, to_id)
        of_log = self._deliveries[log].log
        return [*wanted, Write(of_log.delete_batch())] if of_log.frozen else wanted

    with patch.object(Meter, "_send", send):
        yield


@contextmanager
def _relayed_when_sent() -> Iterator[None]:
    real = Relay._next

    def following(self: Relay, now: Now, flags: BatchFlag) -> list[Effect[Change]]:
        wanted = real(self, now, flags)
        if not wanted:
            return []
        sent = next(reversed(self.in_flight.values())).selection
        return [*wanted, Write(Relayed(sent.done, sent.averaged, (), (), 0))]

    with patch.object(Relay, "_next", following):
        yield


@contextmanager
def _any_batch_acknowledgement() -> Iterator[None]:
    real = Relay.acknowledged

    def acknowledged(self: Relay, ack: BatchAck, now: Now) -> list[Effect[Change]]:
        if self.in_flight:
            sequence, batch = next(iter(self.in_flight.items()))
            sent = batch.selection
            ack = replace(
                ack,
                sequence=sequence,
                store=self._store.store_id,
                blocks=len(sent.blocks),
                events=len(sent.events),
                dead_letters=len(sent.dead_letters),
            )
        return real(self, ack, now)

    with patch.object(Relay, "acknowledged", acknowledged):
        yield


def _keep_known(self: Relay, ack: BatchAck, now: Now) -> list[Effect[Change]]:
    del self, now
    return [Write(Setting("utility_store", str(ack.utility_store)))]


@contextmanager
def _expiry_by_a_clock_that_lags() -> Iterator[None]:
    real = HeldStates.judge
    seen: dict[int, float] = {}

    def judge(self: HeldStates, command: Command, now: float) -> Verdict:
        # A smoothed clock advances by at most ten seconds from one command to the next.
        seen[id(self)] = min(now, seen.get(id(self), now) + 10)
        return real(self, command, seen[id(self)])

    with patch.object(HeldStates, "judge", judge):
        yield


@contextmanager
def _trusted_from_the_start() -> Iterator[None]:
    real = Collector.put

    def put(self: Collector, meter_id: int, meter: RegisteredMeter | None, log: Log, payload: bytes, now: Now) -> Taken:
        return real(self, meter_id, meter, log, payload, Now(now, Trust.NETWORK))

    with patch.object(Collector, "put", put):
        yield


@contextmanager
def _other_meters_records_taken() -> Iterator[None]:
    def judge(record: HistoryRecord, expected: Expected) -> Rejection | None:
        return judge_history(record, replace(expected, meter_id=record.meter_id))

    with patch("gateway.collect.collector.judge_history", judge):
        yield


def _adopt_epoch(self: Epochs, meter: MeterId, highest: Epoch) -> list[Effect[Change]]:
    del meter
    self.own = max(self.own, highest)
    return []


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
    "failed commits acknowledged": Bug(_failed_commits_are_acknowledged),
    "averages beside exact slots": Bug(_averages_beside_exact_slots),
    "deleted when sent": Bug(_deleted_when_sent),
    "relayed when sent": Bug(_relayed_when_sent),
    "any acknowledgement of a batch believed": Bug(_any_batch_acknowledgement),
    "batches never given up": Bug(lambda: patch.multiple(relay, ACK_WITHIN_S=10**9, LONGEST_ACK_S=10**9)),
    "a new utility gets no backup": Bug(lambda: patch.object(Relay, "_compare_store", _keep_known)),
    "a database that went back is not noticed": Bug(lambda: patch.object(relay, "missing", return_value=None)),
    "commands judged by a clock that lags behind": Bug(_expiry_by_a_clock_that_lags),
    "adopt epoch": Bug(lambda: patch.object(Epochs, "reported", _adopt_epoch)),
    "pairs not kept": Bug(lambda: patch.object(DeviceStore, "_write_desired_states", return_value=None)),
    "a clock trusted from the start": Bug(_trusted_from_the_start),
    "no access rules": Bug(lambda: patch.object(access_rules, "allowed", return_value=True)),
    "records of other meters taken": Bug(_other_meters_records_taken),
}
"""By name."""

BUGS |= {name: Bug(plant) for name, plant in BY_OTHERS.items()}
