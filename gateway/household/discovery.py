"""The messages to Home Assistant about a place: its device and entities by MQTT discovery, and their state. Pure.

The form is Home Assistant's device discovery (2024.11 or later). No entity has a command topic.
"""

import json
import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from commonwatt.model.time.times import iso
from commonwatt.model.units import EpochSeconds, MicrogridId, MilliwattHours
from commonwatt.town.registry import RegisteredMeter
from gateway.household.prices import CREDIT_PRICE, IMPORT_PRICE, price_keys
from gateway.household.totals import ENERGY_IN, ENERGY_OUT, GENERATED, quantities_of

ONLINE, OFFLINE = b"online", b"offline"  # payloads of the availability topic, and Home Assistant's own of its start

LEVEL, LEVEL_PERCENT, SHARING = "level", "level_percent", "sharing"
USE_LESS, USE_LESS_UNTIL, ISLAND = "use_less", "use_less_until", "island"

_TOTAL = ("sensor", "energy", "total_increasing", "kWh")
_PRICE = ("sensor", None, "measurement", "USD/kWh")
_KEYS = ("name", "p", "dev_cla", "stat_cla", "unit_of_meas")
_ALWAYS = (IMPORT_PRICE, CREDIT_PRICE, USE_LESS, USE_LESS_UNTIL, ISLAND)  # entities of every place
_ENTITIES: dict[str, tuple[str | None, ...]] = {
    ENERGY_IN: ("Energy in", *_TOTAL),
    ENERGY_OUT: ("Energy out", *_TOTAL),
    GENERATED: ("Energy generated", *_TOTAL),
    LEVEL: ("Battery energy", "sensor", "energy_storage", "measurement", "Wh"),
    LEVEL_PERCENT: ("Battery level", "sensor", "battery", "measurement", "%"),
    SHARING: ("Sharing", "binary_sensor"),
    IMPORT_PRICE: ("Price of import", *_PRICE),
    CREDIT_PRICE: ("Price of credit", *_PRICE),
    USE_LESS: ("Use less", "binary_sensor"),
    USE_LESS_UNTIL: ("Use less until", "sensor", "timestamp"),
    ISLAND: ("Island", "binary_sensor"),
}
"""What the discovery message says of each entity, by ``_KEYS``; ``None``: nothing."""


class Topics(NamedTuple):
    """The topics of a place at the household's broker, all retained."""

    id: str  # the place's name in topics and unique ids: it stays while the microgrid and the place keep their names
    discovery: str  # of the device and its entities
    state: str  # of all values, as JSON
    prices: str  # of the prices, as JSON
    availability: str  # of the gateway's availability, ``online`` or ``offline``
    status: str  # Home Assistant's own, on which it reports its start


def topics_of(microgrid: MicrogridId, place: str, prefix: str) -> Topics:
    """Return the topics of a place; a name that can't stand in a topic as it is gets a checksum."""
    words = re.findall(r"[a-z0-9]+", place.lower())
    if " ".join(words) != place:
        words.append(f"{zlib.crc32(place.encode()):08x}")
    name = "_".join(("commonwatt", microgrid, *words))
    ours = f"commonwatt/{name}"
    return Topics(
        id=name,
        discovery=f"{prefix}/device/{name}/config",
        state=f"{ours}/state",
        prices=f"{ours}/prices",
        availability=f"{ours}/availability",
        status=f"{prefix}/status",
    )


def discovery(topics: Topics, place: str, meters: Collection[RegisteredMeter], version: str) -> bytes:
    """Return the payload of the discovery topic, with the entities that the meters of the place allow."""
    names = {*_ALWAYS, *quantities_of(meters).values()}
    if any(meter.battery_capacity_mwh is not None for meter in meters):
        names |= {LEVEL, LEVEL_PERCENT, SHARING}
    payload = {
        "dev": {"ids": [topics.id], "name": place, "mf": "Commonwatt", "mdl": "Energy of a place", "sw": version},
        "o": {"name": "commonwatt", "sw": version},
        "cmps": {
            name: {key: said for key, said in zip(_KEYS, entity, strict=False) if said}
            | {"uniq_id": f"{topics.id}_{name}", "val_tpl": f"{{{{ value_json.{name} }}}}"}
            | price_keys(topics.prices, name)
            for name, entity in _ENTITIES.items()
            if name in names
        },
        "avty": [{"t": topics.availability}],
        "stat_t": topics.state,
        "qos": 1,
    }
    return json.dumps(payload).encode()


@dataclass(frozen=True, kw_only=True)
class BatteryLevel:
    """The present state of the batteries of a place together."""

    level: MilliwattHours | None  # their energy, milliwatt-hours; ``None``: not known now
    capacity: MilliwattHours  # their capacity, milliwatt-hours
    sharing: bool | None  # whether one of them shares by command; ``None``: not known now


@dataclass(frozen=True, kw_only=True)
class Town:
    """What the town asks of the place, and how the microgrid is."""

    use_less: bool | None = None  # whether the utility asks for less load; ``None``: not known
    use_less_until: EpochSeconds | None = None  # the end of that; ``None``: it does not ask
    island: bool | None = None  # whether the microgrid is an island; ``None``: not known


def state(totals: Mapping[str, MilliwattHours], batteries: BatteryLevel | None, town: Town) -> bytes:
    """Return the payload of the state topic; numbers are decimal text, exact; null is unknown."""
    values: dict[str, object] = {name: _decimal(energy, 6) for name, energy in totals.items()}
    values[USE_LESS], values[ISLAND] = _switch(town.use_less), _switch(town.island)
    values[USE_LESS_UNTIL] = None if town.use_less_until is None else iso(town.use_less_until)
    if batteries is not None:
        level = batteries.level
        values[LEVEL] = None if level is None else _decimal(level, 3)
        values[LEVEL_PERCENT] = None if level is None else _decimal(1000 * level // batteries.capacity, 1)
        values[SHARING] = _switch(batteries.sharing)
    return json.dumps(values).encode()


def _switch(is_on: bool | None) -> str | None:
    return None if is_on is None else "ON" if is_on else "OFF"


def _decimal(number: int, digits: int) -> str:
    """Return a number of ``10 ** -digits`` as decimal text."""
    whole, part = divmod(abs(number), 10**digits)
    return f"{'-' if number < 0 else ''}{whole}.{part:0{digits}}"
