"""The present state of each meter, for the status page."""

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from commonwatt.energy.strategies import BAND_PERMILLE
from commonwatt.look.sharing_words import UNCONFIRMED, UNSEEN, BatteryWords, RoleReason, reason_of_code, summary_of
from commonwatt.model.records import State
from commonwatt.model.time import Now
from commonwatt.model.units import EpochSeconds, MeterId
from commonwatt.protocol.commands import Kind, Stage
from commonwatt.town.registry import RegisteredMeter
from gateway.control.manager import Manager

METER_SILENT_S = 300
"""Seconds without a message after which a meter is shown as silent; at least three periods of collecting or puts."""


def meters_view(meters: Collection[MeterId], manager: Manager, now: EpochSeconds, collect_s: int) -> dict[str, object]:
    """Return the counts of meters, the silent ones, and those that another manager commands, as JSON.

    ``silent`` has the time of a silent meter's last message, ``None``: none since the gateway's start.

    Args:
        meters: The meters that are installed.
        collect_s: Seconds between two requests for the records of a meter that does not send them by itself.
    """
    longest_s = max(METER_SILENT_S, 3 * max(collect_s, manager.put_s))
    # A deposed manager commands none of them.
    fenced = manager.epochs.fenced if manager.epochs.commands else {}
    views = {meter: manager.meters[meter] for meter in meters}
    return {
        "registered": len(views),
        "answered": sum(view.answered for view in views.values()),
        "silent": {
            str(meter): view.heard
            for meter, view in views.items()
            if view.heard is None or now - view.heard > longest_s
        },
        "fenced": {str(meter): list(epoch) for meter, epoch in fenced.items()},
    }


def meter_states(meters: Mapping[MeterId, RegisteredMeter], manager: Manager, now: Now) -> dict[str, object]:
    """Return the state of each of some registered meters, by its id, as JSON.

    ``heard`` is the time of its last message since the gateway started, 0 for none.
    """
    return {str(meter): _state(meter, registered, manager, now) for meter, registered in meters.items()}


def _state(meter: MeterId, registered: RegisteredMeter, manager: Manager, now: Now) -> dict[str, object]:
    view = manager.meters[meter]
    return {
        "place": registered.location,
        "function": registered.function.value,
        "direction": registered.direction.value,
        "battery": registered.battery_capacity_mwh is not None,
        "shares": registered.shares,
        "heard": view.heard or 0,
        "answered": view.answered,
        "device": None if view.device is None else view.device.model_dump(exclude_none=True),
        "states": [str(state.name).lower() for state in State if view.bits & state],
        "told_to_share": manager.holds(meter, Kind.SHARING, now),
    }


def batteries_view(meters: Mapping[MeterId, RegisteredMeter], manager: Manager, now: Now) -> dict[str, dict[str, Any]]:
    """Return each battery with its role and the reason, as JSON; without its level where that is not known."""
    known, codes = manager.batteries(now), sharing_codes(manager, meters, now)
    return {
        str(meter): (asdict(known[meter]) if meter in known else {}) | asdict(reason_of_code(code, BAND_PERMILLE))
        for meter, code in codes.items()
        if meter in meters
    }


def sharing_words(batteries: Mapping[str, Mapping[str, Any]], places: Mapping[str, str]) -> str:
    """Return in a sentence or two which of the batteries of ``batteries_view`` share, and why."""
    keys = {"role", "why", "level", "minimum", "capacity"}
    found = [
        BatteryWords(meter=meter, place=places[meter], **{key: battery[key] for key in keys & battery.keys()})
        for meter, battery in batteries.items()
    ]
    return summary_of(sorted(found, key=lambda battery: _by_number(battery.place)))


def _by_number(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts ``house 2`` before ``house 10``."""
    parts = [part.lstrip("0") if part.isdecimal() else part for part in re.split("([0-9]+)", name)]
    return [(len(part) if part.isdecimal() else 0, part) for part in parts]


def sharing_codes(manager: Manager, registry: Mapping[MeterId, RegisteredMeter], now: Now) -> dict[MeterId, str]:
    """Return the code of why each battery shares or not: by the strategy, or since it can't take part."""
    known = manager.reasons(now)
    batteries = [meter for meter, one in registry.items() if one.battery_capacity_mwh is not None]
    found = {meter: known.get(meter) or _unknown(manager, meter) for meter in (*batteries, *known)}
    return {
        meter: (refined := _refined(manager, meter, why)).value + _unconfirmed(manager, meter, refined, now)
        for meter, why in found.items()
    }


def _unknown(manager: Manager, meter: MeterId) -> RoleReason:
    """Return why the level or the minimum of a battery is not known."""
    if meter in manager.epochs.fenced:
        return RoleReason.FENCED
    view = manager.meters[meter]
    if not view.answered:
        return RoleReason.NO_ANSWER
    return RoleReason.NO_LEVEL if view.level is None else RoleReason.NO_MINIMUM


def _unconfirmed(manager: Manager, meter: MeterId, why: RoleReason, now: Now) -> str:
    """Return what follows the code of a battery that gives, if its meter or its device has not confirmed that."""
    if why not in (RoleReason.HELPS, RoleReason.READY):
        return ""
    sharing, foreign = manager.desired(meter, Kind.SHARING), manager.meters[meter].device
    device = foreign.states.get(Kind.SHARING) if foreign else None
    if device is not None and device.stage is Stage.UNCONFIRMED:
        return UNSEEN
    confirmed = sharing is not None and manager.holds(meter, Kind.SHARING, now) and sharing.confirmed
    return "" if confirmed and (device is None or device.stage is Stage.OBEYS) else UNCONFIRMED


def _refined(manager: Manager, meter: MeterId, why: RoleReason) -> RoleReason:
    """Return why a battery can't take part, or does not begin to share, as far as is known of it."""
    if why in (RoleReason.HELPS, RoleReason.READY) and manager.waits and manager.desired(meter, Kind.SHARING) is None:
        return RoleReason.WAITS_BOUNDARY
    if why is not RoleReason.CANT:
        return why
    bits = manager.meters[meter].bits
    if bits & State.ISOLATED:
        return RoleReason.ISOLATED
    return RoleReason.OLD_LEVEL if bits & State.INITIALIZED else RoleReason.SHUT_DOWN
