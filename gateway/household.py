"""The household of a gateway: what it publishes of one place for Home Assistant, outwards only. Pure.

The form is Home Assistant's device discovery (2024.11 or later). No entity has a command topic.

The message of the prices of one place: the present ones, and those of the next 24 h by the hour. Pure.
A message has at most ``MOST_BYTES``: times are minutes, and Home Assistant makes of them the list that integrations
read, by the template of the discovery message.

The energy totals of one place, exact to the milliwatt-hour: each slot counts once (docs/adapters.md).
The totals follow the store: parts have ascending numbers, and all parts up to ``Totals.part`` are counted. A new part
adds what it adds to its block, whose parts are joined before and after it, so a repeated put adds nothing. A part
that compaction made holds only counted parts: parts are compacted after the utility has acknowledged them, and the
totals are saved in the same transaction as that acknowledgement.

The household of a gateway: what it publishes of one place, and the totals it stores. Pure.
It reads committed data and the meters' reports to the manager; it decides nothing about meters.
"""

import json
import re
import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.calendar import iso
from commonwatt.model.effects import Effect, Write
from commonwatt.model.records import RecordType, State
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import EpochSeconds, MeterId, MicrogridId, MilliwattHours
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Direction
from gateway.control.meter_view import LEVEL_GOOD_FOR_S, MeterView
from gateway.control.microgrid_states import KeptRates, PriceStretch
from gateway.control.modes import Modes
from gateway.relay.outbox import load
from gateway.store.changes import Change, Part, Setting, Stored

IMPORT_PRICE, CREDIT_PRICE = "import_price", "credit_price"
LISTS = {IMPORT_PRICE: "import_list", CREDIT_PRICE: "credit_list"}  # the list of the message for each price
HOUR_S = 3_600
MOST_BYTES = 1_000  # most bytes of the message; a longer list ends sooner
MOST_NAMES = 8  # most names of tariffs in the message

_ATTRIBUTES = (
    "{% set v = value_json %}{% set n = namespace(rows=[]) %}"
    "{% for price in v.LIST %}{% set n.rows = n.rows + [{"
    "'start': ((v.begin + 60 * v.minutes[loop.index0]) | as_datetime).isoformat(), "
    "'end': ((v.begin + 60 * v.minutes[loop.index]) | as_datetime).isoformat(), "
    "'value': price}] %}{% endfor %}"
    "{{ {'tariff': v.tariff, 'tariffs': v.tariffs, 'period': v.period, 'until': v.until, "
    "'forecast': n.rows} | to_json }}"
)


def price_keys(topic: str, name: str) -> dict[str, str]:
    """Return what a price has in the discovery message and others have not; the list is its ``forecast``."""
    if name not in LISTS:
        return {}
    return {"stat_t": topic, "json_attr_t": topic, "json_attr_tpl": _ATTRIBUTES.replace("LIST", LISTS[name])}


