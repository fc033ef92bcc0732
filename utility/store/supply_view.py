"""The town's supply for people and programs: the plant, the purchases with their reasons, the rations."""

from typing import Any

from sqlalchemy import Connection

from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.protocol.plant_messages import PlantReport
from utility.store.database import read_setting
from utility.store.plant import last_report, purchases
from utility.store.rations import rations

WORDS = "supply"
"""Setting with the reason why the present quarter-hour has no purchase; empty: it has one, or none was looked for."""


def supply_view(connection: Connection, now: EpochSeconds, limit: int) -> dict[str, Any]:
    """Return the present supply, and the newest purchases.

    Args:
        connection: The database.
        now: The time.
        limit: How many purchases at most.
    """
    seen = last_report(connection)
    newest = purchases(connection, limit)
    is_bought = bool(newest) and newest[0]["quarter"] == now // QUARTER_S
    return {
        "time": now,
        "plant": None if seen is None else {"age_s": now - seen[0], **_figures(seen[1], now)},
        "no_purchase": None if is_bought else (read_setting(connection, WORDS) or "not looked at yet"),
        "purchases": [{"start": int(row["quarter"]) * QUARTER_S, **row} for row in newest],
        "rations": rations(connection, now),
    }


def _figures(report: PlantReport, now: EpochSeconds) -> dict[str, object]:
    """Return a report's figures for people: the present price, and the time of the next one."""
    told = report.model_dump(mode="json", exclude={"v", "quarters", "prices", "prices_until"})
    past = [price for time, price in report.prices if time <= now] or [report.prices[0][1]]
    return told | {"price_permille": past[-1], "next_price": next((p for p in report.prices if p[0] > now), None)}
