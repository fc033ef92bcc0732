"""Cards of discovered devices in words: what one measures and shows, how a command ends, who would help whom (pure)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from commonwatt.model.exceptions import ConfigError

Card = Mapping[str, Any]  # of a discovery, as the adapter answers it

ICONS = {"grid": "utility-pole", "sun": "sun", "battery": "battery-charging", "load": "house"}
FLOWS = {"grid": "grid", "sun": "sun", "battery": "battery", "load": "use"}  # the colour of each role
CHIPS = {"grid": "grid", "sun": "sun", "battery": "battery", "load": "one device"}
_MEASURES = {"grid": "grid meter", "sun": "sun", "battery": "battery", "load": "one device"}
# What a number without a preset may be: its words, the unit of a rule.
UNITS = {"wh": ("a counter in Wh", "Wh"), "kwh": ("in kWh", "kWh"), "pulses": ("pulses, 1,000 a kWh", "Wh")}


def roles_of(card: Card) -> list[str]:
    """Return the roles that a person may choose for a card."""
    is_battery = card["role"] == "battery" or card["level_percent"] is not None or card["share"]
    return [role for role in CHIPS if is_battery or role != "battery"]


def measures(card: Card) -> str:
    """Return what a device measures, in which direction, and its total."""
    ways = {(True, True): ", in and out", (True, False): "", (False, True): ", out alone", (False, False): ""}
    what = _MEASURES.get(card["role"], "measures energy")
    if card["role"] in ("grid", "unknown"):
        what += ways[bool(card["incoming"]), bool(card["outgoing"])]
    total = "" if card["total_kwh"] is None else f" · total {card['total_kwh']:,.1f} kWh"
    return f"{what}{total}" + (f" · {card['note']}" if card["note"] else "")


def live(card: Card) -> tuple[str, str]:
    """Return the number of a card that a person recognizes, and the words below it."""
    power, level = card["power_w"], card["level_percent"]
    way = {"sun": "makes", "load": "uses"}.get(card["role"], "takes" if (power or 0) >= 0 else "gives")
    flow = "" if power is None else f"{abs(power) / 1000:,.1f} kW"
    if level is not None:
        return f"{level:.0f} %", f"{way} {flow}" if power else "rests" if power == 0 else "full"
    if power is not None:
        return flow, way
    return ("", "no number yet") if card["total_kwh"] is None else (f"{card['total_kwh']:,.1f}", "kWh in total")


def rises(number: Card) -> tuple[str, str]:
    """Return a number without a preset, and by how much it rises a minute."""
    last, rise = _counted(number)
    return (number["last"], "") if last is None else (f"{last:,.10g}", f"+{rise:,.4g}")


def _counted(number: Card) -> tuple[float, float] | tuple[None, None]:
    try:
        first, last = float(number["first"]), float(number["last"])
    except ValueError:
        return None, None
    return last, 60 * (last - first) / max(1, number["seconds"])


def ends(told: Mapping[str, Any]) -> str:
    """Return how a command ends without us; empty: it does not."""
    dies = "if this computer dies, "
    return {
        "watchdog": f"{dies}the device ends it by itself within {told['ends_s']} s",
        "will": f"{dies}the broker ends it within {told['ends_s']} s; if the broker dies with it, nothing does",
    }.get(told["ends"], "")


def counter_card(number: Card, unit: str) -> dict[str, Any]:
    """Return the card of a number without a preset, of which a person says what it counts.

    Raises:
        ConfigError: There is no such unit.
    """
    if unit not in UNITS:
        raise ConfigError("unit: say what the number counts")
    is_plain, shown = not number["path"], UNITS[unit][1]
    preset = f"counter-{shown.lower()}{'' if is_plain else '-in-json'}"
    rule = {"preset": preset, "topic": "{device}", "kind": "register", "unit": shown}
    rule |= {"format": "plain"} if is_plain else {"path": "{channel}"}
    meter = {"preset": preset, "source": number["topic"], "channel": number["path"] or "0"}
    key, meter = " ".join(meter.values()), meter | ({"at": number["at"]} if number.get("at") else {})
    title = f"{number['topic']} {number['path']}".strip()
    kwh, rise = (None if it is None else it / (1 if shown == "kWh" else 1000) for it in _counted(number))
    watts = None if rise is None else 60_000 * rise
    named = {"key": key, "title": title, "name": title, "role": "unknown", "note": ""}
    values = {"power_w": watts, "level_percent": None, "total_kwh": kwh, "share": None, "reduce": None}
    return {**named, **values, "incoming": ["register", "through"], "outgoing": [], "meter": meter, "rules": [rule]}


def lacks(roles: Iterable[str]) -> str:
    """Return what a home lacks, from the roles of its devices."""
    found = set(roles)
    if not found:
        return "empty"
    return "complete" if "grid" in found else "no grid meter yet: its use is not known"


def battery_words(capacity_wh: int | None, told: Iterable[str], card: Card | None) -> str:
    """Return a placed battery in words; ``card``: of the newest discovery, ``None``: it is not there."""
    size = "" if capacity_wh is None else f" {capacity_wh / 1000:,.4g} kWh"
    if "share" in told:
        return f"battery{size}, shares"
    share = None if card is None else card["share"]
    return f"battery{size}, does not share" + (": nothing ends it if we die" if share and not ends(share) else "")


def helping(batteries: Iterable[tuple[str, float | None, int, bool]]) -> Iterator[tuple[str, str]]:
    """Yield who would help whom: a sign's state and a sentence each.

    Args:
        batteries: Home, level and minimum in percent, and whether the battery may give.
    """
    for home, level, minimum, may_give in batteries:
        if level is None:
            yield "idle", f"{home}: its battery's level is not known yet."
        elif level < minimum:
            yield "warning", f"{home} receives: its battery is at {level:.0f} %, below its minimum of {minimum} %."
        elif not may_give:
            yield "idle", f"{home} gives nothing: its battery is at {level:.0f} %, and may not be told to give."
        elif level > minimum:
            yield "good", f"{home} gives: its battery is at {level:.0f} %, above its minimum of {minimum} %."
        else:
            yield "idle", f"{home} neither gives nor receives: its battery is at its minimum of {minimum} %."
