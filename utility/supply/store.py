"""SQL of the supply: reports of the plant, purchases, rations, and the supply for people and programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select

from commonwatt.model.control import SupplyState
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS, EpochSeconds, MicrogridId, MilliwattHours, Quarter
from commonwatt.protocol.controller_commands import Action
from commonwatt.protocol.plant_messages import PlantCommand, PlantQuarter, PlantReport
from commonwatt.town.town import Direction, Function, TownTable, average_w
from utility.database.database import insert_or, read_setting, save_setting
from utility.database.town_zone import TOWN
from utility.outbox.store import Wanted, last_report, tell, told_of
from utility.outbox.tables import command, plant_quarter, purchase
from utility.readings.tables import compacted
from utility.registry.store.statements import meters_of
from utility.registry.tables import controller, installed, meter
from utility.supply.buying import Storm
from utility.supply.deciding import plant_lasts_until
from utility.supply.rationing import EMERGENCY, RATION_S, Priority, Ration, RationedMicrogrid, ToldRation, is_short


@dataclass(frozen=True, kw_only=True)
class NewPurchase:
    """A purchase to store."""

    command: PlantCommand  # the command to the plant
    energy: MilliwattHours  # the energy, milliwatt-hours
    price: int  # the price in its quarter, thousandths of the price outside peak hours
    policy: str  # the name of the policy that planned it
    reason: str  # why, in words
    inputs: dict[str, object]  # the facts it was planned from, for people


def quarters_between(connection: Connection, first: Quarter, last: Quarter) -> list[PlantQuarter]:
    """Return what the plant measured in the finished quarters ``first`` to ``last``, oldest first."""
    c = plant_quarter.c
    rows = connection.execute(select(plant_quarter).where(c.quarter.between(first, last)).order_by(c.quarter))
    return [PlantQuarter(**row) for row in rows.mappings()]


def add_purchase(connection: Connection, new: NewPurchase, created: EpochSeconds) -> bool:
    """Add the purchase of a quarter; return ``False`` if the quarter has one already."""
    command = new.command
    row = {
        "quarter": command.quarter,
        "id": command.id,
        "energy": new.energy,
        "price": new.price,
        "policy": new.policy,
        "reason": new.reason,
        "inputs": json.dumps(new.inputs),
        "message": command.pack().decode(),
        "created": created,
        "until": command.until,
        "state": "open",
    }
    statement = insert_or(connection, purchase).values(row).on_conflict_do_nothing(index_elements=["quarter"])
    return connection.execute(statement.returning(purchase.c.quarter)).first() is not None


def has_purchase(connection: Connection, quarter: Quarter) -> bool:
    """Return whether a quarter has a purchase."""
    return connection.execute(select(purchase.c.id).where(purchase.c.quarter == quarter)).first() is not None


def asked_until(connection: Connection) -> Quarter | None:
    """Return the quarter up to which the plant was asked for its quarters; ``None``: it has not answered yet."""
    is_done = purchase.c.state == "done"
    newest = select(purchase.c.quarter, purchase.c.outcome).where(is_done).order_by(purchase.c.quarter.desc()).limit(1)
    row = connection.execute(newest).first()
    if row is None:
        return None
    # The core leaves the last row in an outcome that had as many as one can have: the plant may have more.
    left = json.loads(row.outcome or "{}").get("quarters") or [[row.quarter - 1]]
    return int(left[-1][0]) + 1


def purchases(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the newest purchases, newest first, with what the plant bought in their quarters."""
    c, measured = purchase.c, plant_quarter.c
    statement = (
        select(c.quarter, c.id, c.energy, c.price, c.policy, c.reason, c.inputs, c.state, c.outcome)
        .add_columns(measured.ordered, measured.needed)
        .join_from(purchase, plant_quarter, c.quarter == measured.quarter, isouter=True)
        .order_by(c.quarter.desc())
        .limit(limit)
    )
    return [_shown(dict(row)) for row in connection.execute(statement).mappings()]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    for column in ("inputs", "outcome"):
        row[column] = None if row[column] is None else json.loads(str(row[column]))
    return row


def first_lacking(present: Sequence[PlantQuarter], first: Quarter, now: Quarter) -> Quarter | None:
    """Return the first quarter of ``first`` to before ``now`` that is not in ``present``; ``None``: none lacks."""
    known = {row.quarter for row in present}
    return next((quarter for quarter in range(first, now) if quarter not in known), None)


_HOUR_QUARTERS = 4

_RECENT_QUARTERS = 4  # quarters back in which the present demand is looked for: readings are compacted within two
_LIKE_DAYS = 3  # like days that are looked at for the import of the same hour
# Seconds for which commands are kept after their end: they tell in which like hours a microgrid was limited.
_KEPT_S = 21 * 86_400

