"""The linear program of a plan, solved by HiGHS.

In each step: bought + discharged + not supplied = need + charged + refused; the level rises by what was charged less
its loss. Reserve and supply are soft, so that every start has a plan.
"""

from collections.abc import Callable
from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHORT, UNSUPPLIED = 10.0, 1000.0
"""Price of energy missing from the reserve at the end of a step, and of load not supplied, as multiples of the dearest
price: a reserve is restored at any price, and used before anybody goes short."""

WAIT = 0.01
"""Part of a price's distance from the middle price that vanishes until the end of the horizon.

Of equal prices, cheap ones are so used at once, and dear ones as late as possible, when the need is known.
"""

# The chance that energy beyond the planned need is needed when the price has risen above the middle price.
CAUTION = 0.02
# The kinds of columns, a block for each; a block has one column a step.
BUY, CHARGE, DISCHARGE, LEVEL, MISSING, SHORTFALL, REFUSED = range(7)

_KINDS = 7
_INFINITY = highspy.kHighsInf


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """A plan to make; energy in any one unit, prices in any one unit."""

    start: float  # the level at the start
    highest: float  # the most the battery may hold
    lowest: float  # the level below which it is not discharged
    reserve: Floats  # the level wanted at the end of each step
    need: Floats  # the net load in each step; negative is residents' surplus
    until: Floats  # the part of the horizon that is over at the end of each step
    buy: Floats  # the most that can be bought in each step
    power: Floats  # the most that can be charged or discharged in each step
    price: Floats  # the price in each step
    credit: float  # the price of residents' surplus
    worth: float  # the worth of a unit of energy left in the battery at the end
    kept: float  # the part of charged energy that is not lost


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The answer: what to buy in each step, and the level at the end of each."""

    buy: Floats
    level: Floats


Solver = Callable[[Problem, float], Plan | None]
"""From a problem and the seconds it may take to a plan; ``None``: none in this time."""


class HighsSolver:
    """HiGHS, which starts from its last answer; its memory makes it faster and changes no plan's cost."""

    def __init__(self) -> None:
        self._highs = highspy.Highs()  # type: ignore[no-untyped-call]
        for option, value in (("output_flag", False), ("threads", 1), ("presolve", "off"), ("solver", "simplex")):
            self._highs.setOptionValue(option, value)
        self._built: tuple[int, float] | None = None

    def __call__(self, problem: Problem, limit_s: float) -> Plan | None:
        """Return the cheapest plan, or ``None`` if it takes longer than ``limit_s``."""
        steps, highs = len(problem.need), self._highs
        if self._built == (steps, problem.kept):
            self._change(problem)
        else:
            highs.passModel(model_of(problem))
            self._built = steps, problem.kept
        # HiGHS counts the time of all its runs.
        highs.setOptionValue("time_limit", highs.getRunTime() + limit_s)
        highs.run()
        if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            self._built = None
            return None
        found = np.asarray(highs.getSolution().col_value)
        return Plan(buy=found[:steps], level=found[LEVEL * steps : (LEVEL + 1) * steps])

    def _change(self, problem: Problem) -> None:
        low, high, cost = _columns(problem)
        least, most = _rows(problem)
        columns, rows = np.arange(len(cost), dtype=np.int32), np.arange(len(least), dtype=np.int32)
        self._highs.changeColsCost(len(cost), columns, cost)
        self._highs.changeColsBounds(len(cost), columns, low, high)
        self._highs.changeRowsBounds(  # type: ignore[attr-defined]
            len(least), rows, least, most
        )


def model_of(problem: Problem) -> highspy.HighsLp:
    """Return the linear program of a problem."""
    steps = len(problem.need)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = _KINDS * steps, 3 * steps
    model.col_lower_, model.col_upper_, model.col_cost_ = _columns(problem)
    model.row_lower_, model.row_upper_ = _rows(problem)
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = _matrix(steps, problem.kept)
    return model


def _columns(problem: Problem) -> tuple[Floats, Floats, Floats]:
    """Return the bounds and costs of the columns."""
    steps, dearest = len(problem.need), max(float(problem.price.max()), 1e-9)
    middle = (problem.price.min() + problem.price.max()) / 2
    nothing = np.zeros(steps)
    low, high, cost = (np.zeros((_KINDS, steps)) for _ in range(3))
    low[LEVEL] = min(problem.lowest, problem.start)
    high[:] = [
        problem.buy,
        problem.power,
        problem.power,
        nothing + max(problem.highest, problem.start),
        nothing + _INFINITY,
        nothing + _INFINITY,
        np.maximum(0.0, -problem.need),
    ]
    cost[BUY] = problem.price - WAIT * problem.until * (problem.price - middle)
    # The need may be larger than planned: energy held before a rise of the price has a worth of its own.
    rises = (problem.price[:-1] <= middle) & (problem.price[1:] > middle)
    cost[LEVEL, :-1] = -CAUTION * np.where(rises, np.diff(problem.price), 0.0)
    cost[LEVEL, -1] = -problem.worth
    cost[MISSING] = SHORT * dearest
    cost[SHORTFALL] = UNSUPPLIED * dearest
    cost[REFUSED] = -problem.credit
    return low.ravel(), high.ravel(), cost.ravel()


def _rows(problem: Problem) -> tuple[Floats, Floats]:
    """Return the bounds of the rows: balance, level, reserve."""
    steps = len(problem.need)
    before = np.zeros(steps)
    before[0] = problem.start
    least = np.concatenate([problem.need, before, problem.reserve])
    return least, np.concatenate([problem.need, before, np.full(steps, _INFINITY)])


def _matrix(steps: int, kept: float) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats]:
    """Return the matrix by columns: starts, rows and values."""
    step = np.arange(steps)
    balance, level, reserve = step, steps + step, 2 * steps + step
    entries = [
        (BUY, balance, 1.0),
        (CHARGE, balance, -1.0),
        (CHARGE, level, -kept),
        (DISCHARGE, balance, 1.0),
        (DISCHARGE, level, 1.0),
        (LEVEL, level, 1.0),
        (LEVEL, level + 1, -1.0),
        (LEVEL, reserve, 1.0),
        (MISSING, reserve, 1.0),
        (SHORTFALL, balance, 1.0),
        (REFUSED, balance, -1.0),
    ]
    columns = np.concatenate([kind * steps + step for kind, _, _ in entries])
    rows = np.concatenate([row for _, row, _ in entries])
    values = np.concatenate([np.full(steps, value) for _, _, value in entries])
    # The level at the end of the last step is that of no step before another.
    inside = ~((columns == (LEVEL + 1) * steps - 1) & (values == -1.0))
    columns, rows, values = columns[inside], rows[inside], values[inside]
    order = np.lexsort((rows, columns))
    starts = np.searchsorted(columns[order], np.arange(_KINDS * steps + 1))
    return starts.astype(np.int32), rows[order].astype(np.int32), values[order]
