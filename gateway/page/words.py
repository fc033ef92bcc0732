"""Amounts, times, meters and batteries in words, for the page."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from commonwatt.model.words import duration
from commonwatt.protocol.sharing_words import ORDER, BatteryWords, summary_of
from gateway.alarms import View, byte_size

__all__ = ["View", "byte_size"]
LINKS = {"meters": "the meters' broker", "head_end": "the utility"}  # the gateway's connections

_NUMBER = re.compile("([0-9]+)")

STATES = {
    "off_grid": "off the power net",
    "dead_feeder": "no voltage on the town's side",
    "switch_open": "boundary switch open",
    "isolated": "isolated by command",
    "sharing": "sharing",
    "reducing": "reducing its demand",
    "lossless": "aggregating",
    "lossy": "aggregating, averages only",
}
"""A meter's state bits; INITIALIZED is shown by its absence."""


def ago(time: int, now: int) -> str:
    """Return how long ago a time was; 0: never since the start."""
    return f"{duration(now - time)} ago" if time else "nothing since the start"


def clock(time: int, zone: ZoneInfo) -> str:
    """Return a local time with its zone."""
    return datetime.fromtimestamp(time, zone).strftime("%H:%M:%S %Z")


def moment(time: int, zone: ZoneInfo) -> str:
    """Return a local date and time."""
    return datetime.fromtimestamp(time, zone).strftime("%d %b %H:%M:%S")


def day(time: int, zone: ZoneInfo) -> str:
    """Return a local date."""
    return datetime.fromtimestamp(time, zone).strftime("%A, %d %B %Y")


def percent(part: int, whole: int) -> str:
    """Return a share, such as ``63.2 %``."""
    return f"{100 * part / whole:.1f} %" if whole else "0 %"


def kilowatt_hours(mwh: int) -> str:
    """Return milliwatt-hours in kilowatt-hours."""
    return f"{mwh / 1e6:,.2f} kWh"


def by_number(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts ``house 2`` before ``house 10``."""
    parts = [part.lstrip("0") if part.isdecimal() else part for part in _NUMBER.split(name)]
    return [(len(part) if part.isdecimal() else 0, part) for part in parts]


def place_of(view: View, meter: str) -> str:
    """Return the place of a meter; an unregistered meter's id."""
    state = view.get("meter_states", {}).get(meter)
    return str(state["place"]) if state else f"meter {meter}"


def states_of(state: View) -> list[str]:
    """Return a meter's states in words."""
    off = [] if "initialized" in state["states"] else ["shut down"]
    return off + [text for name, text in STATES.items() if name in state["states"]]


def batteries(view: View) -> list[BatteryWords]:
    """Return every battery: those that receive first, then those that give."""
    keys = ("role", "why", "level", "minimum", "capacity")
    found = [
        BatteryWords(meter=meter, place=place_of(view, meter), **{key: battery.get(key) for key in keys})
        for meter, battery in view.get("batteries", {}).items()
    ]
    return sorted(found, key=lambda each: (ORDER[each.role], by_number(each.place), each.meter))


def summary(view: View) -> str:
    """Return in a sentence or two which batteries share, and why."""
    return summary_of(batteries(view))