_OLD_COMMANDS = delete(command).where(
    command.c.state != "open", command.c.until < bindparam("before"), command.c.id.like("supply-%")
)


def loss_permille(connection: Connection) -> int:
    """Return the part of a battery's charge that is lost in the registered town, thousandths."""
    return int(json.loads(read_setting(connection, TOWN) or "{}").get("charging_loss_permille", 0))


def members(
    connection: Connection, quarter: Quarter, like_hours: Sequence[EpochSeconds], limited: frozenset[MicrogridId]
) -> list[RationedMicrogrid]:
    """Return each microgrid as rationing sees it.

    A microgrid asks for what it imported in the last quarter-hour that is known. While it is limited its import shows
    the limit, so it asks for at least its import in the same hour of the last like day. An hour in which it was
    limited, too, is not like: on the second day of a shortage it shows the first day's limit. A microgrid of which no
    recent quarter-hour is known asks for as much.

    Args:
        quarter: The present quarter-hour.
        like_hours: The starts of the same local hour on earlier like days, the last day first.
        limited: The microgrids that have an import limit now.
    """
    recent = _imports(connection, range(quarter - _RECENT_QUARTERS, quarter), least_slots=1)
    usual: dict[MicrogridId, int] = {}
    for start in like_hours[:_LIKE_DAYS]:
        first = start // QUARTER_S
        found = _imports(connection, range(first, first + _HOUR_QUARTERS), least_slots=SLOTS)
        free = found.keys() - _limited_in(connection, start, start + _HOUR_QUARTERS * QUARTER_S)
        # The energy of four quarters, milliwatt-hours, is the mean power of the hour, milliwatts.
        whole = {name: sum(found[name].values()) // 1000 for name in free if len(found[name]) == _HOUR_QUARTERS}
        usual = whole | usual
    result = []
    for member in _registered(connection, quarter):
        name = member.microgrid
        demand_w = recent[name][max(recent[name])] * _HOUR_QUARTERS // 1000 if name in recent else 0
        if name in limited or name not in recent:
            demand_w = max(demand_w, usual.get(name, member.average_w))
        result.append(replace(member, demand_w=max(0, demand_w), like_hour_w=usual.get(name)))
    return result


def _imports(connection: Connection, quarters: range, least_slots: int) -> Mapping[MicrogridId, Mapping[Quarter, int]]:
    """Return what each microgrid took through its boundary in each quarter that is known, milliwatt-hours."""
    # A quarter with at least ``least_slots`` slots counts, with what the whole quarter has at the same mean power.
    c = compacted.c
    slots = c.exact + c.averaged
    statement = (
        select(meter.c.microgrid, c.quarter, c.total, slots.label("slots"))
        .join(meter, meter.c.no == c.meter_no)
        .where(
            c.quarter.between(quarters.start, quarters.stop - 1),
            c.record_type == int(RecordType.THROUGH),
            slots >= least_slots,
            meter.c.function == Function.BOUNDARY.value,
            meter.c.direction == Direction.INCOMING.value,
        )
    )
    found: dict[MicrogridId, dict[Quarter, int]] = {}
    for row in connection.execute(statement):
        found.setdefault(row.microgrid, {})[row.quarter] = row.total * SLOTS // row.slots
    return found


def _limited_in(connection: Connection, start: EpochSeconds, end: EpochSeconds) -> set[MicrogridId]:
    """Return the microgrids that were sent an import limit so late that it may have held in some time."""
    c = command.c
    told = select(c.id).where(
        c.controller == controller.c.id,
        c.created.between(start - RATION_S, end - 1),
        c.limits_import,
    )
    return set(connection.execute(select(controller.c.id).where(told.exists())).scalars())


def _registered(connection: Connection, quarter: Quarter) -> list[RationedMicrogrid]:
    """Return the registered microgrids with their class, customers and average use; removed meters do not count."""
    averages = json.loads(read_setting(connection, TOWN) or "{}").get("average_w_of", {})
    statement = (
        select(controller.c.id, controller.c.kind, meter.c.function, meter.c.direction, func.count().label("number"))
        .join(meter, meter.c.microgrid == controller.c.id)
        .where(meter.c.id.not_in(select(installed.c.meter).where(installed.c.until <= quarter)))
        .group_by(controller.c.id, controller.c.kind, meter.c.function, meter.c.direction)
        .order_by(controller.c.id)
    )
    found: dict[MicrogridId, RationedMicrogrid] = {}
    for row in connection.execute(statement):
        function = Function(row.function)
        known = found.get(row.id) or RationedMicrogrid(
            microgrid=row.id, priority=_KINDS.get(row.kind, Priority.HOUSES), customers=0, average_w=0
        )
        each = int(averages.get(function.value, average_w(TownTable(), function)))
        number = row.number if row.direction == Direction.INCOMING.value and each else 0
        found[row.id] = replace(
            known,
            priority=Priority.PUBLIC if function in EMERGENCY else known.priority,
            customers=known.customers + number,
            average_w=known.average_w + number * each,
        )
    spared = [one for meters in meters_of(connection, quarter).values() for one in meters]
    taking = (meter.c.direction == Direction.INCOMING.value) & meter.c.id.in_(spared)
    for row in connection.execute(select(meter.c.microgrid, meter.c.function).where(taking)):
        each = int(averages.get(row.function, average_w(TownTable(), Function(row.function))))
        found[row.microgrid] = replace(found[row.microgrid], spared_w=found[row.microgrid].spared_w + each)
    return list(found.values())


_KINDS = {"public": Priority.PUBLIC, "apartment": Priority.APARTMENTS, "residential": Priority.HOUSES}


def rations(connection: Connection, now: EpochSeconds) -> dict[MicrogridId, ToldRation]:
    """Return the rations in force, by controller; of controllers that are under none, nothing."""
    supply = "supply"
    return {
        row.controller: ToldRation(
            **row.content | {supply: SupplyState(row.content[supply])}, until=row.time + RATION_S, command=row.command
        )
        for row in told_of(connection, supply)
        if row.time + RATION_S > now and is_short(row.content[supply], row.content["import_limit_w"])
    }


def tell_rations(
    connection: Connection, new: Mapping[MicrogridId, Ration], supply: SupplyState, now: EpochSeconds
) -> None:
    """Tell controllers their rations, in each quarter-hour of a short supply, and the end of it; forget old commands.

    A state that is NORMAL without a limit is told only to end something else: controllers take it as given.
    """
    before = rations(connection, now)
    wanted = [
        Wanted(
            controller=name,
            topic="supply",
            fields={"cmd": Action.SUPPLY, "for_s": RATION_S, **stated},
            content={"quarter": now // QUARTER_S, **stated, "reason": one.reason},
            # Beyond that the next one is sent, or the supply is NORMAL again.
            until=now + RATION_S,
        )
        for name, one in new.items()
        for stated in [{"supply": supply, "import_limit_w": one.import_limit_w}]
        if is_short(supply, one.import_limit_w) or name in before
    ]
    if wanted:
        connection.execute(_OLD_COMMANDS, {"before": now - _KEPT_S})
        tell(connection, wanted, now)


WORDS = "supply"
"""Setting with the reason why the present quarter-hour has no purchase; empty: it has one, or none was looked for."""


STORM = "storm"  # setting with the storm that an operator has announced, JSON: [start, end], epoch seconds


def announced_storm(connection: Connection, now: EpochSeconds) -> Storm | None:
    """Return the announced storm; ``None``: there is none, or it is over."""
    found = read_setting(connection, STORM)
    if not found:
        return None
    start, end = json.loads(found)
    return Storm(start=start, end=end) if now < end else None


def save_storm(connection: Connection, storm: Storm | None) -> None:
    """Store the announced storm in place of an earlier one; ``None``: there is none any more."""
    save_setting(connection, STORM, "" if storm is None else json.dumps([storm.start, storm.end]))


def supply_view(connection: Connection, now: EpochSeconds, limit: int) -> dict[str, Any]:
    """Return the present supply, and the newest purchases.

    Args:
        limit: How many purchases at most.
    """
    seen = last_report(connection)
    newest = purchases(connection, limit)
    storm = announced_storm(connection, now)
    is_bought = bool(newest) and newest[0]["quarter"] == now // QUARTER_S
    return {
        "time": now,
        "plant": None if seen is None else {"age_s": now - seen[0], **_figures(seen[1], now)},
        "storm": None if storm is None else [storm.start, storm.end],
        "no_purchase": None if is_bought else (read_setting(connection, WORDS) or "not looked at yet"),
        "purchases": [{"start": int(row["quarter"]) * QUARTER_S, **row} for row in newest],
        "rations": [{"controller": name, **vars(one)} for name, one in rations(connection, now).items()],
    }


def _figures(report: PlantReport, now: EpochSeconds) -> dict[str, object]:
    """Return a report's figures for people: the present price, and the time of the next one."""
    told = report.model_dump(mode="json", exclude={"v", "quarters", "prices", "prices_until"})
    until = plant_lasts_until(report)
    told |= {"hours_left": None if until is None else round((until - report.time) / 3600, 1), "lasts_until": until}
    past = [price for time, price in report.prices if time <= now] or [report.prices[0][1]]
    return told | {"price_permille": past[-1], "next_price": next((p for p in report.prices if p[0] > now), None)}
