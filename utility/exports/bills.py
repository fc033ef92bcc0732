"""Bills as rows: one for each line of a bill."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from commonwatt.model.units import QUARTER_S
from utility.billing.bill import Bill, Line
from utility.exports.columns import Rows

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


def bill_rows(bills: Sequence[Bill], at_once: int = 10_000) -> Iterator[Rows]:
    """Yield the rows of ``BILLS_TABLE`` of some bills, so many bills at a time."""
    for begin in range(0, len(bills), at_once):
        lines = [(bill, n, line) for bill in bills[begin : begin + at_once] for n, line in enumerate(bill.lines, 1)]
        rows: dict[str, list[object]] = {name: [cell(*one) for one in lines] for name, cell in _CELLS.items()}
        yield rows | {name: np.array(rows[name], np.int64) for name in _TIMES}
