"""The town for people: its power now, its energy today, the price, and the need of tomorrow (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import reduce
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.look.palette import PowerFlow, parts_of
from commonwatt.model.calendar import midnight
from commonwatt.model.control import PUT_S
from commonwatt.model.units import QUARTER_S, EpochSeconds, MilliwattHours, Quarter
from utility.overview.microgrids import MicrogridFacts
from utility.readings.flows import GridFlows, by_source, used_of
from utility.supply.deciding import like_day
from utility.tariffs.tariff import Tariff, in_force

# Age of a minute's end until which it is shown as now: two heartbeats, and until all is read another minute, or as long
# as the meters' puts are longer than one.
GOOD_FOR_S = 240


@dataclass(frozen=True, kw_only=True)
class TownPower:
    """The power of the microgrids whose gateways said it a moment ago."""

    said: int  # how many microgrids said it
    lacking: int  # how many did not: silent, of an earlier version, or without readings
    end: EpochSeconds | None  # when the oldest of the minutes ended; ``None``: no microgrid said it
    sun_w: int  # generated, watts
    use_w: int  # used by the homes, losses included
    import_w: int  # taken from the town, by each microgrid
    export_w: int  # given to the town
    between_w: int  # given by homes to others of their microgrid
    stored: MilliwattHours  # sum of the batteries' levels

    @property
    def parts(self) -> list[tuple[PowerFlow, float, bool]]:
        """The flows of the picture; what microgrids gave while others took went to neighbours, too."""
        return parts_of(
            sun_w=self.sun_w,
            use_w=self.use_w,
            import_w=self.import_w,
            export_w=self.export_w,
            between_w=self.between_w + min(self.import_w, self.export_w),
        )


def town_power(facts: Iterable[MicrogridFacts], now: EpochSeconds) -> TownPower:
    """Return the sum over the microgrids that are not closed."""
    beats = [m.heartbeat for m in facts if not m.is_closed]
    fresh = [
        beat
        for beat in beats
        if beat and beat.power and now - beat.power.end <= GOOD_FOR_S + beat.periods.get("put_s", PUT_S) - PUT_S
    ]
    powers = [beat.power for beat in fresh if beat.power]
    return TownPower(
        said=len(powers),
        lacking=len(beats) - len(powers),
        end=min((power.end for power in powers), default=None),
        sun_w=sum(power.sun_w for power in powers),
        use_w=sum(power.use_w for power in powers),
        import_w=sum(power.import_w for power in powers),
        export_w=sum(power.export_w for power in powers),
        between_w=sum(power.between_w for power in powers),
        stored=sum(beat.stored[0] for beat in fresh if beat.stored),
    )


PART_OF_USUAL = 0.95
"""The part of the quarter before that the newest quarter's blocks must have to be shown as the present."""

SPAN = 96  # quarters of the plot: 24 hours
AGAIN_S = 60  # seconds until the newest quarters are read again
_MOSTLY = 92  # quarters of the last 24 hours that must be known to say how much sun they had

_WATTS = 3600 / QUARTER_S / 1000


