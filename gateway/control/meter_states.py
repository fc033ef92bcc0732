"""The present state of each meter, for the status page."""

from collections.abc import Collection, Mapping
from dataclasses import asdict

from commonwatt.model.ids import MeterId
from commonwatt.model.records import State
from commonwatt.model.time.now import Now
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.sharing_words import reason_of
from commonwatt.town.registry import RegisteredMeter
from gateway.control.manager import Manager

SILENT_S = 300
"""Seconds without a message after which a meter is shown as silent; at least three periods of collecting or puts."""


def meters_view(meters: Collection[MeterId], manager: Manager, now: EpochSeconds, collect_s: int) -> dict[str, object]:
    """Return the counts of meters, the silent ones, and those that another manager commands, as JSON.

    ``silent`` has the time of a silent meter's last message, ``None``: none since the gateway's start.

    Args:
        meters: The meters that are installed.
        collect_s: Seconds between two requests for the records of a meter that does not send them by itself.
    """
    longest_s = max(SILENT_S, 3 * max(collect_s, manager.put_s))
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

    ``heard`` is the time of its last message since the gateway started, 0 for none. ``level_is_old``: its battery's
    level is too old for sharing; ``None`` without a level.
    """
    return {str(meter): _state(meter, registered, manager, now) for meter, registered in meters.items()}


def _state(meter: MeterId, registered: RegisteredMeter, manager: Manager, now: Now) -> dict[str, object]:
    view = manager.meters[meter]
    sharing = manager.desired(meter, Kind.SHARING)
    told = sharing is not None and sharing.value == "on" and (sharing.until or 0) > now
    return {
        "place": registered.location,
        "function": registered.function.value,
        "direction": registered.direction.value,
        "battery": registered.battery_capacity_mwh is not None,
        "shares": registered.shares,
        "heard": view.heard or 0,
        "answered": view.answered,
        "states": [str(state.name).lower() for state in State if view.bits & state],
        "level_is_old": None if view.level is None else manager.level_is_old(view, now),
        "told_to_share": told,
        "share_confirmed": sharing is not None and told and sharing.confirmed,
    }


def batteries_view(meters: Collection[MeterId], manager: Manager, now: Now) -> dict[str, dict[str, object]]:
    """Return the battery of each of some meters with its role and the reason, as JSON."""
    reasons = manager.reasons(now)
    return {
        str(meter): asdict(state) | asdict(reason_of(reasons[meter], manager.band_permille))
        for meter, state in manager.batteries(now).items()
        if meter in meters
    }
