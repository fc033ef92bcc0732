"""What controllers receive of the rates: the prices of a tariff from a month's start to the end of the next (U3)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.time.local_calendar import month_after, month_quarters
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, MicrogridId, Quarter
from commonwatt.protocol.controller_commands import MAX_CHANGES
from utility.registry.accounts import DatedRegistry, value_at
from utility.tariffs.file import Period
from utility.tariffs.tariff import Tariff, in_force


@dataclass(frozen=True, kw_only=True)
class ToldRates:
    """The rates of a tariff, for a controller."""

    tariff: str  # its name
    version: int  # the newest version that holds in the time sent
    month: str  # the local month in which the time begins
    prices: list[tuple[str, str, str]]  # period, price of import, price of credit
    changes: list[tuple[EpochSeconds, int]]  # from when which place in ``prices`` holds
    until: EpochSeconds  # the end of the time sent, epoch seconds


def rates_of(versions: Sequence[Tariff], month: str, zone: ZoneInfo) -> ToldRates | None:
    """Return the rates of a tariff from the start of a local month to the end of the next one.

    A tariff that changes more than ``MAX_CHANGES`` times in it is sent until its next change after so many.
    ``None``: no version holds in that time.

    Args:
        versions: The published versions of one name.
    """
    first, until = month_quarters(month, zone)[0], month_quarters(month_after(month), zone)[1]
    prices: list[tuple[str, str, str]] = []
    changes: list[tuple[EpochSeconds, int]] = []
    for quarter, price in prices_in(versions, first, until):
        row = price.name, str(price.import_), str(price.credit)
        if row not in prices:
            prices.append(row)
        if not changes or changes[-1][1] != prices.index(row):
            changes.append((quarter * QUARTER_S, prices.index(row)))
    starts = {first, *(tariff.effective for tariff in versions if first < tariff.effective < until)}
    held = [tariff.version for start in starts if (tariff := in_force(versions, start)) is not None]
    if not held:
        return None
    told_until = until * QUARTER_S if len(changes) <= MAX_CHANGES else changes[MAX_CHANGES][0]
    return ToldRates(
        tariff=versions[0].name,
        version=max(held),
        month=month,
        prices=prices,
        changes=changes[:MAX_CHANGES],
        until=told_until,
    )


def prices_in(versions: Sequence[Tariff], first: Quarter, until: Quarter) -> list[tuple[Quarter, Period]]:
    """Return the quarters in ``[first, until)`` from which another price of a tariff may hold, each with the price.

    Args:
        versions: The published versions of one name; before the first of them no price holds.
    """
    begins = sorted({first, *(tariff.effective for tariff in versions if first < tariff.effective < until)})
    found = []
    for begin, end in zip(begins, [*begins[1:], until], strict=True):
        tariff = in_force(versions, begin)
        if tariff is not None:
            found += [(quarter, tariff.prices[period]) for quarter, period in _changes(tariff, begin, end)]
    return found


def tariffs_by_microgrid(
    registry: DatedRegistry, microgrids: Iterable[MicrogridId], default: str, quarter: Quarter
) -> dict[MicrogridId, list[str]]:
    """Return the names of the tariffs of each microgrid's accounts in a quarter; the default without accounts."""
    found: dict[MicrogridId, set[str]] = {name: set() for name in microgrids}
    for meter in registry.meters.values():
        account = meter.account_at(quarter)
        if account is not None and meter.microgrid in found:
            found[meter.microgrid].add(_name(registry, account, default, quarter))
    return {microgrid: sorted(names) or [default] for microgrid, names in sorted(found.items())}


def next_change(registry: DatedRegistry, quarter: Quarter) -> Quarter | None:
    """Return the next quarter in which another account has a meter, or an account another tariff; ``None``: none is."""
    dates = {date for meter in registry.meters.values() for held in meter.holdings for date in (held.start, held.end)}
    dates |= {dated.start for account in registry.accounts.values() for dated in account.tariffs}
    return min((date for date in dates if date is not None and date > quarter), default=None)


def _name(registry: DatedRegistry, number: AccountNumber, default: str, quarter: Quarter) -> str:
    account = registry.accounts.get(number)
    return (None if account is None else value_at(account.tariffs, quarter)) or default


def _changes(tariff: Tariff, begin: Quarter, end: Quarter) -> list[tuple[Quarter, int]]:
    """Return the quarters from which another period holds, the first one included."""
    periods = tariff.periods_of(np.arange(begin, end))
    places = [0, *(np.flatnonzero(np.diff(periods)) + 1).tolist()]
    return [(begin + place, int(periods[place])) for place in places]
