"""Bills as rows: one for each line of a bill."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from commonwatt.model.units import QUARTER_S
from utility.billing.bill import Bill, Line
from utility.exports.columns import Rows

AT_ONCE = 10_000  # bills whose rows are in memory at once

_Cell = Callable[[Bill, int, Line], object]

_CELLS: dict[str, _Cell] = {
    "account": lambda bill, _, __: bill.account,
    "month": lambda bill, _, __: bill.month,
    "start_utc": lambda bill, _, __: bill.start * QUARTER_S,
    "end_utc": lambda bill, _, __: bill.end * QUARTER_S,
    "policy": lambda bill, _, __: bill.policy,
    "tariff": lambda bill, _, __: ", ".join(bill.tariff),
    "line": lambda _, number, __: number,
    "kind": lambda _, __, line: line.kind.value,
    "text": lambda _, __, line: line.text,
    "period": lambda _, __, line: line.period,
    "energy_milliwatt_hours": lambda _, __, line: line.energy,
    "rate_dollars_per_kilowatt_hour": lambda _, __, line: "" if line.rate is None else f"{line.rate:f}",
    "amount_dollars": lambda _, __, line: line.amount,
    "total_dollars": lambda bill, _, __: bill.total,
    "reason": lambda _, __, line: line.reason,
    "corrected_month": lambda _, __, line: line.month,
    "provisional_quarters": lambda bill, _, __: bill.provisional,
    "estimated_quarters": lambda bill, _, __: bill.estimated,
    "missing_quarters": lambda bill, _, __: bill.missing,
}
_TIMES = ("start_utc", "end_utc")


def bill_rows(bills: Sequence[Bill]) -> Iterator[Rows]:
    """Yield the rows of ``BILLS_TABLE`` of some bills, ``AT_ONCE`` bills at a time."""
    for begin in range(0, len(bills), AT_ONCE):
        lines = [(bill, n, line) for bill in bills[begin : begin + AT_ONCE] for n, line in enumerate(bill.lines, 1)]
        rows: dict[str, list[object]] = {name: [cell(*one) for one in lines] for name, cell in _CELLS.items()}
        yield rows | {name: np.array(rows[name], np.int64) for name in _TIMES}
