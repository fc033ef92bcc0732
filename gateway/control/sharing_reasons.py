"""Why each battery of a microgrid shares or not: by the strategy, or since it can't take part."""

from collections.abc import Mapping

from commonwatt.model.ids import MeterId
from commonwatt.model.records import State
from commonwatt.model.time.now import Now
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.sharing_words import UNCONFIRMED, Why
from commonwatt.town.registry import RegisteredMeter
from gateway.control.manager import Manager


def sharing_codes(manager: Manager, registry: Mapping[MeterId, RegisteredMeter], now: Now) -> dict[MeterId, str]:
    """Return the code of each battery's reason, for the heartbeat."""
    known = manager.reasons(now)
    batteries = [meter for meter, one in registry.items() if one.battery_capacity_mwh is not None]
    found = {meter: known.get(meter) or _unknown(manager, meter) for meter in (*batteries, *known)}
    return {
        meter: _refined(manager, meter, why).value + (UNCONFIRMED if _is_unconfirmed(manager, meter, why, now) else "")
        for meter, why in found.items()
    }


def _unknown(manager: Manager, meter: MeterId) -> Why:
    """Return why the level or the minimum of a battery is not known."""
    if meter in manager.epochs.fenced:
        return Why.FENCED
    view = manager.meters[meter]
    if not view.answered:
        return Why.NO_ANSWER
    return Why.NO_LEVEL if view.level is None else Why.NO_MINIMUM


def _is_unconfirmed(manager: Manager, meter: MeterId, why: Why, now: Now) -> bool:
    """Return whether a battery gives by a command that its meter has not confirmed."""
    if why not in (Why.HELPS, Why.READY):
        return False
    sharing = manager.desired(meter, Kind.SHARING)
    return sharing is None or not manager.holds(meter, Kind.SHARING, now) or not sharing.confirmed


def _refined(manager: Manager, meter: MeterId, why: Why) -> Why:
    """Return why a battery can't take part, as far as its meter's state tells."""
    if why is not Why.CANT:
        return why
    bits = manager.meters[meter].bits
    if bits & State.ISOLATED:
        return Why.ISOLATED
    return Why.OLD_LEVEL if bits & State.INITIALIZED else Why.SHUT_DOWN
