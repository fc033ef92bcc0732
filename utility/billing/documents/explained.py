"""A bill from its amount down to quarter-hours: energy, price, dollars, quality by day, hour, quarter (U2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from itertools import groupby
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.units import QUARTER_S, Quarter
from commonwatt.settlement.settled import Quantity, SettledQuality
from utility.billing.bill import Bill
from utility.billing.documents.statement import over_meters
from utility.billing.inputs import RunInputs
from utility.billing.money import price_units
from utility.billing.policies import POLICIES
from utility.billing.policies.policy import CreditGoesTo
from utility.billing.proof.leaf import MeterQuarters
from utility.tariffs.policy_settings import RangersSettings

Row = dict[str, object]  # a row of a table, by its columns

_SHOWN = (Quantity.IMPORTED, Quantity.EXPORTED, Quantity.SHARED_IN, Quantity.SHARED_OUT)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A day, an hour or a quarter-hour of a bill."""

    start: Quarter  # its first quarter
    quarters: int  # how many it has
    periods: tuple[str, ...]  # the names of its periods, in order
    energies: tuple[int, int, int, int]  # milliwatt-hours: imported, exported, shared in, shared out
    amount: Decimal  # for import less the credit for the account's own export, before rounding, dollars
    quality: dict[SettledQuality, int]  # how many quarters are of which quality


class Explained:
    """The quarter-hours of a bill with their prices, from its inputs and the quarter-hours of the account's meters."""

    def __init__(self, inputs: RunInputs, bill: Bill, meters: Sequence[MeterQuarters]) -> None:
        self._first = bill.start
        self._zone = ZoneInfo(inputs.timezone)
        self._energies, self._quality = over_meters(bill, meters)
        self._periods = [""] * len(self._quality)
        self._amounts = np.zeros(len(self._quality), np.int64)
        self._price(inputs, bill)

    def by_day(self) -> list[Step]:
        """Return the local days."""
        return [self._step([place for place, _ in quarters]) for quarters in self._days.values()]

    def by_hour(self, day: date) -> list[Step]:
        """Return the hours of a local day; one that the clocks repeat is there twice."""
        hours = groupby(self._days.get(day, ()), key=lambda quarter: (quarter[1].hour, quarter[1].utcoffset()))
        return [self._step([place for place, _ in quarters]) for _, quarters in hours]

    def by_quarter(self, day: date, hour: int) -> list[Step]:
        """Return the quarter-hours of a local hour."""
        return [self._step([place]) for place, time in self._days.get(day, ()) if time.hour == hour]

    @cached_property
    def _days(self) -> dict[date, list[tuple[int, datetime]]]:
        """The quarter-hours by local day: each one's place and local time."""
        times = (datetime.fromtimestamp((self._first + n) * QUARTER_S, self._zone) for n in range(len(self._amounts)))
        return {day: [*quarters] for day, quarters in groupby(enumerate(times), key=lambda each: each[1].date())}

    def local(self, step: Step) -> datetime:
        """Return the local time at which a step begins."""
        return datetime.fromtimestamp(step.start * QUARTER_S, self._zone)

    def _price(self, inputs: RunInputs, bill: Bill) -> None:
        """Set the period of each quarter, and its amount in 10**-12 dollars."""
        policy = POLICIES[bill.policy]
        for segment in inputs.within(bill.account, bill.start, bill.end):
            start, end = max(segment.start, bill.start), min(segment.end, bill.end)
            tariff = segment.tariff
            span = slice(start - bill.start, end - bill.start)
            places = tariff.periods_of(np.arange(start, end))
            self._periods[span] = [tariff.prices[place].name for place in places.tolist()]
            imports = np.array([price_units(price.import_) for price in tariff.prices], np.int64)
            earned = np.array([price_units(price) for price in policy.credit_prices(tariff)], np.int64)
            if not (isinstance(tariff.policy, RangersSettings) and tariff.policy.import_by == "evenly"):
                self._amounts[span] += self._energies[Quantity.IMPORTED][span] * imports[places]
            if policy.credit_goes_to is CreditGoesTo.PLACES:
                self._amounts[span] -= self._energies[Quantity.EXPORTED][span] * earned[places]

    def _step(self, places: Sequence[int]) -> Step:
        span = slice(places[0], places[-1] + 1)
        imported, exported, shared_in, shared_out = (int(self._energies[quantity][span].sum()) for quantity in _SHOWN)
        found, counts = np.unique(self._quality[span], return_counts=True)
        return Step(
            start=self._first + places[0],
            quarters=len(places),
            periods=tuple(dict.fromkeys(self._periods[span])),
            energies=(imported, exported, shared_in, shared_out),
            amount=Decimal(sum(self._amounts[span].tolist())).scaleb(-12),
            quality={SettledQuality(q): n for q, n in zip(found.tolist(), counts.tolist(), strict=True)},
        )


def rows_within(explained: Explained, day: date | None = None, hour: int | None = None) -> list[Row]:
    """Return the rows of a bill's days, of a day's hours, or of an hour's quarter-hours."""
    if day is None:
        return list(rows_of(explained, explained.by_day(), "%Y-%m-%d"))
    steps = explained.by_hour(day) if hour is None else explained.by_quarter(day, hour)
    return list(rows_of(explained, steps, "%Y-%m-%d %H:%M %z"))


def rows_of(explained: Explained, steps: Sequence[Step], form: str) -> Iterator[Row]:
    """Yield the rows of a table: ``form`` is that of the local time."""
    for step in steps:
        imported, exported, shared_in, shared_out = (f"{Decimal(each).scaleb(-6):.6f}" for each in step.energies)
        yield {
            "from": explained.local(step).strftime(form),
            "period": ", ".join(step.periods),
            "imported kWh": imported,
            "exported kWh": exported,
            "shared in kWh": shared_in,
            "shared out kWh": shared_out,
            "dollars": f"{step.amount:.6f}",
            "quality": ", ".join(
                quality.name.lower() if count == step.quarters else f"{count} {quality.name.lower()}"
                for quality, count in sorted(step.quality.items(), reverse=True)
            ),
        }
