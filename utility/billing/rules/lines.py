"""The lines of a bill from an account's energy: exact amounts, rounded once at their sum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from commonwatt.model.units import AccountNumber, MilliwattHours, Quarter
from utility.billing.bill import (
    LINE_ROWS,
    Bill,
    BillLine,
    LineKind,
    base_amount,
    dollars,
    energy_amount,
    price_units,
    rounded,
    tax_cents,
    to_cents,
)
from utility.billing.inputs import RunInputs, Segment
from utility.billing.rules.policies import POLICIES, BillingPolicy
from utility.billing.rules.sums import AccountSums, BilledFlow, whole_cents
from utility.tariffs.tariff import Tariff

_CREDITS = {
    BilledFlow.CREDIT: "Credit",
    BilledFlow.BUILDING_CREDIT: "Credit, part of the building's",
    BilledFlow.FARM_CREDIT: "Credit, part of the solar farm's",
    BilledFlow.MICROGRID_CREDIT: "Credit, part of the microgrid's",
}


@dataclass(frozen=True, kw_only=True)
class Billed:
    """A bill, with what the next one needs."""

    bill: Bill  # the bill
    # The account's own base from the next month on, dollars; ``None``: the policy keeps none.
    base: Decimal | None = None


@dataclass(slots=True)
class _Draft:
    """A line before it is rounded; ``amount`` is exact, in the unit of the month."""

    tariff: Tariff
    kind: LineKind
    text: str
    period: str
    energy: MilliwattHours | None
    rate: Decimal | None
    amount: int
    is_building: bool = False  # it is a part of a building's credit


def base_after(inputs: RunInputs, bill: Bill) -> Decimal | None:
    """Return the account's own base from the next month on, as its bill's own lines give it; ``None``: none is kept."""
    own = inputs.bases.get(bill.account)
    segments = inputs.within(bill.account, bill.start, bill.end)
    if not segments:
        return own
    cents = to_cents(sum((line.amount for line in bill.lines if LINE_ROWS[line.kind].is_own), Decimal(0)))
    policy, last = POLICIES[bill.policy], segments[-1].tariff
    return policy.next_base(last, policy.base(last, own), cents)


class BillWriter:
    """Writes bills of one month."""

    def __init__(self, inputs: RunInputs) -> None:
        self._inputs = inputs
        self._policy: BillingPolicy = POLICIES[inputs.used[0].policy.name]
        self._rates: dict[Segment, tuple[list[int], list[int], tuple[Decimal, ...]]] = {}

    def bills(self, accounts: Mapping[AccountNumber, AccountSums]) -> dict[AccountNumber, Billed]:
        """Return the bills of all accounts of some microgrids, by account."""
        drafts = {number: self._drafts(number, sums) for number, sums in sorted(accounts.items())}
        self._round_buildings(accounts, drafts)
        return {number: self._bill(number, accounts[number], lines) for number, lines in drafts.items()}

    def _round_buildings(
        self, accounts: Mapping[AccountNumber, AccountSums], drafts: dict[AccountNumber, list[_Draft]]
    ) -> None:
        """Round the credits of each building's apartments, so that they add up to the building's cents."""
        apartments: dict[object, list[AccountNumber]] = {}
        for number in drafts:
            if (building := accounts[number].building) is not None:
                apartments.setdefault(building, []).append(number)
        for numbers in apartments.values():
            exact = [[draft.amount for draft in drafts[number] if draft.is_building] for number in numbers]
            for number, amounts in zip(numbers, whole_cents(exact, self._inputs.length), strict=True):
                left = iter(amounts)
                drafts[number] = [replace(d, amount=next(left)) if d.is_building else d for d in drafts[number]]

    def _segments(self, number: AccountNumber, sums: AccountSums) -> Sequence[Segment]:
        return self._inputs.within(number, min(a for a, _ in sums.spans), max(b for _, b in sums.spans))

    def _drafts(self, number: AccountNumber, sums: AccountSums) -> list[_Draft]:
        segments = self._segments(number, sums)
        return [*self._bases(number, segments, sums, self._inputs.bases.get(number)), *self._energies(segments, sums)]

    def _bill(self, number: AccountNumber, sums: AccountSums, drafts: Sequence[_Draft]) -> Billed:
        inputs, policy = self._inputs, self._policy
        segments, own = self._segments(number, sums), inputs.bases.get(number)
        total, cents = rounded([draft.amount for draft in drafts], inputs.length)
        lines = [
            BillLine(kind=d.kind, text=d.text, period=d.period, energy=d.energy, rate=d.rate, amount=dollars(part))
            for d, part in zip(drafts, cents, strict=True)
        ]
        if total < 0:
            text = "Credit beyond the other lines lapses"
            lines.append(BillLine(kind=LineKind.LAPSED, text=text, amount=dollars(-total)))
        taxes = _taxes(drafts, cents)
        lines += [*taxes, *_information(sums)]
        provisional, estimated, missing = (0, 0, 0) if sums.flags is None else sums.flags.counts()
        last = segments[-1].tariff
        return Billed(
            bill=Bill(
                account=number,
                month=inputs.month,
                start=min(a for a, _ in sums.spans),
                end=max(b for _, b in sums.spans),
                tariff=tuple(dict.fromkeys(segment.tariff.label for segment in segments)),
                policy=policy.name,
                lines=tuple(lines),
                total=sum((tax.amount for tax in taxes), dollars(max(0, total))),
                provisional=provisional,
                estimated=estimated,
                missing=missing,
            ),
            base=policy.next_base(last, policy.base(last, own), total),
        )

    def _bases(
        self, number: AccountNumber, segments: Sequence[Segment], sums: AccountSums, own: Decimal | None
    ) -> list[_Draft]:
        """Return the base of each segment, for the quarters in which the account had a meter."""
        inputs = self._inputs
        found = []
        spans, rule = _union(sums.spans), segments[0].tariff.policy.base_of_part_month
        if rule == "whole":
            spans = [(inputs.first, inputs.until)]
            segments = inputs.segments(number)
        whole, unit = (len(inputs.day_ends), "days") if rule == "by_day" else (inputs.length, "quarter-hours")
        for segment in segments:
            if rule == "by_day":
                within = ((max(a, segment.start), min(b, segment.end)) for a, b in spans)
                count = sum(a <= end < b for a, b in within for end in inputs.day_ends)
            else:
                count = sum(max(0, min(b, segment.end) - max(a, segment.start)) for a, b in spans)
            base = self._policy.base(segment.tariff, own)
            amount = base_amount(base, count * inputs.length) // whole
            part = "" if count == whole else f", {count} of {whole} {unit}"
            text = f"Base{part}{self._suffix(segments, segment)}"
            found.append(_Draft(segment.tariff, LineKind.BASE, text, "", None, base, amount))
        return found

    def _energies(self, segments: Sequence[Segment], sums: AccountSums) -> list[_Draft]:
        found: list[_Draft] = []
        length = self._inputs.length
        for segment in segments:
            imports, credits_, earned = self._prices(segment)
            suffix = self._suffix(segments, segment)
            taken = sums.energies.get((segment, BilledFlow.IMPORT), ())
            for price, rate, energy in zip(segment.tariff.prices, imports, taken, strict=False):
                text = f"Import, {price.name}{suffix}"
                amount = energy_amount(energy, rate, length)
                found.append(_Draft(segment.tariff, LineKind.IMPORT, text, price.name, energy, price.import_, amount))
            for flow, words in _CREDITS.items():
                given = sums.energies.get((segment, flow), ())
                for number, energy in enumerate(given):
                    if energy:
                        name = segment.tariff.prices[number].name
                        amount = -energy_amount(energy, credits_[number], length)
                        text = f"{words}, {name}{suffix}"
                        is_building = flow is BilledFlow.BUILDING_CREDIT
                        of = (segment.tariff, LineKind.CREDIT, text, name, energy, earned[number], amount)
                        found.append(_Draft(*of, is_building=is_building))
        return found

    def _prices(self, segment: Segment) -> tuple[list[int], list[int], tuple[Decimal, ...]]:
        """Return the prices of import and credit in millionths of a dollar, and those of credit in dollars."""
        if segment not in self._rates:
            prices = self._policy.credit_prices(segment.tariff)
            imports = [price_units(price.import_) for price in segment.tariff.prices]
            self._rates[segment] = imports, [price_units(price) for price in prices], prices
        return self._rates[segment]

    @staticmethod
    def _suffix(segments: Sequence[Segment], segment: Segment) -> str:
        return f", {segment.tariff.label}" if len(segments) > 1 else ""


def _taxes(drafts: Sequence[_Draft], cents: Sequence[int]) -> list[BillLine]:
    """Return the taxes of each version of a tariff, on the cents of its own lines."""
    tariffs, found = {draft.tariff.label: draft.tariff for draft in drafts}, []
    for label, tariff in tariffs.items():
        if not tariff.file.tax:
            continue
        ours = [(draft, part) for draft, part in zip(drafts, cents, strict=True) if draft.tariff.label == label]
        base, import_, credit = (
            sum(part for d, part in ours if d.kind is kind)
            for kind in (LineKind.BASE, LineKind.IMPORT, LineKind.CREDIT)
        )
        amounts = {"base": base, "import": import_}
        energy = sum(draft.energy or 0 for draft, _ in ours if draft.kind is LineKind.IMPORT)
        for tax in tariff.file.tax:
            on = sum(amounts[name] for name in tax.on)
            if tax.credit == "taxed":
                on = max(0, on + credit)
            amounts[tax.name] = tax_cents(tax, on, energy)
            text = tax.name + (f", {label}" if len(tariffs) > 1 else "")
            line = BillLine(kind=LineKind.TAX, text=text, amount=dollars(amounts[tax.name]), rate=tax.per_kwh)
            words = f"{tax.percent} % of {dollars(on)}"
            found.append(replace(line, reason=words) if tax.percent is not None else replace(line, energy=energy))
    return found


def _information(sums: AccountSums) -> list[BillLine]:
    """Return the lines without an amount: what was shared inside the microgrid, only as totals (C4)."""
    each = (("taken from neighbours", sums.shared_in), ("given to neighbours", sums.shared_out))
    return [
        BillLine(kind=LineKind.INFORMATION, text=f"Shared within the microgrid, without charge: {words}", energy=energy)
        for words, energy in each
        if energy
    ]


def _union(spans: Sequence[tuple[Quarter, Quarter]]) -> list[tuple[Quarter, Quarter]]:
    """Return spans that overlap or meet as one."""
    found: list[tuple[Quarter, Quarter]] = []
    for start, end in sorted(set(spans)):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found