def prices(tariffs: Mapping[str, Sequence[PriceStretch]], chosen: str | None, now: EpochSeconds) -> bytes:
    """Return the message.

    Args:
        tariffs: The present stretch of each tariff, and those after it.
        chosen: The name of the place's tariff; ``None``: the only one there is. Of several none is guessed.
    """
    name = next(iter(tariffs)) if chosen is None and len(tariffs) == 1 else chosen
    stretches = tariffs.get(name or "", ())
    present = next(iter(stretches), None)
    rows = _by_hour(stretches, now - now % HOUR_S)
    while True:
        times = [start for start, _, _ in rows] + [end for _, end, _ in rows[-1:]]
        message = {
            "tariff": None if present is None else name,
            "tariffs": list(tariffs)[:MOST_NAMES] if present is None else [],
            "period": present and present.period,
            IMPORT_PRICE: present and present.import_,
            CREDIT_PRICE: present and present.credit,
            "until": present and iso(present.end),
            "begin": times[0] if times else None,
            "minutes": [(time - times[0]) // 60 for time in times],
            LISTS[IMPORT_PRICE]: [float(stretch.import_) for _, _, stretch in rows],
            LISTS[CREDIT_PRICE]: [float(stretch.credit) for _, _, stretch in rows],
        }
        packed = json.dumps(message, separators=(",", ":")).encode()
        if len(packed) <= MOST_BYTES:
            return packed
        rows.pop()


def _by_hour(
    stretches: Sequence[PriceStretch], begin: EpochSeconds
) -> list[tuple[EpochSeconds, EpochSeconds, PriceStretch]]:
    """Return start, end and prices of each hour from ``begin`` on; an hour in which prices change is divided."""
    rows = []
    for stretch in stretches:
        start = max(begin, stretch.start)
        while start < min(stretch.end, begin + 24 * HOUR_S):
            end = min(stretch.end, start - start % HOUR_S + HOUR_S)
            rows.append((start, end, stretch))
            start = end
    return rows


PARTS_AT_A_TIME = 10_000
"""Parts of all meters searched by one query; and uncounted parts after which the totals are saved."""

ENERGY_IN, ENERGY_OUT, GENERATED = "energy_in", "energy_out", "generated"

Quantities = Mapping[tuple[MeterId, int], str]  # names of totals by meter and record type


def quantities_of(meters: Collection[RegisteredMeter]) -> dict[tuple[MeterId, int], str]:
    """Return which total each record type of each meter counts towards; levels and registers count towards none."""
    through = {Direction.INCOMING: ENERGY_IN, Direction.OUTGOING: ENERGY_OUT}
    counted = {
        (meter.id, kind): GENERATED if kind is RecordType.GENERATION else through[meter.direction]
        for meter in meters
        for kind in meter.record_types
        if kind.is_flow
    }
    return dict(sorted(counted.items(), key=lambda item: item[1]))


@dataclass
class Totals:
    """The energy of a place since its publication was switched on."""

    part: int  # all parts up to this number are counted
    # Milliwatt-hours by name. A sum falls when exact slots replace higher averages, or in a conflict.
    sums: Counter[str] = field(default_factory=Counter)
    # The highest each sum has been, which is what is published: a total that falls would be a reset.
    highest: Counter[str] = field(default_factory=Counter)

    def count(self, store: Stored, quantities: Quantities) -> None:
        """Count all parts that were committed since."""
        newest = store.newest_part()
        meters = {meter for meter, _ in quantities}
        while self.part < newest:
            up_to = min(newest, self.part + PARTS_AT_A_TIME)
            keys = [key for key in store.new_keys(self.part, up_to, meters) if key[:2] in quantities]
            if keys:
                parts = [part for part in store.block_parts(keys) if part.joined or part.id <= up_to]
                counted = [part for part in parts if part.joined or part.id <= self.part]
                self.sums.update(_sums(parts, quantities))
                self.sums.subtract(_sums(counted, quantities))
                self.highest |= self.sums
            self.part = up_to


def _sums(parts: Collection[Part], quantities: Quantities) -> Counter[str]:
    """Return the milliwatt-hours in the blocks that the parts are of, by name."""
    blocks = load(parts)
    sums: Counter[str] = Counter()
    for (meter, kind, _), energy in zip(blocks.keys(), blocks.values.sum(axis=1).tolist(), strict=True):
        sums[quantities[meter, kind]] += energy
    return sums


class Keeper:
    """Counts the totals of a place, and decides when they are saved."""

    def __init__(self, store: Stored, place: str) -> None:
        self._store = store
        self._key = f"household {place}"
        kept = json.loads(store.setting(self._key) or "{}")
        # The totals.
        self.totals = Totals(
            # The store may have been recovered without its last parts.
            part=min(kept.get("part", store.newest_part()), store.newest_part()),
            sums=Counter(kept.get("sums", {})),
            highest=Counter(kept.get("highest", {})),
        )
        self._saved: Totals | None = None
        if kept:
            self._save()

    def count(self, quantities: Quantities) -> dict[str, MilliwattHours]:
        """Count what was committed since; return the totals by name."""
        self.totals.count(self._store, quantities)
        return {name: self.totals.highest[name] for name in quantities.values()}

    def save(self, quantities: Quantities, *, changed: bool) -> list[Setting]:
        """Return the totals to store: at the start, after many parts, or, if ``changed``, when a sum has changed."""
        self.totals.count(self._store, quantities)
        saved = self._saved
        many = saved is None or self.totals.part - saved.part >= PARTS_AT_A_TIME
        if saved is not None and not many and not (changed and saved.sums != self.totals.sums):
            return []
        self._save()
        kept = {"part": self.totals.part, "sums": self.totals.sums, "highest": self.totals.highest}
        return [Setting(self._key, json.dumps(kept, separators=(",", ":")))]

    def _save(self) -> None:
        self._saved = Totals(self.totals.part, Counter(self.totals.sums), Counter(self.totals.highest))


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


def topics_of(microgrid: MicrogridId, place: str) -> Topics:
    """Return the topics of a place; a name that can't stand in a topic as it is gets a checksum."""
    words = re.findall(r"[a-z0-9]+", place.lower())
    if " ".join(words) != place:
        words.append(f"{zlib.crc32(place.encode()):08x}")
    name = "_".join(("commonwatt", microgrid, *words))
    ours = f"commonwatt/{name}"
    return Topics(
        id=name,
        discovery=f"homeassistant/device/{name}/config",
        state=f"{ours}/state",
        prices=f"{ours}/prices",
        availability=f"{ours}/availability",
        status="homeassistant/status",
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
class TownRequests:
    """What the town asks of the place, and how the microgrid is."""

    use_less: bool | None = None  # whether the utility asks for less load; ``None``: not known
    use_less_until: EpochSeconds | None = None  # the end of that; ``None``: it does not ask
    island: bool | None = None  # whether the microgrid is an island; ``None``: not known


def state(totals: Mapping[str, MilliwattHours], batteries: BatteryLevel | None, town: TownRequests) -> bytes:
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


class Household:
    """The place that a gateway publishes; without ``[gateway.household]`` it does nothing.

    Attributes:
        keeper: Counts the energy of the place; ``None``: no place is published.
        meters: The registered meters of the place.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        microgrid: MicrogridId,
        store: Stored,
        registry: dict[MeterId, RegisteredMeter],
        modes: Modes,
        rates: KeptRates,
    ) -> None:
        self._microgrid = microgrid
        # The place is one of the controller's own microgrid.
        self._settings = settings.household if microgrid == settings.microgrid else None
        self._modes, self._manager, self._rates = modes, modes.manager, rates
        self.keeper = None if self._settings is None else Keeper(store, self._settings.place)
        self.register(registry)

    def register(self, registry: dict[MeterId, RegisteredMeter]) -> None:
        """Replace the registry by a changed one."""
        place = None if self._settings is None else self._settings.place
        self.meters = [meter for meter in registry.values() if meter.location == place]
        self._quantities = quantities_of(self.meters)

    def store_totals(self, *, acknowledged: bool) -> list[Effect[Change]]:
        """Count what is committed; store the totals with an acknowledgement of the utility, or when it is time."""
        if self.keeper is None:
            return []
        return [Write(setting) for setting in self.keeper.save(self._quantities, changed=acknowledged)]

    def messages(self, now: Now, version: str) -> dict[str, bytes]:
        """Return the present retained messages, which name ``version``, by topic; empty if the place has no meter."""
        if self._settings is None or self.keeper is None or not self.meters:
            return {}
        place = self._settings.place
        topics = topics_of(self._microgrid, place)
        # At a time that may be wrong there is no price.
        tariffs = self._rates.stretches(now) if now.trust > Trust.NONE else {}
        return {
            topics.discovery: discovery(topics, place, self.meters, version),
            topics.state: state(self.keeper.count(self._quantities), self._batteries(now), self._town(now)),
            topics.prices: prices(tariffs, self._settings.tariff, now),
        }

    def _town(self, now: Now) -> TownRequests:
        """Return what the town asks; another controller knows it while it manages the microgrid."""
        if not self._manager.epochs.commands:
            return TownRequests()
        until = self._modes.states.less_until(now)
        return TownRequests(use_less=until is not None, use_less_until=until, island=self._modes.is_island(now))

    def _batteries(self, now: Now) -> BatteryLevel | None:
        """Return the state of the batteries of the place together; ``None``: it has none."""
        present = (meter for meter in self.meters if not meter.replaced)
        capacities = {m.id: m.battery_capacity_mwh for m in present if m.battery_capacity_mwh is not None}
        if not capacities:
            return None
        views = [self._manager.meters[meter] for meter in capacities]
        good_for_s = max(LEVEL_GOOD_FOR_S, 2 * self._manager.put_s)
        levels = [view.level if now - view.level_heard <= good_for_s else None for view in views]
        known = [level for level in levels if level is not None]
        return BatteryLevel(
            level=sum(known) if len(known) == len(views) else None,
            capacity=sum(capacities.values()),
            sharing=any(view.bits & State.SHARING for view in views)
            if all(_heard(view, now, good_for_s) for view in views)
            else None,
        )


def _heard(view: MeterView, now: Now, good_for_s: int) -> bool:
    """Return whether a meter's state bits are its own, and recent."""
    return view.answered and view.heard is not None and now - view.heard <= good_for_s