@dataclass(frozen=True, kw_only=True)
class QuarterEnergy:
    """The energy of a microgrid, or of several, in a quarter-hour, milliwatt-hours."""

    net: MilliwattHours = 0  # taken from the town, less what was given to it
    sun: MilliwattHours = 0  # generated
    charged: MilliwattHours = 0  # the batteries' change of level from the end of the quarter before
    given: MilliwattHours = 0  # by homes to others of their microgrid
    blocks: int = 0  # how many stored blocks it was made of
    # Taken from the town; what was given to it in another quarter counts against nothing. Below 0: what ``net`` says.
    bought: MilliwattHours = -1

    def __post_init__(self) -> None:
        if self.bought < 0:
            object.__setattr__(self, "bought", max(0, self.net))

    @classmethod
    def of(cls, flows: GridFlows, at: int) -> "QuarterEnergy":
        """Return the energy of a microgrid or the town in its quarter ``at``."""
        net = int(flows.taken.energy[at] - flows.given.energy[at])
        sun, charged, between, blocks = (
            int(energies[at]) for energies in (flows.sun.energy, flows.charge.energy, flows.between, flows.blocks)
        )
        return cls(net=net, sun=sun, charged=charged, given=between, blocks=blocks)

    @property
    def used(self) -> MilliwattHours:
        """What the homes used, losses included."""
        return int(used_of(self.net, self.sun, self.charged))

    def by_source(self) -> dict[PowerFlow, MilliwattHours]:
        """Return where the energy that was used came from.

        The plant's part has what microgrids took from the town, also what others of them gave to it.
        """
        sources = by_source(self.used, self.sun, self.charged, self.given)
        return {flow: int(energy) for flow, energy in sources.items()}

    def plus(self, other: "QuarterEnergy") -> "QuarterEnergy":
        """Return the sum of both."""
        return QuarterEnergy(**{name: value + getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Today:
    """The local day so far."""

    quarter: Quarter | None  # the quarter that is shown as the present; ``None``: no reading of 24 hours is known
    net_w: float  # mean power from the town in it, watts; below 0: to the town
    sun_w: float  # generated
    used_w: float  # used by the homes, losses included
    charged_w: float  # stored in batteries; below 0: they gave
    total: QuarterEnergy  # the day so far
    before: QuarterEnergy | None  # the same 24 hours before; ``None``: a part of it is not known
    known: int  # how many quarters these are of
    passed: int  # how many quarters of the day have passed
    begin: Quarter  # its first quarter
    passed_day: range  # the quarters of the last 24 hours
    quarters: Mapping[Quarter, QuarterEnergy]  # what is known of each of the day, and of the last 24 hours

    @property
    def own_permille(self) -> float | None:
        """How much of the use was not taken from the town, in thousandths; ``None``: nothing was used."""
        used = self.total.used
        return 1000 * max(0, used - self.total.bought) / used if used > 0 else None

    @property
    def sun_of_24_h(self) -> MilliwattHours | None:
        """The sun of the last 24 hours, by which tomorrow's is expected; ``None``: too little is known."""
        known = [self.quarters[quarter].sun for quarter in self.passed_day if quarter in self.quarters]
        return sum(known) * SPAN // len(known) if len(known) >= _MOSTLY else None

    @property
    def start(self) -> EpochSeconds | None:
        """When the present quarter began."""
        return None if self.quarter is None else self.quarter * QUARTER_S


class DayEnergy:
    """What was read of the quarters of a local day and of the last 24 hours, and what is to be read next."""

    def __init__(self) -> None:
        self._known: dict[Quarter, QuarterEnergy] = {}
        self._read: dict[Quarter, EpochSeconds] = {}
        self._begin: Quarter = 0

    def wanted(self, begin: Quarter, newest: Quarter, now: EpochSeconds) -> list[Quarter]:
        """Return what is to be read: the newest two again, an old one for late readings, and what is not known yet.

        Whoever has no time for all reads the first of them.

        Args:
            begin: The day's first quarter.
            newest: The newest quarter that is stored.
        """
        self._begin = begin
        first = begin - SPAN  # with it the day is compared
        for old in [quarter for quarter in self._read if quarter < first]:
            del self._known[old], self._read[old]
        day = range(first, newest + 1)
        latest = [q for q in reversed(day[-2:]) if now - self._read.get(q, -(2**40)) >= AGAIN_S]
        missing = [quarter for quarter in reversed(day) if quarter not in self._read and quarter not in latest]
        oldest = sorted((q for q in day[:-2] if q in self._read), key=lambda q: self._read[q])[:1] if latest else []
        return [*latest, *oldest, *missing]

    def read(self, quarter: Quarter, energy: QuarterEnergy, now: EpochSeconds) -> None:
        """Take what was read of a quarter."""
        self._known[quarter], self._read[quarter] = energy, now

    def today(self, now: EpochSeconds) -> Today:
        """Return the day so far."""
        known = {quarter: energy for quarter, energy in self._known.items() if energy.blocks}
        present = self._present(known)
        shown = QuarterEnergy() if present is None else known[present]
        of_day = {quarter - self._begin: energy for quarter, energy in known.items() if quarter >= self._begin}
        of_before = [known.get(self._begin - SPAN + place) for place in of_day]
        # Before all was read, it is not known from when on there are readings.
        is_read = not self._read or self._begin - SPAN in self._read
        begin = max(self._begin, min(known, default=now // QUARTER_S)) if is_read else self._begin
        return Today(
            quarter=present,
            net_w=shown.net * _WATTS,
            sun_w=shown.sun * _WATTS,
            used_w=shown.used * _WATTS,
            charged_w=shown.charged * _WATTS,
            total=_sum(of_day.values()),
            before=None if None in of_before or not of_before else _sum(energy for energy in of_before if energy),
            known=len(of_day),
            passed=max(0, now // QUARTER_S - begin),
            begin=self._begin,
            passed_day=range(now // QUARTER_S - SPAN, now // QUARTER_S),
            quarters=known,
        )

    def _present(self, known: dict[Quarter, QuarterEnergy]) -> Quarter | None:
        """Return the newest quarter, or the one before while the newest is still being joined."""
        newest = max(known, default=None)
        if newest is None:
            return None
        before = known.get(newest - 1)
        if before is not None and known[newest].blocks < PART_OF_USUAL * before.blocks:
            return newest - 1
        return newest


def _sum(some: Iterable[QuarterEnergy]) -> QuarterEnergy:
    return reduce(QuarterEnergy.plus, some, QuarterEnergy())


LIKE_DAYS = 5  # earlier days of the same kind that bound tomorrow's need


@dataclass(frozen=True, kw_only=True)
class PriceNow:
    """What a kilowatt-hour from the town costs."""

    tariff: str  # the tariff
    period: str  # the period in force
    dollars: Decimal  # its price of a kilowatt-hour
    until: EpochSeconds | None  # when another price begins; ``None``: not within two days


@dataclass(frozen=True, kw_only=True)
class NeedTomorrow:
    """What homes will take from the plant tomorrow, less what they will give to it."""

    expected: MilliwattHours  # that of the last day of the same kind, weekday or weekend
    least: MilliwattHours  # the least of the last ``LIKE_DAYS`` such days that are known
    most: MilliwattHours  # the most
    days: int  # how many they are


def price_now(versions: Sequence[Tariff], now: EpochSeconds) -> PriceNow | None:
    """Return the price by the published versions of one tariff; ``None``: none is in force."""
    first = now // QUARTER_S
    tariff = in_force(versions, first)
    if tariff is None:
        return None
    periods = tariff.periods_of(np.arange(first, first + 192))
    prices = [tariff.prices[int(period)].import_ for period in periods]
    later = next((place for place, price in enumerate(prices) if price != prices[0]), None)
    return PriceNow(
        tariff=tariff.name,
        period=tariff.prices[int(periods[0])].name,
        dollars=prices[0],
        until=None if later is None else (first + later) * QUARTER_S,
    )


def dear_spans(versions: Sequence[Tariff], begin: Quarter, until: Quarter) -> list[tuple[EpochSeconds, EpochSeconds]]:
    """Return when energy from the town costs most, if it does not cost the same all the time."""
    tariff = in_force(versions, begin)
    if tariff is None:
        return []
    prices = [tariff.prices[int(period)].import_ for period in tariff.periods_of(np.arange(begin, until))]
    dear = np.array([price == max(prices) != min(prices) for price in prices], np.int8)
    edges = np.flatnonzero(np.diff(dear, prepend=0, append=0)).tolist()
    return [((begin + a) * QUARTER_S, (begin + b) * QUARTER_S) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def need_tomorrow(net: Mapping[Quarter, MilliwattHours], now: EpochSeconds, zone: ZoneInfo) -> NeedTomorrow | None:
    """Return tomorrow's need by whole earlier days of its kind; ``None``: none is known.

    Args:
        net: What the town took from the plant, less what it gave, by quarter.
    """
    tomorrow = datetime.fromtimestamp(now, zone).date() + timedelta(days=1)
    needs = []
    for before in range(1, LIKE_DAYS + 2):  # today, which is not over, may be one of them
        day = like_day(tomorrow, before)
        quarters = range(midnight(day, zone), midnight(day + timedelta(days=1), zone))
        if all(quarter in net for quarter in quarters):
            needs.append(sum(net[quarter] for quarter in quarters))
    needs = needs[:LIKE_DAYS]
    if not needs:
        return None
    return NeedTomorrow(expected=needs[0], least=min(needs), most=max(needs), days=len(needs))
