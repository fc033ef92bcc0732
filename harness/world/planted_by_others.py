"""More planted bugs, as real mistakes of programmers; none of them is by the author of the code that it breaks.

The worlds must find each of them, as those of ``harness.world.planted``.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from commonwatt.device import store as device_store
from commonwatt.device.changes import Delete
from commonwatt.device.commands.desired_states import HeldStates
from commonwatt.device.commands.epoch_guard import EpochGuard
from commonwatt.device.meter import Effects, Meter
from commonwatt.device.records import aggregation
from commonwatt.device.records.delivery import Delivery
from commonwatt.device.records.log import MeterLog
from commonwatt.device.store import DeviceStore
from commonwatt.energy.strategies.batteries import Batteries
from commonwatt.model.blocks import Blocks
from commonwatt.model.effects import Effect
from commonwatt.model.ids import MeterId
from commonwatt.model.records import HistoryRecord
from commonwatt.model.time.now import Now
from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.protocol.batches import BatchAck, Mark
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.protocol.meter_messages import PutAck
from gateway import marks
from gateway.changes import Change
from gateway.collect.collector import Collector
from gateway.control import modes, sharing
from gateway.control.epochs import Epochs
from gateway.control.islanding import Boundary
from gateway.control.microgrid_states import MicrogridStates
from gateway.control.sharing import BatteryState
from gateway.marks import Lost, Stretch
from gateway.relay import refill
from gateway.relay.relay import Relay
from gateway.store import recovery
from gateway.store.store import Store
from gateway.upkeep import Upkeep
from meter_sim import switch
from meter_sim.plant_core import PlantCore
from meter_sim.switch import BoundarySwitch, Kept
from utility.readings import core
from utility.readings.marks import Marks
from utility.readings.store import compactor, confirmed, writer
from utility.readings.store.gap_finder import GapFinder
from utility.readings.store.writer import _Transaction

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


def _by_own_clock(self: Meter, now: float) -> Effects:
    self.desired_states.own_clock.pass_time(now)
    return [] if self.desired_states.expire(now) is None else [*self._note(now), *self._save()]


def _by_counter_alone(self: EpochGuard, epoch: Epoch, now: float) -> str | None:
    del now
    return None if epoch[0] >= self.epoch[0] else "seen"


def _takes_any(self: EpochGuard, epoch: Epoch, now: float) -> None:
    del now
    self.epoch = epoch


def _unmerged(real: Callable[..., None], self: MeterLog, **fields: Any) -> None:
    real(self, **fields)
    self._took.clear()


def _not_frozen(real: Callable[..., None], self: MeterLog, **fields: Any) -> None:
    real(self, **fields)
    self.frozen = 0


def _connect(real: Callable[[Path], sqlite3.Connection], path: Path) -> sqlite3.Connection:
    connection = real(path)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


# Gateways.


def _prepare(real: Callable[..., None], self: Store, *, is_new: bool) -> None:
    real(self, is_new=is_new)
    self._db.execute("PRAGMA synchronous = NORMAL")


def _of_any_store(real: Callable[..., object], self: Relay, ack: BatchAck, now: Now) -> object:
    return real(self, replace(ack, store=self._store.store_id), now)


def _numbered_anew(real: Callable[..., None], self: Relay, *args: Any) -> None:
    real(self, *args)
    self._sequence = 1 << 32


def _a_commit_too_late(
    real: Callable[..., Lost | None], found: Sequence[Stretch], history: Mapping[int, int]
) -> Lost | None:
    return real(found, {run: last + 1 for run, last in history.items()})


def _from_the_newest_part(found: Sequence[Stretch], mark: Mark, period: int, part: int) -> list[Stretch]:
    grown = _grown(found, mark, period, part)
    return [*grown[:-1], grown[-1]._replace(part=max(part, grown[-1].part))]


_grown = marks.grown


def _one_step(real: Callable[..., None], self: Store, rows: dict[str, int]) -> None:
    real(self, dict.fromkeys(rows, 0) if any(self.forgetting().values()) else rows)


def _not_above(self: Epochs, meter: MeterId, epoch: Epoch) -> list[Effect[Change]]:
    self._raised[meter] = epoch
    return []


# The utility.


def _last_part(real: Callable[[Sequence[Blocks]], Blocks], batches: Sequence[Blocks]) -> Blocks:
    (parts,) = batches
    last = {key: row for row, key in enumerate(parts.keys())}
    return parts.take([last[key] for key in real(batches).keys()])


def _first_batch_is_first(real: Callable[..., None], self: _Transaction, columns: Any) -> None:
    real(self, columns)
    self.new_firsts = {place: quarter for place, quarter in self.new_firsts.items() if place not in self._first}


BY_OTHERS: Plants = {
    # Meters.
    "rows of a log in another order": lambda: _around(
        DeviceStore, "_rows", lambda real, *args: list(reversed(real(*args)))
    ),
    "a batch thawed by a restart": lambda: _around(MeterLog, "__init__", _not_frozen),
    "merged ids forgotten at a restart": lambda: _around(MeterLog, "__init__", _unmerged),
    "averages rounded down": lambda: patch.object(aggregation, "mean_of_group", lambda total: total // 10),
    "records merged over a gap": lambda: patch.object(aggregation, "_continues", _merges_over_a_gap),
    "a refusal taken for an acknowledgement": lambda: _around(Delivery, "acknowledged", _refusals_confirm),
    "acknowledgements of another generation": lambda: _around(
        Delivery, "acknowledged", lambda real, self, ack: real(self, replace(ack, generation=self.log.generation))
    ),
    "a log without a limit": _nothing(Meter, "_is_full", False),
    "an outage without events": lambda: _around(
        Meter, "boot", lambda real, self, now, power_lost: real(self, now, power_lost=False)
    ),
    "ends by a meter's own clock": lambda: patch.object(Meter, "_expire", _by_own_clock),
    "ends that do not move with the clock": _nothing(HeldStates, "sooner", False),
    "epochs compared without their rank": lambda: patch.multiple(
        EpochGuard, why_not=_by_counter_alone, take=_takes_any
    ),
    "meters' store syncs at checkpoints alone": lambda: _around(device_store, "_connect", _connect),
    # Gateways.
    "a gateway's store syncs at checkpoints alone": lambda: _around(Store, "_prepare", _prepare),
    "damaged rows kept": _nothing(Upkeep, "clear", []),
    "a recovery that takes damaged rows": lambda: patch.multiple(
        recovery, part_is_sound=lambda *_: True, is_sound=lambda *_: True
    ),
    "a recovery without parts": _nothing(recovery._Take, "_parts"),
    "the quarter that has begun is averaged": lambda: _around(
        Relay, "_begin_averages", lambda real, self, now: real(self, Now(now - QUARTER_S, now.trust))
    ),
    "acknowledgements for a lost store": lambda: _around(Relay, "acknowledged", _of_any_store),
    "batches numbered anew at a start": lambda: _around(Relay, "__init__", _numbered_anew),
    "a database that went back one commit further": lambda: _around(marks, "lost", _a_commit_too_late),
    "a stretch from its newest part on": lambda: patch("gateway.store.store.grown", _from_the_newest_part),
    "a backup that stops after a step": lambda: _around(Store, "_forget_up_to", _one_step),
    "a wait in milliseconds": lambda: patch.object(refill, "OTHERS_WAIT_S", 900_000),
    "meters ahead are not asked to wait": _nothing(Collector, "_early", False),
    "a lawful manager that stays below": lambda: patch.object(Epochs, "above", _not_above),
    # The utility.
    "a compactor that keeps the last part": lambda: _around(compactor, "join", _last_part),
    "a compactor that tells no gap finder": _nothing(compactor, "_mark_gaps"),
    "a late block that is never compacted": _nothing(compactor, "_old_of", []),
    "a gap finder that asks nothing": _nothing(GapFinder, "_want"),
    "late events change no gap": _nothing(_Transaction, "_look_again"),
    "the first batch has the first quarter": lambda: _around(_Transaction, "_note_firsts", _first_batch_is_first),
    "commits not compared": _nothing(writer, "advance"),
    "a gateway's mark not believed": _nothing(Marks, "lacks", False),
    "a utility that trusts its clock": lambda: patch.object(core.Core, "latest", lambda _, now: int(now)),
    "what waited is refused": _nothing(confirmed, "_end", 2**40),
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


def _unsorted(real: Callable[..., Batteries], batteries: Mapping[MeterId, BatteryState], *args: Any, **named: Any):
    return real(dict(zip(sorted(batteries), reversed(list(batteries.values())), strict=True)), *args, **named)


ENERGY_BY_OTHERS: Plants = {
    "gaps between reports are passed over": lambda: patch("gateway.control.islanding.REPORT_GOOD_FOR_S", 10**9),
    "one boundary meter is enough": lambda: patch.object(
        modes, "together", lambda several: max(several, key=lambda one: bool(one.sensor and one.sensor.voltage))
    ),
    "observations that do not move with the clock": lambda: patch.object(Boundary, "shift", lambda self, _: self),
    "a slot too early": lambda: patch.object(switch, "STABLE_S", 295),
    "a switch that forgets that it is open": lambda: _around(
        BoundarySwitch, "__init__", lambda real, self, delay_s, kept: real(self, delay_s, Kept(False, kept.opened_by))
    ),
    "a switch that an old command closes": lambda: _around(
        BoundarySwitch,
        "step",
        lambda real, self, **fields: (setattr(self, "_opened_by", ((0, 0), 0)), real(self, **fields))[1],
    ),
    "a supply in the field of isolation": lambda: _around(MicrogridStates, "set", _of_another_field),
    "minutes for seconds": lambda: _around(MicrogridStates, "set", _minutes),
    "states forgotten at a restart": _nothing(modes, "kept_states", MicrogridStates()),
    "batteries in another order": lambda: _around(sharing, "_row", _unsorted),
    "a purchase that counts nothing": _nothing(PlantCore, "_counts", False),
    "purchases forgotten at a restart": lambda: _around(
        PlantCore,
        "__init__",
        lambda real, self, physical, price, state, *rest: real(
            self, physical, price, replace(state, purchases=()), *rest
        ),
    ),
    "a part of a purchase for all slots": lambda: patch("meter_sim.plant_core.SLOTS", 181 + 179),
}
"""By name, of energy."""
