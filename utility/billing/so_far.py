"""The bill of a month that is not over: from the days that are settled, with the tariff in force; nothing is final."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from commonwatt.model.ids import MeterId
from commonwatt.model.units import AccountNumber, Quarter
from commonwatt.settlement.settled import SettledQuarters
from utility.billing.bill import Bill, LineKind
from utility.billing.inputs import Load, RunInputs
from utility.billing.run import bills_of


@dataclass(frozen=True, kw_only=True)
class SoFar:
    """The bills of some microgrids so far."""

    # By account; the base is that of the whole month, energy that of the settled quarters.
    bills: dict[AccountNumber, Bill]
    # The quarter after the last settled one, by account; an account without a settled quarter is absent.
    until: dict[AccountNumber, Quarter]


def bills_so_far(inputs: RunInputs, load: Load) -> SoFar:
    """Return the bills of whole microgrids for a month as they are so far, without corrections of earlier months.

    Raises:
        ConfigError: An account has no tariff in a part of the month, or the tariffs' policies do not go together.
    """
    until: dict[AccountNumber, Quarter] = {}

    def see(settled: SettledQuarters) -> None:
        for row, meter in enumerate(settled.meters.tolist()):
            for account, start, end in inputs.registry.meters[meter].held(inputs.first, inputs.until):
                there = np.flatnonzero(settled.version[row, start - settled.first : end - settled.first])
                if len(there):
                    until[account] = max(until.get(account, 0), start + int(there[-1]) + 1)

    found = bills_of(inputs, load, witness=see)
    return SoFar(bills={number: each.bill for number, each in found.billed.items()}, until=until)


def energy_of(bill: Bill) -> Decimal:
    """Return what a bill's lines for energy come to, before taxes, dollars."""
    lines = (line.amount for line in bill.lines if line.kind in (LineKind.IMPORT, LineKind.CREDIT))
    return sum(lines, Decimal(0))


def grown(inputs: RunInputs, load: Load, start: Quarter, end: Quarter) -> dict[AccountNumber, Decimal]:
    """Return what the energy from a quarter to before another one adds to each account's lines for energy, dollars.

    The figures of a month's days add up to the lines of its bill, to the cent: each is the difference of two bills.

    Raises:
        ConfigError: An account has no tariff in a part of the month, or the tariffs' policies do not go together.
    """
    before, after = (
        {number: energy_of(each.bill) for number, each in bills_of(inputs, cut_off(load, stop)).billed.items()}
        for stop in (start, end)
    )
    return {number: dollars - before.get(number, Decimal(0)) for number, dollars in after.items()}


def cut_off(load: Load, stop: Quarter) -> Load:
    """Return a function that loads settled quarter-hours, without energy from a quarter on."""

    def cut(meters: Sequence[MeterId], first: Quarter, until: Quarter) -> SettledQuarters:
        settled = load(meters, first, until)
        there = np.arange(first, until) < stop
        return replace(settled, energies={quantity: values * there for quantity, values in settled.energies.items()})

    return cut
