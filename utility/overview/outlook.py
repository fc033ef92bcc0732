"""What the town's page says of money and of tomorrow: the price now, the dear hours, the need at the plant; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.time.local_calendar import midnight
from commonwatt.model.units import QUARTER_S, EpochSeconds, MilliwattHours, Quarter
from utility.supply.forecast import like_day
from utility.tariffs.tariff import Tariff, in_force

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
    found = []
    for before in range(1, LIKE_DAYS + 2):  # today, which is not over, may be one of them
        day = like_day(tomorrow, before)
        quarters = range(midnight(day, zone), midnight(day + timedelta(days=1), zone))
        if all(each in net for each in quarters):
            found.append(sum(net[each] for each in quarters))
    found = found[:LIKE_DAYS]
    if not found:
        return None
    return NeedTomorrow(expected=found[0], least=min(found), most=max(found), days=len(found))
