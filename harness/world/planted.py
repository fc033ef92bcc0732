"""Planted bugs: each removes one guard, or is a real mistake; the simulation must find the violation.

None of the bugs ``BY_OTHERS`` and ``ENERGY_BY_OTHERS`` is by the author of the code that it is in.
"""

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from sqlalchemy.exc import OperationalError

from broker import access_rules
from commonwatt.device import records
from commonwatt.device import store as device_store
from commonwatt.device.changes import Delete
from commonwatt.device.commands import DONE, EpochGuard, HeldStates, Verdict
from commonwatt.device.meter import Effects, MeterCore
from commonwatt.device.records import Delivery
from commonwatt.device.store import DeviceStore
from commonwatt.energy.strategies import Batteries
from commonwatt.model import effects
from commonwatt.model.blocks import Blocks, empty, join
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.records import HistoryRecord, Log, Rejection
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import QUARTER_S, EpochSeconds, MeterId
from commonwatt.model.validation import Expected, judge_history
from commonwatt.protocol.batches import BatchAck, BatchFlag
from commonwatt.protocol.commands import Command, Epoch
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.protocol.meter_messages import Put, PutAck
from commonwatt.town.registry import RegisteredMeter
from gateway.collect import Collector, PutResult
from gateway.control import sharing
from gateway.control.epochs import Epochs
from gateway.control.microgrid_states import MicrogridStates
from gateway.control.sharing import BatteryState
from gateway.relay import outbox, refill, relay
from gateway.relay.relay import Relay
from gateway.store import recovery
from gateway.store.changes import Change, Part, Relayed, Setting
from gateway.store.store import Store
from meter_sim.faults import BoundarySwitch, KeptSwitch
from meter_sim.plant_core import PlantCore
from utility.readings.core import Core
from utility.readings.store import compactor, parts

Plants = dict[str, Callable[[], AbstractContextManager[object]]]


def _nothing(of: object, name: str, result: object = None) -> Callable[[], AbstractContextManager[object]]:
    """Return a bug: a function that does nothing."""
    return lambda: patch.object(of, name, return_value=result)


@contextmanager
def _around(of: Any, name: str, bug: Callable[..., object]) -> Iterator[None]:
    """Replace a function by a wrong one, which takes the right one first."""
    real = getattr(of, name)
    with patch.object(of, name, lambda *args, **named: bug(real, *args, **named)):
        yield


# Meters.


def _merges_over_a_gap(first: HistoryRecord, second: HistoryRecord) -> bool:
    same = second._replace(start=first.start, end=first.end, record_id=first.record_id) == first
    return same and not first.lossy and first.start // QUARTER_S == (second.end - 1) // QUARTER_S


def _refusals_confirm(real: Callable[..., Delete | None], self: Delivery, ack: PutAck) -> Delete | None:
    if ack.status and self.is_answered_by(ack):
        return self.log.delete_batch()
    return real(self, ack)


def _by_counter_alone(self: EpochGuard, epoch: Epoch, now: float) -> str | None:
    del now
    return None if epoch[0] >= self.epoch[0] else "seen"


def _takes_any(self: EpochGuard, epoch: Epoch, now: float) -> None:
    del now
    self.epoch = epoch


def _connect(real: Callable[[Path], sqlite3.Connection], path: Path) -> sqlite3.Connection:
    connection = real(path)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


# Gateways.


def _prepare(real: Callable[..., None], self: Store, *, is_new: bool) -> None:
    real(self, is_new=is_new)
    self._db.execute("PRAGMA synchronous = NORMAL")


def _one_step(real: Callable[..., None], self: Store, rows: dict[str, int]) -> None:
    real(self, dict.fromkeys(rows, 0) if any(self.forgetting().values()) else rows)


# The utility.


def _last_part(real: Callable[[Sequence[Blocks]], Blocks], batches: Sequence[Blocks]) -> Blocks:
    (parts,) = batches
    last = {key: row for row, key in enumerate(parts.keys())}
    keys = real(batches).keys()
    return parts.take([last[key] for key in keys])


