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
from commonwatt.device.commands.epoch_guard import EpochGuard
from commonwatt.device.meter import Meter
from commonwatt.device.records import aggregation
from commonwatt.device.records.delivery import Delivery
from commonwatt.device.store import DeviceStore
from commonwatt.energy.strategies.batteries import Batteries
from commonwatt.model.blocks import Blocks
from commonwatt.model.ids import MeterId
from commonwatt.model.records import HistoryRecord
from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.protocol.meter_messages import PutAck
from gateway.control import sharing
from gateway.control.microgrid_states import MicrogridStates
from gateway.control.sharing import BatteryState
from gateway.relay import refill
from gateway.store import recovery
from gateway.store.store import Store
from meter_sim.plant_core import PlantCore
from meter_sim.switch import BoundarySwitch, Kept
from utility.readings.core import Core
from utility.readings.store import compactor

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
    "a log without a limit": _nothing(Meter, "_is_full", False),
    "epochs compared without their rank": lambda: patch.multiple(
        EpochGuard, why_not=_by_counter_alone, take=_takes_any
    ),
    "meters' store syncs at checkpoints alone": lambda: _around(device_store, "_connect", _connect),
    "records merged over a gap": lambda: patch.object(aggregation, "_continues", _merges_over_a_gap),
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
        BoundarySwitch, "__init__", lambda real, self, delay_s, kept: real(self, delay_s, Kept(False, kept.opened_by))
    ),
    "a supply in the field of isolation": lambda: _around(MicrogridStates, "set", _of_another_field),
    "minutes for seconds": lambda: _around(MicrogridStates, "set", _minutes),
    "batteries in another order": lambda: _around(sharing, "_row", _unsorted),
    "a purchase that counts nothing": _nothing(PlantCore, "_counts", False),
}
"""By name, of energy."""
