"""A street before its setup, and what a controller's adapter discovers there, as the utility gets it."""

import json
from secrets import token_hex
from typing import Any

from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.reports import compressed, report_of
from utility.database.database import Database
from utility.outbox.tables import controller_report

SITE = """
[site]
utility = "127.0.0.1"

[town]
name = "My street"
timezone = "Europe/Berlin"

[[microgrid]]
id = "street"
kind = "residential"
houses = 0
boundary = false

[microgrid.adapter]
http = "127.0.0.1:9102"
"""
_FLOW = ["register", "through"]


def solo(preset: str, source: str, channel: str = "0", **facts: Any) -> dict[str, Any]:
    """Return the card of a device."""
    bare: dict[str, Any] = {
        "key": f"{preset} {source} {channel}",
        "title": preset.title(),
        "name": source,
        "role": "unknown",
    }
    bare |= {"power_w": None, "level_percent": None, "total_kwh": None, "age_s": 3, "note": ""}
    bare |= {"incoming": _FLOW, "outgoing": [], "share": None, "reduce": None, "rules": []}
    return bare | {"meter": {"preset": preset, "source": source, "channel": channel}} | facts


def grid(source: str) -> dict[str, Any]:
    """Return the card of a grid meter of both directions."""
    return solo("dsmr", source, title="DSMR", role="grid", outgoing=_FLOW, power_w=400.0, total_kwh=8412.6)


BATTERY = solo(
    "victron", "c0619ab0/battery/512", "276", title="Victron GX", role="battery", level_percent=64.0, power_w=-800.0,
    outgoing=_FLOW, share={"topic": "W/c0619ab0/vebus/276/Hub4/L1/AcPowerSetpoint", "ends": "watchdog", "ends_s": 60},
)  # fmt: skip
SUN = solo("tasmota", "roof", role="sun", power_w=1900.0, note="Its total begins again, so its power counts.")
PLUG = solo(
    "tasmota", "washer", role="load", power_w=230.0, total_kwh=122.5,
    reduce={"topic": "cmnd/washer/Power", "ends": "will", "ends_s": 45},
)  # fmt: skip
DISCOVERY: dict[str, Any] = {
    "sources": [{"name": "", "address": "192.168.1.20:1883", "connected": True, "complaint": ""}],
    "cards": [BATTERY, grid("p1"), SUN, PLUG, solo("tasmota", "barn")],
    "unknown": [
        {"key": "garage/counter/total ", "topic": "garage/counter/total", "path": "", "first": "1204331",
         "last": "1204343", "seconds": 60},
        {"key": "pump hours", "topic": "pump", "path": "hours", "first": "12.5", "last": "12.6", "seconds": 300},
    ],
    "left_out": 0,
    "fault": "",
}  # fmt: skip


def put(database: Database, found: dict[str, Any], now: EpochSeconds) -> None:
    """Store what a street's controller discovered, as if it had answered."""
    text = report_of(compressed(json.dumps(found)))
    row = {"command": f"discover-{token_hex(8)}", "controller": "street", "time": now, "text": text}
    with database.writes.begin() as connection:
        connection.execute(controller_report.delete())
        connection.execute(controller_report.insert(), row)
