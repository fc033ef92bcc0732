"""Which batteries of the status share, and why, in words."""

from commonwatt.protocol.sharing_words import ORDER, UNCONFIRMED_WORDS, BatteryWords, Reason, Why, reason_of, summary_of
from gateway.page.words import View, by_number, place_of


def batteries(view: View) -> list[BatteryWords]:
    """Return every battery: those that receive first, then those that give."""
    known: View = view.get("batteries", {})
    states: View = view.get("meter_states", {})
    ids = [*known, *(meter for meter, state in states.items() if state["battery"] and meter not in known)]
    return sorted(
        (_battery(view, meter) for meter in ids), key=lambda each: (ORDER[each.role], by_number(each.place), each.meter)
    )


def summary(view: View) -> str:
    """Return in a sentence or two which batteries share, and why."""
    return summary_of(batteries(view))


def _battery(view: View, meter: str) -> BatteryWords:
    place, found = place_of(view, meter), view.get("batteries", {}).get(meter)
    if found is None:
        reason = reason_of(_unknown(view, meter), 0)
        return BatteryWords(meter=meter, place=place, role=reason.role, why=reason.why)
    reason = _reason(view, meter, found)
    level, minimum, capacity = found["level"], found["minimum"], found["capacity"]
    return BatteryWords(
        meter=meter, place=place, role=reason.role, why=reason.why, level=level, minimum=minimum, capacity=capacity
    )


def _reason(view: View, meter: str, battery: View) -> Reason:
    """Return the role of a battery whose level and minimum are known."""
    state = view.get("meter_states", {}).get(meter, {})
    if not battery["available"] and not battery.get("doubt"):
        return reason_of(_unavailable(state), 0)
    unconfirmed = battery["role"] == "gives" and not state.get("share_confirmed", True)
    return Reason(battery["role"], battery["why"] + (UNCONFIRMED_WORDS if unconfirmed else ""))


def _unavailable(state: View) -> Why:
    if "isolated" in state.get("states", ()):
        return Why.ISOLATED
    return Why.OLD_LEVEL if "initialized" in state.get("states", ("initialized",)) else Why.SHUT_DOWN


def _unknown(view: View, meter: str) -> Why:
    state = view["meter_states"][meter]
    if meter in view["meters"]["fenced"]:
        return Why.FENCED
    if not state["answered"]:
        return Why.NO_ANSWER
    return Why.NO_LEVEL if state["level_is_old"] is None else Why.NO_MINIMUM
