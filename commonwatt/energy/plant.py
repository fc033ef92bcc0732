"""The town's plant: its battery and its line to the regional grid (T5, A8).

Order in a step: the ordered purchase; then, for the town's need, the battery down to what is kept, the line up to its
limit, and for the public microgrid the rest of the battery. What the town has too much of charges the battery, then
cancels the ordered purchase, then goes to the regional grid; the rest is curtailed. The battery has one net flow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from commonwatt.model.control import SupplyState
from commonwatt.model.units import SLOT_S, EpochSeconds, MilliwattHours
from commonwatt.town.town import Town


@dataclass(frozen=True, kw_only=True)
class Plant:
    """The town's plant; energies in milliwatt-hours, limits per step."""

    capacity: MilliwattHours  # capacity of its battery
    power: MilliwattHours  # limit of the battery's charge and discharge
    loss_permille: int  # part of what is charged that is lost, thousandths
    line: Mapping[SupplyState, MilliwattHours]  # limit of the purchase by supply state
    feed_in: MilliwattHours  # limit of what the regional grid takes


@dataclass(frozen=True, kw_only=True)
class PlantOrder:
    """The order to the plant for one step, milliwatt-hours."""

    buy: MilliwattHours = 0  # energy to buy from the regional grid, needed now or not
    keep: MilliwattHours = 0  # level of the battery that is kept for the public microgrid


NO_ORDER = PlantOrder()  # the plant buys nothing ahead and keeps nothing


@dataclass(frozen=True, kw_only=True)
class Need:
    """What the microgrids take from and give to the town in one step, milliwatt-hours."""

    wanted: MilliwattHours  # energy that all microgrids take
    public: MilliwattHours  # the part of ``wanted`` that the public microgrid takes
    offered: MilliwattHours  # energy that all microgrids give


@dataclass(frozen=True, kw_only=True)
class PlantStep:
    """The plant's result of one step, milliwatt-hours."""

    level: MilliwattHours  # level of its battery at the end
    charged: MilliwattHours = 0  # charge of its battery, before the loss
    discharged: MilliwattHours = 0  # discharge of its battery
    lost: MilliwattHours = 0  # loss of the charge
    ordered: MilliwattHours = 0  # energy bought because it was ordered
    needed: MilliwattHours = 0  # energy bought because the town had no other
    sold: MilliwattHours = 0  # energy that the regional grid took
    short: MilliwattHours = 0  # energy wanted that there was not
    spilled: MilliwattHours = 0  # energy offered that the town could not use; its microgrids may store a part of it

    @property
    def bought(self) -> MilliwattHours:
        """Energy bought from the regional grid."""
        return self.ordered + self.needed


def plant_of(town: Town, step_s: int = SLOT_S) -> Plant:
    """Return a town's plant for steps of ``step_s`` seconds."""
    table, mean = town.table, town.average_w * 1000 * step_s
    line = {
        SupplyState.NORMAL: table.line_normal,
        SupplyState.LOW: table.line_low,
        SupplyState.CRITICAL: table.line_critical,
    }
    limits = {state: int(mean * factor) // 3600 for state, factor in line.items()} | {SupplyState.EMPTY: 0}
    return Plant(
        capacity=town.battery_capacity,
        power=int(town.battery_capacity * step_s / (table.battery_power_hours * 3600)),
        loss_permille=table.charging_loss_permille,
        line=limits,
        feed_in=limits[SupplyState.NORMAL],
    )


def price_factor(town: Town, time: EpochSeconds) -> float:
    """Return the regional price at a time as a multiple of that outside peak hours (T5)."""
    return town.regional_price_factor(datetime.fromtimestamp(time, ZoneInfo(town.table.timezone)).hour)


def run_plant(
    plant: Plant, level: MilliwattHours, need: Need, order: PlantOrder, supply: SupplyState, *, alive: bool = True
) -> PlantStep:
    """Return the result of one step; while the regional line is not ``alive``, nothing is bought or sold."""
    limit = plant.line[supply] if alive else 0
    ordered = min(order.buy, limit)
    balance = need.offered + ordered - need.wanted
    if balance < 0:
        return _supplied(plant, level, need, ordered, -balance, min(order.keep, plant.capacity), limit)
    charged = min(balance, plant.power, _charge_for(plant.capacity - level, plant.loss_permille))
    lost = charged * plant.loss_permille // 1000
    rest = balance - charged
    cancelled = min(rest, ordered)
    sold = min(rest - cancelled, plant.feed_in if alive else 0)
    return PlantStep(
        level=level + charged - lost,
        charged=charged,
        lost=lost,
        ordered=ordered - cancelled,
        sold=sold,
        spilled=rest - cancelled - sold,
    )


def _supplied(
    plant: Plant,
    level: MilliwattHours,
    need: Need,
    ordered: MilliwattHours,
    missing: MilliwattHours,
    keep: MilliwattHours,
    limit: MilliwattHours,
) -> PlantStep:
    """Return the result of a step in which the town needs more than it has bought and been given."""
    discharged = min(missing, plant.power, max(level - keep, 0))
    missing -= discharged
    needed = min(missing, limit - ordered)
    missing -= needed
    # Public services come first, so they miss only what remains after all others miss everything.
    rescued = min(max(missing - (need.wanted - need.public), 0), plant.power - discharged, level - discharged)
    discharged += rescued
    return PlantStep(
        level=level - discharged, discharged=discharged, ordered=ordered, needed=needed, short=missing - rescued
    )


def _charge_for(gain: MilliwattHours, loss_permille: int) -> MilliwattHours:
    """Return the least charge that raises the level by ``gain``, after its loss."""
    return (gain - 1) * 1000 // (1000 - loss_permille) + 1 if gain > 0 else 0
