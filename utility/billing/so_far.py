"""The bill of a month that is not over: from the days that are settled, with the tariff in force; nothing is final."""

from dataclasses import dataclass

import numpy as np

from commonwatt.model.units import AccountNumber, Quarter
from commonwatt.settlement.settled import SettledQuarters
from utility.billing.bill import Bill
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
