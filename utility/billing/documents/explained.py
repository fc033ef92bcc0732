"""A bill explained: from its amount down to quarter-hours, what people ask first, and its plot by hour (U2; pure)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.look.palette import PowerFlow
from commonwatt.look.writing import DOLLARS, Writing
from commonwatt.model.units import QUARTER_S, EpochSeconds, MilliwattHours, Quarter
from utility.billing.bill import LINE_ROWS, Bill, BillLine, LineKind, price_units
from utility.billing.documents.statement import HourEnergies, over_meters
from utility.billing.inputs import RunInputs
from utility.billing.proof import MeterQuarters
from utility.billing.rules.policies import POLICIES, CreditGoesTo
from utility.energy.quarters import QUANTITY_WORDS, Quantity, SettledQuality
from utility.tariffs.file import RangersSettings

DRAWN = (
    (Quantity.IMPORTED, PowerFlow.PLANT, 1),
    (Quantity.SHARED_IN, PowerFlow.NEIGHBOURS, 1),
    (Quantity.EXPORTED, PowerFlow.SUN, -1),
    (Quantity.SHARED_OUT, PowerFlow.BATTERY, -1),
)
"""What the plot shows: the quantity, the flow whose color it has, and its side of the axis."""


def hours_plot(by_hour: HourEnergies, writing: Writing = DOLLARS) -> dict[str, Any]:
    """Return an account's energies by local hour, kWh; what is given lies below 0."""
    return {
        "series": [
            {
                "label": writing.say(QUANTITY_WORDS[quantity]),
                "flow": flow,
                "unit": "kWh",
                "x": list(by_hour.starts),
                "step_s": 3600,
                "high": (by_hour.energies[quantity] * (1e-6 * side)).round(6).tolist(),
                "marks": [],
                "missing": 0,
            }
            for quantity, flow, side in DRAWN
            if by_hour.energies[quantity].any()
        ],
    }


class HeatDay(NamedTuple):
    """A local day of a heat map."""

    day: date
    taken: MilliwattHours  # from the town and from neighbours
    cells: list[tuple[int, float, float]]  # of each hour: tenths of the greatest one, local hour, length in hours


def heat_of(by_hour: HourEnergies, zone: ZoneInfo) -> tuple[list[HeatDay], tuple[EpochSeconds, MilliwattHours]]:
    """Return an account's hours by local day, and the greatest one; two that the clocks repeat share a cell's place."""
    taken = (by_hour.energies[Quantity.IMPORTED] + by_hour.energies[Quantity.SHARED_IN]).tolist()
    most = max(taken, default=0)
    times = [datetime.fromtimestamp(start, zone) for start in by_hour.starts]
    lengths = {hour: 1 / count for hour, count in Counter((time.date(), time.hour) for time in times).items()}
    days = []
    for day, group in groupby(zip(times, taken, strict=True), key=lambda each: each[0].date()):
        hours = [(time, energy, lengths[day, time.hour]) for time, energy in group]
        cells = [(round(10 * e / most) if most else 0, t.hour + t.fold * length, length) for t, e, length in hours]
        days.append(HeatDay(day, sum(energy for _, energy, _ in hours), cells))
    return days, max(zip(by_hour.starts, taken, strict=True), key=lambda each: each[1], default=(0, 0))


def parts_of(bill: Bill, writing: Writing) -> list[tuple[str, Decimal, Decimal]]:
    """Return the parts of a bill's total: words, dollars, and the sum of the parts before, dollars."""
    found, before = [], Decimal(0)
    for kind, row in LINE_ROWS.items():
        if any(line.kind is kind for line in bill.lines):
            words = writing.say(row.words)
            found.append((words[:1].upper() + words[1:], _sum(bill.lines, kind), before))
            before += found[-1][1]
    return found


def why_it_differs(bill: Bill, before: Bill, writing: Writing = DOLLARS) -> str:
    """Return in a sentence how a bill differs from an earlier one, the greatest reason first."""
    changes = {row.words: _sum(bill.lines, kind) - _sum(before.lines, kind) for kind, row in LINE_ROWS.items()}
    return _why(bill.total - before.total, before.month, changes, writing)


def why_runs_differ(run: Mapping[str, Any], before: Mapping[str, Any], writing: Writing = DOLLARS) -> str:
    """Return how the sum of a run's bills differs from that of an earlier one, the greatest reason first.

    The earlier one may be of its month's first days. Where both runs know the energy taken, what it costs differs by
    its amount, at the old price, and by the price.
    """
    now, was = run["figures"], before["figures"]
    changes = {row.words: Decimal(now.get(kind, 0)) - Decimal(was.get(kind, 0)) for kind, row in LINE_ROWS.items()}
    if now.get("taken_mwh") and was.get("taken_mwh"):
        energy = now["taken_mwh"] - was["taken_mwh"]
        by_energy = round(Decimal(was["import"]) * energy / was["taken_mwh"], 2)
        words = f"{abs(energy) / 1e6:,.0f} kWh {'more' if energy > 0 else 'less'} taken from the town"
        changes |= {words: by_energy, "its price": changes.pop(LINE_ROWS[LineKind.IMPORT].words) - by_energy}
    total = Decimal(now["total"]) - Decimal(was["total"])
    return _why(total, before["month"], changes, writing, f"the first {was['days']} days of " if "days" in was else "")


