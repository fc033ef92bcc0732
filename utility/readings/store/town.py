"""The registered town as it was within some quarters: meters, batteries, accounts and weights."""

from typing import Any

from sqlalchemy import Connection, select

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, MicrogridId, Quarter
from commonwatt.town.file import TownTable
from commonwatt.town.town import Battery, Direction, Function, Meter, Microgrid, Town
from utility.readings.store import reads
from utility.registry.store.accounts import load_dated_registry
from utility.registry.tables import controller
from utility.registry.weights import weight_at

_FIGURES = ("name", "timezone", "peak_start_hour", "peak_end_hour", "peak_factor", "charging_loss_permille")
_SAME = ("microgrid", "address", "location", "account", "service_amps")
_MOST = 10**6  # most meters of a town


def stored_town(connection: Connection, first: Quarter, until: Quarter) -> Town:
    """Return the town with its ``stored_microgrids``.

    Raises:
        ConfigError: No town is registered, or it has no meters.
    """
    figures: dict[str, Any] = reads.town(connection)
    microgrids = stored_microgrids(connection, first, until)
    if not figures or not microgrids:
        raise ConfigError("no town with meters is registered")
    table = {name: figures[name] for name in _FIGURES if name in figures}
    table |= {f"{name}_average_w": watts for name, watts in figures["average_w_of"].items()}
    table["battery_hours"] = figures["battery_capacity_mwh"] / (1000 * max(figures["average_w"], 1))
    return Town(table=TownTable.model_validate(table), microgrids=microgrids)


def stored_microgrids(connection: Connection, first: Quarter, until: Quarter) -> dict[MicrogridId, Microgrid]:
    """Return the microgrids by number, with the meters that are there within some quarters.

    Accounts and weights are those of the first quarter; a meter of another maker is at a house.
    """
    registry, meters = load_dated_registry(connection), dict[MicrogridId, list[Meter]]()
    rows: list[dict[str, Any]] = reads.meters(connection, None, 0, _MOST, first * QUARTER_S)
    for row in rows:
        its = registry.meters.get(int(row["id"]))
        if its is None or not range(*its.within(first, until)):
            continue
        account, battery, function = registry.accounts.get(row["account"]), None, Function(row["function"])
        if capacity := row["battery_capacity_mwh"]:
            weight = 1 if account is None else int(weight_at(account, first))
            battery = Battery(capacity=capacity, minimum_percent=row["minimum_percent"] or 0, weight=weight)
        meter = Meter(
            id=its.id,
            function=Function.HOUSE if function in (Function.FOREIGN, Function.ADAPTED) else function,
            direction=Direction(row["direction"]),
            record_types=tuple(map(RecordType, row["record_types"])),
            battery=battery,
            **{name: row[name] for name in _SAME},
        )
        meters.setdefault(meter.microgrid, []).append(meter)
    found = connection.execute(select(controller).order_by(controller.c.number))
    return {row.id: Microgrid(meters=tuple(meters[row.id]), **row._asdict()) for row in found if row.id in meters}
