"""What a number of a foreign device seems to be, by the words of its topic and path, its unit and its behaviour."""

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import NamedTuple

from adapters.energy.spread import EpochMilliseconds

_RISES = 3
_KILOWATT_DECIMALS = -3
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
_GENERIC = re.compile(r"\d*|state|value|values|system|sensor|data|params|l[123]|phases?", re.IGNORECASE)
_OBIS = re.compile(r"\d-\d:([12])\.([78])\.\d")
_UNITS = {"kwh": "kWh", "wh": "Wh", "kw": "kW", "w": "W", "watt": "W", "watts": "W"}


class Guess(NamedTuple):
    """What a number seems to be.

    Attributes:
        kind: ``register``, ``power`` or ``level``.
        unit: Its unit, if it is stated; else empty.
        direction: ``incoming`` or ``outgoing``.
    """

    kind: str
    unit: str
    direction: str


@dataclass(kw_only=True)
class Series:
    """The values of one number.

    Attributes:
        topic: Its topic.
        form: The format of its payload, as in rules.
        path: Its path, as in rules.
        first: The first value.
        last: The last value.
        lowest: The lowest value.
        since: Arrival of the first value; ``None``: not recorded.
        until: Arrival of the last value.
        rises: Times it rose.
        falls: Times it fell.
        retained: Whether the broker had kept the only value.
        guess: What it seems to be; ``None``: nothing that a meter has.
    """

    topic: str
    form: str
    path: str
    first: Decimal
    last: Decimal
    lowest: Decimal
    since: EpochMilliseconds | None
    until: EpochMilliseconds | None
    rises: int = 0
    falls: int = 0
    retained: bool = False
    guess: Guess | None = None

    def add(self, value: Decimal, at: EpochMilliseconds | None) -> None:
        """Add a value."""
        self.rises += value > self.last
        self.falls += value < self.last
        self.last, self.lowest, self.until = value, min(value, self.lowest), at

    @property
    def has_decimals(self) -> bool:
        """Whether its text has decimals, be they zeros."""
        return any(int(value.as_tuple().exponent) < 0 for value in (self.first, self.last))

    @property
    def power_unit(self) -> str:
        """The likely unit of a power: devices print kilowatts with three decimals."""
        return "kW" if int(self.last.as_tuple().exponent) <= _KILOWATT_DECIMALS and abs(self.last) < 1000 else "W"

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
            if kind == "power":
                return Guess(kind, unit or series.power_unit, _direction(tail))
            if kind:
                return Guess(kind, unit, _direction(tail))
            return None if words & _OTHER or not series.only_rises else Guess("register", "", _direction(tail))
    return Guess("register", "", "incoming") if series.only_rises else None


def names_a_quantity(text: str) -> bool:
    """Return whether a part of a topic or path, or an OBIS code, names the quantity of the number."""
    return bool(_OBIS.fullmatch(text) or _kind_of(words_of(text)))


def _kind_of(words: frozenset[str]) -> str:
    if words & _OTHER and not words & {"kwh", "wh"}:
        return ""
    return next((k for k, known in (("level", _LEVEL), ("power", _POWER), ("register", _ENERGY)) if words & known), "")


def _direction(text: str) -> str:
    return "outgoing" if words_of(text) & _OUTGOING else "incoming"