def _why(change: Decimal, month: str, changes: Mapping[str, Decimal], writing: Writing, of: str = "") -> str:
    month = of + writing.month(month)
    if not change:
        return writing.say("As much as in {month}.", month=month)
    reasons = sorted((words for words in changes if changes[words]), key=lambda words: -abs(changes[words]))
    said = ", ".join(
        f"{writing.say(words)} {'+' * (changes[words] > 0)}{writing.money(changes[words])}" for words in reasons
    )
    text = "{amount} more than in {month}: {reasons}." if change > 0 else "{amount} less than in {month}: {reasons}."
    return writing.say(text, amount=writing.money(abs(change)), month=month, reasons=said)


def worth_of_sharing(bill: Bill, received_kwh: Decimal) -> Decimal | None:
    """Return what energy from neighbours would have cost from the town, dollars at the bill's mean price of import.

    ``None``: nothing was taken from the town at a rate of a period, so that the bill has no price.
    """
    imports = [
        (line.energy, line.rate) for line in bill.lines if line.kind is LineKind.IMPORT and line.energy and line.rate
    ]
    if not imports:
        return None
    # By rates and not by amounts: of some watt-hours the cents would be the price.
    return received_kwh * sum(energy * rate for energy, rate in imports) / sum(energy for energy, _ in imports)


def _sum(lines: Iterable[BillLine], kind: LineKind) -> Decimal:
    return sum((line.amount for line in lines if line.kind is kind), Decimal(0))


Row = dict[str, object]  # a row of a table, by its columns

_SHOWN = (Quantity.IMPORTED, Quantity.EXPORTED, Quantity.SHARED_IN, Quantity.SHARED_OUT)


@dataclass(frozen=True, kw_only=True)
class BillStep:
    """A day, an hour or a quarter-hour of a bill."""

    start: Quarter  # its first quarter
    quarters: int  # how many it has
    periods: tuple[str, ...]  # the names of its periods, in order
    energies: tuple[int, int, int, int]  # milliwatt-hours: imported, exported, shared in, shared out
    amount: Decimal  # for import less the credit for the account's own export, before rounding, dollars
    quality: dict[SettledQuality, int]  # how many quarters are of which quality


class ExplainedBill:
    """The quarter-hours of a bill with their prices, from its inputs and the quarter-hours of the account's meters."""

    def __init__(self, inputs: RunInputs, bill: Bill, meters: Sequence[MeterQuarters]) -> None:
        self._first = bill.start
        self._zone = ZoneInfo(inputs.timezone)
        self._energies, self._quality = over_meters(bill, meters)
        self._periods = [""] * len(self._quality)
        self._amounts = np.zeros(len(self._quality), np.int64)
        self._price(inputs, bill)

    def by_day(self) -> list[BillStep]:
        """Return the local days."""
        return [self._step([place for place, _ in quarters]) for quarters in self._days.values()]

    def by_hour(self, day: date) -> list[BillStep]:
        """Return the hours of a local day; one that the clocks repeat is there twice."""
        hours = groupby(self._days.get(day, ()), key=lambda quarter: (quarter[1].hour, quarter[1].utcoffset()))
        return [self._step([place for place, _ in quarters]) for _, quarters in hours]

    def by_quarter(self, day: date, hour: int) -> list[BillStep]:
        """Return the quarter-hours of a local hour."""
        return [self._step([place]) for place, time in self._days.get(day, ()) if time.hour == hour]

    @cached_property
    def _days(self) -> dict[date, list[tuple[int, datetime]]]:
        """The quarter-hours by local day: each one's place and local time."""
        times = (datetime.fromtimestamp((self._first + n) * QUARTER_S, self._zone) for n in range(len(self._amounts)))
        return {day: [*quarters] for day, quarters in groupby(enumerate(times), key=lambda each: each[1].date())}

    def local(self, step: BillStep) -> datetime:
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

    def _step(self, places: Sequence[int]) -> BillStep:
        span = slice(places[0], places[-1] + 1)
        imported, exported, shared_in, shared_out = (int(self._energies[quantity][span].sum()) for quantity in _SHOWN)
        found, counts = np.unique(self._quality[span], return_counts=True)
        return BillStep(
            start=self._first + places[0],
            quarters=len(places),
            periods=tuple(dict.fromkeys(self._periods[span])),
            energies=(imported, exported, shared_in, shared_out),
            amount=Decimal(sum(self._amounts[span].tolist())).scaleb(-12),
            quality={SettledQuality(q): n for q, n in zip(found.tolist(), counts.tolist(), strict=True)},
        )


def rows_within(
    explained: ExplainedBill, day: date | None = None, hour: int | None = None, writing: Writing = DOLLARS
) -> list[Row]:
    """Return the rows of a bill's days, of a day's hours, or of an hour's quarter-hours."""
    if day is None:
        return list(rows_of(explained, explained.by_day(), "%Y-%m-%d", writing))
    steps = explained.by_hour(day) if hour is None else explained.by_quarter(day, hour)
    return list(rows_of(explained, steps, "%Y-%m-%d %H:%M %z"))


def rows_of(
    explained: ExplainedBill, steps: Sequence[BillStep], form: str, writing: Writing = DOLLARS
) -> Iterator[Row]:
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
                f"{'' if count == step.quarters else f'{count} '}{writing.say(quality.name.lower())}"
                for quality, count in sorted(step.quality.items(), reverse=True)
            ),
        }
