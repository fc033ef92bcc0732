"""Cards of discovered devices in words: what one measures and shows, how a command ends, who would help whom (pure)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.commands import ForeignDevice, Kind, Stage

Card = Mapping[str, Any]  # of a discovery, as the adapter answers it
PlacedDevice = Any  # of a ``SiteDraft``, which reads files: a rule imports none of it

ICONS = {"grid": "utility-pole", "sun": "sun", "battery": "battery-charging", "load": "house"}
FLOWS = {"grid": "grid", "sun": "sun", "battery": "battery", "load": "use"}  # the colour of each role
CHIPS = {"grid": "grid", "sun": "sun", "battery": "battery", "load": "one device"}
_MEASURES = {"grid": "grid meter", "sun": "sun", "battery": "battery", "load": "one device"}
OLD_S, LOST_S = 120, 600  # seconds from which a number's age is said, and from which a level is none
_STAGES = {
    Stage.ASKED: ("idle", "is told to give, and has not shown yet that it obeys"),
    Stage.OBEYS: ("good", "is told to give, and obeys"),
    Stage.UNCONFIRMED: ("idle", "is told to give, and can't show whether it obeys"),
    Stage.DISOBEYS: ("bad", "is told to give, and does not obey"),
}
# What a number without a preset may be: its words, the unit of a rule.
UNITS = {"wh": ("a counter in Wh", "Wh"), "kwh": ("in kWh", "kWh"), "pulses": ("pulses, 1,000 a kWh", "Wh")}


def roles_of(card: Card) -> list[str]:
    """Return the roles that a person may choose for a card."""
    is_battery = card["role"] == "battery" or card["level_percent"] is not None or card["share"]
    return [role for role in CHIPS if is_battery or role != "battery"]


def name_of(card: Card) -> str:
    """Return what a device is called: its maker, and its own name unless that says it already."""
    name, title = card["name"], card["title"]
    return title if name in ("", title, *title.split()) else f"{title} “{name}”"


def fitting(one: PlacedDevice, found: Iterable[Card]) -> list[Card]:
    """Return the devices that may take the place of one."""
    is_battery, both = one.role == "battery", one.role == "grid" and len(one.meters) > 1
    fits = [card for card in found if (one.role in roles_of(card) if is_battery else card["role"] != "battery")]
    return [card for card in fits if not both or (card["incoming"] and card["outgoing"])]


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
    power, level, age_s = card["power_w"], card["level_percent"], card["age_s"] or 0
    old = f"{age_s // 60} min ago" if age_s > OLD_S else ""
    way = {"sun": "makes", "load": "uses"}.get(card["role"], "takes" if (power or 0) >= 0 else "gives")
    flow = "" if power is None else f"{abs(power) / 1000:,.1f} kW"
    if level is not None:
        return f"{level:.0f} %", old or (f"{way} {flow}" if power else "rests" if power == 0 else "its level")
    if power is not None:
        return flow, old or way
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
    named = {"key": key, "title": title, "name": title, "role": "unknown", "note": "", "age_s": 0}
    values = {"power_w": watts, "level_percent": None, "total_kwh": kwh, "share": None, "reduce": None}
    return {**named, **values, "incoming": ["register", "through"], "outgoing": [], "meter": meter, "rules": [rule]}


def lacks(roles: Iterable[str]) -> str:
    """Return what a home lacks, from the roles of its devices."""
    found = set(roles)
    if not found:
        return "empty"
    return "complete" if "grid" in found else "no grid meter yet: its use is not known"


def called(one: PlacedDevice, card: Card | None, *, is_sharing: bool) -> str:
    """Return a placed device in a home in words; ``card``: of the newest discovery, ``None``: it is not there."""
    if one.role != "battery":
        return one.title if one.role == "load" else CHIPS[one.role]
    size = "" if one.capacity_wh is None else f" {one.capacity_wh / 1000:,.4g} kWh"
    if "share" in one.told:
        return f"battery{size}, {'shares' if is_sharing else 'may share'}"
    share = None if card is None else card["share"]
    return f"battery{size}, does not share" + (": nothing ends it if we die" if share and not ends(share) else "")


def helping(
    placed: Iterable[PlacedDevice], by_key: Mapping[str, Card], told: Mapping[int, ForeignDevice] | None
) -> Iterator[tuple[str, str]]:
    """Yield who helps whom: a sign's state and a sentence each.

    Args:
        placed: The placed devices.
        by_key: The cards of the newest discovery.
        told: What the gateway said last of the devices, by our meters; ``None``: sharing is off, so who would.
    """
    batteries = [one for one in placed if one.role == "battery"]
    homes = Counter(one.home for one in batteries)
    for one in batteries:
        who, least, card = one.home, one.minimum_percent or 0, by_key.get(one.key) or {}
        if homes[who] > 1:
            who += f", {one.title}"
        level, power, age_s = card.get("level_percent"), card.get("power_w") or 0, card.get("age_s") or 0
        at = f"at {level or 0:.0f} %" + (f" ({age_s // 60} min ago)" if age_s > OLD_S else "")
        states = [told[meter].states.get(Kind.SHARING) for meter in one.meters if meter in told] if told else []
        state, does = _STAGES.get(next((each.stage for each in states if each), Stage.OFF), ("", ""))
        if level is None or age_s > LOST_S:
            yield "idle", f"{who}: its battery's level is not known yet."
        elif level < least:
            yield "warning", f"{who} receives: its battery is {at}, below its minimum of {least} %."
        elif "share" not in one.told:
            yield "idle", f"{who} gives nothing: its battery is {at}, and may not be told to give."
        elif does:
            gives = f" and gives {-power / 1000:,.1f} kW" if power < 0 else ""
            yield state, f"{who} {does}: its battery is {at}{gives}."
        elif level > least:
            verb = "gives" if told is None else "may give"
            yield "good", f"{who} {verb}: its battery is {at}, above its minimum of {least} %."
        else:
            yield "idle", f"{who} neither gives nor receives: its battery is at its minimum of {least} %."
