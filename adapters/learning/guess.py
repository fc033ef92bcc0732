"""What a number of a foreign device seems to be, by the words of its topic and path, its unit and its behaviour."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from adapters.energy.spread import EpochMilliseconds
from adapters.mapping.payloads import JsonPayload
from adapters.mapping.times import TOLERANCE_MS, times_of
from adapters.mapping.values import UnreadableError

_RISES = 3
_KILOWATT_DECIMALS = 3
_CLOCK_MS = 10_000  # least milliseconds over which a number is compared with a clock

_UTC, _FAR_EAST = ZoneInfo("UTC"), ZoneInfo("Asia/Tokyo")
_FARTHEST_ZONE_MS = 14 * 3_600_000
_CLOCK_SHARE = Decimal("0.02")
_WORD = re.compile(r"[A-Z]?[a-z]+\d*|[A-Z]+\d*|\d+")


@cache
def words_of(text: str) -> frozenset[str]:
    """Return the words of a name in any style; a number at the end of a word is left out, as in E1."""
    found = [word.lower() for word in _WORD.findall(text)]
    return frozenset(found) | {word.rstrip("0123456789") for word in found if word != "m3"}


_POWER = words_of("power apower watt watts w kw leistung powerusage actual currently")
_ENERGY = words_of(
    "energy aenergy total totals kwh wh e import imported export exported consumption consumed delivered returned "
    "forward reverse yield generated generation produced production charged discharged bezug verbrauch einspeisung "
    "zaehlerstand verbruik teruglevering in out"
)
_LEVEL = words_of("soc")
_OTHER = words_of(
    "today yesterday period minute daily day month cost price gas water m3 reactive apparent voltage volt current amp "
    "temperature temp humidity rssi signal linkquality ts time timestamp uptime frequency freq factor pf id version "
    "boot seen count group outages drops peaks sags swells var ah vrms pulse"
)
_OUTGOING = words_of(
    "returned return ret export exported out produced production reverse generated generation yield discharged "
    "einspeisung teruglevering returndelivery"
)
_PULSES = words_of("pulse pulses impulse impulses imp")
_TARIFF = re.compile(
    r"(?<=[12]\.8\.)[1-9]|(?<=tarif)f?_?[1-4]|(?<![a-z])t[1-4](?![a-z0-9])|(?<=delivered_|.returned_)[12](?![0-9])"
    r"|(?<![a-z])(?:low|high|laag|hoog|dal|piek|off_?peak|peak|normal|[hn]t)(?![a-z])",
    re.IGNORECASE,
)
_CLOCKS = (1, 1000)  # units in a second of a number that counts seconds or milliseconds

_GENERIC = re.compile(r"\d*|state|value|values|system|sensor|data|params|l[123]|phases?", re.IGNORECASE)
_OBIS = re.compile(r"\d-\d:([12])\.([78])\.\d")
_UNITS = {"kwh": "kWh", "wh": "Wh", "kw": "kW", "w": "W", "watt": "W", "watts": "W"}


_PULSES_DOUBT = "pulses: set scale to the watt-hours of a pulse"


class Guess(NamedTuple):
    """What a number seems to be."""

    kind: str  # ``register``, ``power`` or ``level``
    unit: str  # its unit, if it is stated; else empty
    direction: str  # ``incoming`` or ``outgoing``
    doubt: str = ""  # what a person must look up; empty: nothing


@dataclass(kw_only=True)
class Series:
    """The values of one number."""

    topic: str  # its topic
    form: str  # the format of its payload, as in rules
    path: str  # its path, as in rules
    first: Decimal  # the first value
    last: Decimal  # the last value
    lowest: Decimal  # the lowest value
    since: EpochMilliseconds | None  # arrival of the first value; ``None``: not recorded
    until: EpochMilliseconds | None  # arrival of the last value
    rises: int = 0  # times it rose
    falls: int = 0  # times it fell
    places: int = 0  # most decimals of a value
    retained: bool = False  # whether the broker had kept the only value
    guess: Guess | None = None  # what it seems to be; ``None``: nothing that a meter has

    def add(self, value: Decimal, at: EpochMilliseconds | None) -> None:
        """Add a value."""
        self.rises += value > self.last
        self.falls += value < self.last
        self.last, self.lowest, self.until = value, min(value, self.lowest), at
        self.places = max(self.places, -int(value.as_tuple().exponent))

    @property
    def has_decimals(self) -> bool:
        """Whether its text has decimals, be they zeros."""
        return max(self.places, -int(self.first.as_tuple().exponent)) > 0

    @property
    def is_clock(self) -> bool:
        """Whether it rises as a clock does."""
        rise = self.last - self.first
        if self.since is None or self.until is None or self.until - self.since < _CLOCK_MS:
            return False
        return any(abs(rise * 1000 / (self.until - self.since) / unit - 1) < _CLOCK_SHARE for unit in _CLOCKS)

    @property
    def power_unit(self) -> str:
        """The likely unit of a power: devices print kilowatts with three decimals."""
        places = max(self.places, -int(self.first.as_tuple().exponent))
        return "kW" if places >= _KILOWATT_DECIMALS and abs(self.last) < 1000 else "W"

    @property
    def only_rises(self) -> bool:
        """Whether it behaves as a register: it rises, and falls rarely."""
        return self.rises >= _RISES and self.falls * 10 <= self.rises


def guess(series: Series) -> Guess | None:
    """Return what a number seems to be, by its words and its behaviour; no register is negative."""
    found = _guess(series)
    return None if found is not None and found.kind == "register" and series.lowest < 0 else found


def _guess(series: Series) -> Guess | None:
    if (obis := _OBIS.fullmatch(series.path)) is not None:
        way = "incoming" if obis[1] == "1" else "outgoing"
        return Guess("register", "kWh", way) if obis[2] == "8" else Guess("power", "kW", way)
    name, _, stated = series.path.partition(" ") if series.form == "senml" else (series.path, "", "")
    if stated:
        kind = "register" if stated in ("J", "Wh", "kWh") else "power" if stated in ("W", "kW") else ""
        return Guess(kind, stated, _direction(name)) if kind else None
    segments = [*series.topic.split("/"), *(name.split(".") if series.form == "json" else ())]
    for place, segment in reversed([*enumerate(segments)]):
        if not _GENERIC.fullmatch(segment):
            words = words_of(segment)
            kind = _kind_of(words)
            unit = next((_UNITS[word] for word in words if word in _UNITS), "")
            tail = " ".join(segments[max(0, place - 1) :])
            if kind != "power" and words_of(tail) & _PULSES and series.only_rises and not series.is_clock:
                return Guess("register", "Wh", _direction(tail), _PULSES_DOUBT)
            if kind == "power":
                return Guess(kind, unit or series.power_unit, _direction(tail))
            if kind:
                return Guess(kind, unit, _direction(tail))
            if words & _OTHER or not series.only_rises or series.is_clock:
                return None
            return Guess("register", "", _direction(tail))
    return Guess("register", "", "incoming") if series.only_rises and not series.is_clock else None


def without_tariff(series: Series) -> tuple[str, str, str]:
    """Return topic, form and path without the mark of a tariff: the same for all tariffs of one register."""
    return _TARIFF.sub("\0", series.topic), series.form, _TARIFF.sub("\0", series.path)


def times_near(payload: JsonPayload, arrival: EpochMilliseconds) -> Iterator[tuple[str, str]]:
    """Yield the path of each text that is the time of arrival, with the doubt about it; empty: none."""
    for path, text in payload.texts():
        with suppress(UnreadableError):
            apart = abs(times_of(text, _UTC)[0] - arrival)
            if apart <= TOLERANCE_MS:
                yield path, ""
            elif apart <= _FARTHEST_ZONE_MS and times_of(text, _FAR_EAST) != times_of(text, _UTC):
                yield path, "its time has no zone: set zone of the rule"


def names_a_quantity(text: str) -> bool:
    """Return whether a part of a topic or path, or an OBIS code, names the quantity of the number."""
    return bool(_OBIS.fullmatch(text) or _kind_of(words_of(text)))


def _kind_of(words: frozenset[str]) -> str:
    if words & _OTHER and not words & {"kwh", "wh"}:
        return ""
    return next((k for k, known in (("level", _LEVEL), ("power", _POWER), ("register", _ENERGY)) if words & known), "")


def _direction(text: str) -> str:
    return "outgoing" if words_of(text) & _OUTGOING else "incoming"