BY_OTHERS: Plants = {
    # Meters.
    "rows of a log in another order": lambda: _around(
        DeviceStore, "_rows", lambda real, *args: list(reversed(real(*args)))
    ),
    "a refusal taken for an acknowledgement": lambda: _around(Delivery, "acknowledged", _refusals_confirm),
    "a log without a limit": _nothing(MeterCore, "_is_full", False),
    "epochs compared without their rank": lambda: patch.multiple(
        EpochGuard, why_not=_by_counter_alone, take=_takes_any
    ),
    "meters' store syncs at checkpoints alone": lambda: _around(device_store, "_connect", _connect),
    "records merged over a gap": lambda: patch.object(records, "_continues", _merges_over_a_gap),
    # Gateways.
    "a gateway's store syncs at checkpoints alone": lambda: _around(Store, "_prepare", _prepare),
    "a backup that stops after a step": lambda: _around(Store, "_forget_up_to", _one_step),
    "a wait in milliseconds": lambda: patch.object(refill, "OTHERS_WAIT_S", 900_000),
    "a recovery without parts": _nothing(recovery._Take, "_parts"),
    # The utility.
    "a utility that trusts its clock": lambda: patch.object(Core, "latest", lambda _, now: int(now)),
    "a compactor that keeps the last part": lambda: _around(compactor, "join", _last_part),
}
"""By name, of delivery."""


def _of_another_field(
    real: Callable[..., MicrogridStates], self: MicrogridStates, command: ControllerCommand, now: EpochSeconds
) -> MicrogridStates:
    states = real(self, command, now)
    return replace(states, isolate_until=now + (command.for_s or 0)) if command.cmd == Action.SUPPLY else states


def _minutes(
    real: Callable[..., MicrogridStates], self: MicrogridStates, command: ControllerCommand, now: EpochSeconds
) -> MicrogridStates:
    return real(self, command.model_copy(update={"for_s": command.for_s and command.for_s * 60}), now)


def _unsorted(
    real: Callable[..., Batteries], batteries: Mapping[MeterId, BatteryState], *args: Any, **named: Any
) -> Batteries:
    return real(dict(zip(sorted(batteries), reversed(list(batteries.values())), strict=True)), *args, **named)


ENERGY_BY_OTHERS: Plants = {
    "a switch that forgets that it is open": lambda: _around(
        BoundarySwitch,
        "__init__",
        lambda real, self, delay_s, kept: real(self, delay_s, KeptSwitch(False, kept.opened_by)),
    ),
    "a supply in the field of isolation": lambda: _around(MicrogridStates, "set", _of_another_field),
    "minutes for seconds": lambda: _around(MicrogridStates, "set", _minutes),
    "batteries in another order": lambda: _around(sharing, "_row", _unsorted),
    "a purchase that counts nothing": _nothing(PlantCore, "_counts", False),
}
"""By name, of energy."""


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
    ) -> PutResult:
        assert isinstance(self._store, Store)
        covered = self._store._db.execute(
            "SELECT 1 FROM coverage WHERE meter = ? AND log = ? AND first <= ? AND last >= ?",
            (expected.meter_id, put.log, put.first_id, put.last_id),
        ).fetchone()
        if covered is None:
            return real(self, put, records, expected, account, now)
        return PutResult(self._covered(put, expected.meter_id, Counter(put.counts()), [], now))

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
    real = MeterCore._send

    def send(self: MeterCore, log: Log, now: float, to_id: int | None = None) -> Effects:
        wanted = real(self, log, now, to_id)
        of_log = self._deliveries[log].log
        return [*wanted, Write(of_log.delete_batch())] if of_log.frozen else wanted

    with patch.object(MeterCore, "_send", send):
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
    real = Collector.accept

    def accept(
        self: Collector, meter_id: int, meter: RegisteredMeter | None, log: Log, payload: bytes, now: Now
    ) -> PutResult:
        return real(self, meter_id, meter, log, payload, Now(now, Trust.NETWORK))

    with patch.object(Collector, "accept", accept):
        yield


@contextmanager
def _other_meters_records_taken() -> Iterator[None]:
    def judge(record: HistoryRecord, expected: Expected) -> Rejection | None:
        return judge_history(record, replace(expected, meter_id=record.meter_id))

    with patch("gateway.collect.judge_history", judge):
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
