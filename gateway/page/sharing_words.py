"""Which batteries share, and why, in words; the reasons are those of ``gateway.control.strategies.words``."""

from collections.abc import Iterator
from dataclasses import dataclass

from commonwatt.model.words import counted
from gateway.control.strategies.words import Role
from gateway.page.words import View, by_number, place_of


@dataclass(frozen=True, kw_only=True)
class BatteryWords:
    """A battery with its role.

    Attributes:
        meter: Its meter's id.
        place: Its place.
        role: Whether it gives, receives, rests, or can't take part (``out``).
        why: The reason, a sentence about the battery.
        level: Its level, milliwatt-hours; ``None``: not known.
        minimum: Its sharing minimum, milliwatt-hours; ``None``: not known.
        capacity: Its capacity, milliwatt-hours; ``None``: not known.
    """

    meter: str
    place: str
    role: Role
    why: str
    level: int | None = None
    minimum: int | None = None
    capacity: int | None = None


ORDER: dict[Role, int] = {"receives": 0, "gives": 1, "out": 2, "rests": 3}


def batteries(view: View) -> list[BatteryWords]:
    """Return every battery: those that receive first, then those that give."""
    known: View = view.get("batteries", {})
    states: View = view.get("meter_states", {})
    ids = [*known, *(meter for meter, state in states.items() if state["battery"] and meter not in known)]
    return sorted(
        (_battery(view, meter) for meter in ids), key=lambda each: (ORDER[each.role], by_number(each.place), each.meter)
    )


def _battery(view: View, meter: str) -> BatteryWords:
    place, found = place_of(view, meter), view.get("batteries", {}).get(meter)
    if found is None:
        return BatteryWords(meter=meter, place=place, role="out", why=_unknown(view, meter))
    role, why = _role(view, meter, found)
    level, minimum, capacity = found["level"], found["minimum"], found["capacity"]
    return BatteryWords(meter=meter, place=place, role=role, why=why, level=level, minimum=minimum, capacity=capacity)


def _unknown(view: View, meter: str) -> str:
    state = view["meter_states"][meter]
    if meter in view["meters"]["fenced"]:
        return "Another manager commands its meter."
    if not state["answered"]:
        return "Its meter has not answered since the gateway started."
    return "Its meter has not reported a level yet." if state["level_is_old"] is None else "Its minimum is not known."


def _role(view: View, meter: str, battery: View) -> tuple[Role, str]:
    """Return the role of a battery whose level and minimum are known."""
    state = view.get("meter_states", {}).get(meter, {})
    if not battery["available"]:
        return "out", battery["why"] if battery.get("doubt") else _unavailable(state)
    unconfirmed = battery["role"] == "gives" and not state.get("share_confirmed", True)
    wait = " Its meter has not confirmed the command yet; it is sent again." if unconfirmed else ""
    return battery["role"], battery["why"] + wait


def _unavailable(state: View) -> str:
    if "isolated" in state.get("states", ()):
        return "Isolated by command."
    if "initialized" not in state.get("states", ("initialized",)):
        return "Its meter is shut down."
    return "Its level is too old."


def summary(view: View) -> str:
    """Return in a sentence or two which batteries share, and why."""
    found = batteries(view)
    if not found:
        return "This microgrid has no battery."
    return " ".join(_sentences(found))


def _sentences(found: list[BatteryWords]) -> Iterator[str]:
    givers, receivers, out = (
        [battery for battery in found if battery.role == role] for role in ("gives", "receives", "out")
    )
    if givers and receivers:
        verb = "shares" if len(givers) == 1 else "share"
        need = "is below its minimum" if len(receivers) == 1 else "are below their minimum"
        yield f"{_named(receivers)} {need}, so {_named(givers)} {verb}."
    elif receivers:
        verb = "is" if len(receivers) == 1 else "are"
        yield f"{_named(receivers)} {verb} below the minimum, but no other battery is far enough above to share."
    elif givers:
        verb = "is" if len(givers) == 1 else "are"
        yield f"{_named(givers)} {verb} ready to share: the utility does not answer."
    elif len(out) == len(found):
        yield "No battery shares, since the level or the minimum of each battery is not known or too old."
    elif any(battery.role == "rests" and (battery.level or 0) < (battery.minimum or 0) for battery in found):
        yield "No battery shares yet: no battery is far enough below its minimum."
    else:
        yield "No battery shares: none is below its minimum."
    if out and len(out) < len(found):
        yield f"{counted(len(out), 'battery').replace('batterys', 'batteries')} can't take part."


def _named(found: list[BatteryWords]) -> str:
    names = [battery.place for battery in found]
    if len(names) > 3:
        return f"{names[0]}, {names[1]} and {len(names) - 2} other batteries"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
