"""The town's supply for people and programs: the plant, the purchases with their reasons, the rations."""

import json
from typing import Any

from sqlalchemy import Connection

from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.protocol.plant_messages import PlantReport
from utility.database.database import read_setting, save_setting
from utility.outbox.store.plant import last_report
from utility.supply.buying.situation import Storm
from utility.supply.deciding import plant_lasts_until
from utility.supply.store.plant import purchases
from utility.supply.store.rations import rations

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
        "rations": rations(connection, now),
    }


def _figures(report: PlantReport, now: EpochSeconds) -> dict[str, object]:
    """Return a report's figures for people: the present price, and the time of the next one."""
    told = report.model_dump(mode="json", exclude={"v", "quarters", "prices", "prices_until"})
    until = plant_lasts_until(report)
    told |= {"hours_left": None if until is None else round((until - report.time) / 3600, 1), "lasts_until": until}
    past = [price for time, price in report.prices if time <= now] or [report.prices[0][1]]
    return told | {"price_permille": past[-1], "next_price": next((p for p in report.prices if p[0] > now), None)}
