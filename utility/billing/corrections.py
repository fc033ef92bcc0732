"""Corrections: what earlier bills would be with the data of now, as lines of the next bill (row 21 of the faults).

An issued bill stays. Its month is computed again with the base that it had, and the difference to what was billed for
that month so far becomes a line with its reason. A correction in favour of an account takes at most what the new bill
is without it; the rest follows on later bills, since it is still the difference to what was billed. So do the lines
that people entered. A final bill, of an account that moved out, takes all at once, and may be negative.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

from commonwatt.model.units import AccountNumber, MilliwattHours
from utility.billing.bill import LINE_ROWS, Bill, Line, LineKind
from utility.billing.entries import ENTRY_WORDS, Entry
from utility.billing.inputs import Load, RunInputs
from utility.billing.lines import Billed
from utility.billing.money import dollars, to_cents
from utility.billing.policies import POLICIES
from utility.billing.run import Progress, Result, bills_of


class BilledMonth(NamedTuple):
    """What an account was billed for a month."""

    cents: int = 0  # the bill's own lines, and the corrections of that month since, cents
    taken: MilliwattHours = 0  # import on the bill, milliwatt-hours
    given: MilliwattHours = 0  # energy with credit on the bill, milliwatt-hours
    taxes: int = 0  # what of ``cents`` is taxes


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A month with issued bills."""

    inputs: RunInputs  # the registry and the tariffs of now, with the bases that its bills had
    billed: Mapping[AccountNumber, BilledMonth]  # what was billed for it, by account
    corrects: Collection[str] = ()  # the versions with corrected prices by which it was billed already

    def reason(self, number: AccountNumber, was: BilledMonth, now: BilledMonth) -> str:
        """Return why an account's bill of it is corrected: by other prices, by other energies, or by both."""
        tariffs = {each.tariff.label: each.tariff.file.tariff.corrects for each in self.inputs.segments(number)}
        prices = [f"prices of {n}: {why}" for n, why in tariffs.items() if why and n not in self.corrects]
        energies = (
            f"computed again with what is known now: import {_kwh(now.taken)} kWh, billed were {_kwh(was.taken)}; "
            f"with credit {_kwh(now.given)} kWh, billed were {_kwh(was.given)}"
        )
        is_price = prices and (now.taken, now.given) == (was.taken, was.given)
        return "; ".join(prices if is_price else [*prices, energies])


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """Bills with corrections."""

    billed: dict[AccountNumber, Billed]  # the bills, by account
    open_cents: int  # the corrections in favour of accounts that the new bills had no room for, not positive


def billed_month(bill: Bill) -> BilledMonth:
    """Return what a bill billed for its own month."""
    own = [line for line in bill.lines if LINE_ROWS[line.kind].is_of_month]
    taken, given = (
        sum(line.energy or 0 for line in own if line.kind is kind) for kind in (LineKind.IMPORT, LineKind.CREDIT)
    )
    taxes = sum(to_cents(line.amount) for line in own if line.kind is LineKind.TAX)
    return BilledMonth(cents=sum(to_cents(line.amount) for line in own), taken=taken, given=given, taxes=taxes)


def with_corrections(
    inputs: RunInputs,
    result: Result,
    earlier: Sequence[Earlier],
    load: Load,
    progress: Progress | None = None,
    entries: Sequence[Entry] = (),
    finals: Collection[AccountNumber] = (),
) -> Corrected:
    """Return the bills of a run with corrections of earlier months, the oldest first, and then what people entered.

    Args:
        result: The run's bills.
        earlier: The months with issued bills, the oldest first.
        load: Returns settled quarter-hours as they are known now.
        progress: Called after each loading.
        entries: What people entered; fees come first, so that what is in favour of an account meets them.
        finals: The accounts that moved out.
    """
    billed = {n: replace(it, bill=replace(it.bill, is_final=n in finals)) for n, it in result.billed.items()}
    left = 0
    for month in earlier:
        again = bills_of(month.inputs, load, progress).billed
        for number in sorted(again.keys() | month.billed.keys()):
            was = month.billed.get(number, BilledMonth())
            now = billed_month(again[number].bill) if number in again else BilledMonth()
            difference, taxes = now.cents - was.cents, now.taxes - was.taxes
            if not difference and not taxes:
                continue
            target = billed.get(number) or _empty(inputs, number, is_final=number in finals)
            taken = _room(target.bill, difference)
            left += difference - taken
            if taken or not difference:
                name, why = month.inputs.month, month.reason(number, was, now)
                # A part of a correction has its part of the taxes; the last part has what is left of them.
                part = taxes if taken == difference else round(Fraction(taxes * taken, difference))
                text = f"Correction of {name}"
                billed[number] = _with(target, LineKind.CORRECTION, text, taken, why, month=name, tax_cents=part)
    for entry in sorted(entries, key=lambda entry: (entry.cents < 0, entry.no)):
        target = billed.get(entry.account) or _empty(inputs, entry.account, is_final=entry.account in finals)
        if taken := _room(target.bill, entry.cents):
            words = ENTRY_WORDS[entry.kind]
            billed[entry.account] = _with(target, LineKind.ENTRY, words, taken, entry.reason, entry=entry.no)
    return Corrected(billed=dict(sorted(billed.items())), open_cents=left)


def _with(target: Billed, kind: LineKind, text: str, cents: int, reason: str, **more: Any) -> Billed:
    line, bill = Line(kind=kind, text=text, amount=dollars(cents), reason=reason, **more), target.bill
    return replace(target, bill=replace(bill, lines=(*bill.lines, line), total=bill.total + line.amount))


def _room(bill: Bill, cents: int) -> int:
    """Return what of an amount a bill has room for: what is in favour of its account takes at most what it is."""
    return cents if bill.is_final else max(cents, -to_cents(bill.total))


def _empty(inputs: RunInputs, number: AccountNumber, *, is_final: bool) -> Billed:
    """Return a bill without lines, for the correction of an account that had no meter in the month."""
    policy = POLICIES[inputs.used[0].policy.name]
    bill = Bill(
        account=number,
        month=inputs.month,
        start=inputs.first,
        end=inputs.first,
        tariff=(),
        policy=policy.name,
        lines=(),
        total=dollars(0),
        is_final=is_final,
    )
    return Billed(bill=bill, base=inputs.bases.get(number))


def _kwh(energy: MilliwattHours) -> str:
    return f"{energy // 10**6}.{energy % 10**6 // 1000:03d}"
