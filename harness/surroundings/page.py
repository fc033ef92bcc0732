"""A gateway's status as its page gets it, for tests of the page and of the alarms."""

from copy import deepcopy
from dataclasses import asdict
from typing import Any

from commonwatt.look.sharing_words import UNCONFIRMED, RoleReason, reason_of_code
from gateway.control.meter_states import sharing_words
from gateway.control.sharing import BatteryState, decide, reasons

NOW = 1_782_000_000
KWH = 1_000_000

_STATE = {
    "place": "house 1",
    "function": "house",
    "direction": "outgoing",
    "battery": True,
    "shares": True,
    "heard": NOW - 5,
    "answered": True,
    "states": ["initialized"],
    "told_to_share": False,
}
_VIEW: dict[str, Any] = {
    "microgrid": "r001",
    "timezone": "America/New_York",
    "time": NOW,
    "trust": "network",
    "offset_s": 0,
    "time_contested": False,
    "backlog": {"parts": 48, "events": 1, "dead_letters": 0},
    "backlog_age_s": 0,
    "records": {"through": 1200},
    "relayed_slots": 99,
    "aggregation": "none",
    "periods": {"relay_s": 60, "put_s": 60},
    "saves": {},
    "lte": {"level": "ok", "allowance": 2 * 10**9, "used": (4 * 10**8, 10**8), "expected": (10**9, 3 * 10**8)},
    "batteries": {},
    "sharing_words": "",
    "power": None,
    "tuned": [],
    "sharing": "spec",
    "rates": [],
    "witness": {"key": "", "codes": {}, "others": {}, "unreadable": ""},
    "modes": {
        "phase": "connected",
        "reason": "the town's side has voltage",
        "unknown_s": 0,
        "disagreement": None,
        "contradiction": None,
        "limited": None,
        "reducing": None,
        "autonomous": None,
        "shedding": None,
        "holding": None,
    },
    "mode_changes": [],
    "donors": [],
    "receivers": [],
    "last_commands": [],
    "meters": {"registered": 0, "answered": 0, "silent": {}, "fenced": {}},
    "meter_states": {},
    "connected": {"meters": True, "head_end": True},
    "connection_failures": {},
    "store": {
        "refusing": False,
        "quarantined": None,
        "damaged_rows": 0,
        "kept_quarantined": 0,
        "disk_free_bytes": 20 * 10**9,
        "disk_bytes": 32 * 10**9,
    },
    "certificate_left_s": 80 * 86_400,
    "watched_s": 3600,
    "recent": {
        "records": 900,
        "dropped_messages": 0,
        "store_failures": 0,
        "stuck": 0,
        "time_contradictions": 0,
        "faults": 0,
    },
}


def empty() -> dict[str, Any]:
    """Return the status of a gateway without meters, which is well."""
    return deepcopy(_VIEW)


def add_meter(view: dict[str, Any], meter: str, place: str, **state: object) -> None:
    """Add a meter without a battery."""
    view["meter_states"][meter] = {**_STATE, "place": place, "battery": False, **state}
    view["meters"]["registered"] += 1


def add_battery(
    view: dict[str, Any], meter: str, place: str, percent: float, *, available: bool = True, **state: object
) -> None:
    """Add a meter with a battery of 10 kWh and a minimum of 30 %, at this level."""
    add_meter(view, meter, place, **{"battery": True, **state})
    view["batteries"][meter] = {
        "level": int(percent * KWH / 10),
        "capacity": 10 * KWH,
        "minimum": 3 * KWH,
        "available": available,
    }
    decided(view)


def decided(
    view: dict[str, Any], *, strategy: str = "spec", sharing: tuple[str, ...] = (), unconfirmed: tuple[str, ...] = ()
) -> None:
    """Decide about sharing as the gateway does, while the meters ``sharing`` hold the command to share."""
    keys = ("level", "capacity", "minimum", "available")
    states = {
        int(meter): BatteryState(**{key: battery[key] for key in keys}, sharing=meter in sharing)
        for meter, battery in view["batteries"].items()
    }
    decision = decide(states, strategy, 10)
    view["donors"], view["receivers"] = sorted(map(str, decision.donors)), sorted(map(str, decision.receivers))
    for meter, why in reasons(states, strategy, 10).items():
        code = why.value + (UNCONFIRMED if str(meter) in unconfirmed else "")
        view["batteries"][str(meter)] |= asdict(reason_of_code(code, 10))


def add_unknown(view: dict[str, Any], meter: str, place: str, why: RoleReason) -> None:
    """Add a meter with a battery whose level or minimum is not known."""
    add_meter(view, meter, place, battery=True)
    view["batteries"][meter] = asdict(reason_of_code(why.value, 10))


def words(view: dict[str, Any]) -> str:
    """Return in words which batteries share, and why."""
    return sharing_words(view["batteries"], {meter: state["place"] for meter, state in view["meter_states"].items()})
