"""Which batteries of the status share, and why, in words."""

from commonwatt.protocol.sharing_words import ORDER, BatteryWords, summary_of
from gateway.page.words import View, by_number, place_of


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
