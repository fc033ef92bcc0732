"""``planner``: the cheapest purchases for two days, planned anew each quarter-hour; all policies by name.

The linear program of a plan is solved by HiGHS. In each step: bought + discharged + not supplied = need + charged +
refused; the level rises by what was charged less its loss. Reserve and supply are soft, so that every start has a plan.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.supply.buying import MAX_HORIZON, AcesRule, BuyFacts, Policy, Purchase, RangersRule, SpecRule, by_price
from utility.supply.deciding import Energies, planned_need

if TYPE_CHECKING:
    import highspy

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
_INFINITY = float("inf")


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
class BuyingPlan:
    """The answer: what to buy in each step, and the level at the end of each."""

    buy: Floats
    level: Floats


Solver = Callable[[Problem, float], BuyingPlan | None]
"""From a problem and the seconds it may take to a plan; ``None``: none in this time."""


class HighsSolver:
    """HiGHS, which starts from its last answer; its memory makes it faster and changes no plan's cost."""

    def __init__(self) -> None:
        import highspy  # It takes 5 MB, which the other policies do not need.

        self._optimal = highspy.HighsModelStatus.kOptimal
        self._highs = highspy.Highs()  # type: ignore[no-untyped-call]
        for option, value in (("output_flag", False), ("threads", 1), ("presolve", "off"), ("solver", "simplex")):
            self._highs.setOptionValue(option, value)
        self._built: tuple[int, float] | None = None

    def __call__(self, problem: Problem, limit_s: float) -> BuyingPlan | None:
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
        if highs.getModelStatus() != self._optimal:
            self._built = None
            return None
        found = np.asarray(highs.getSolution().col_value)
        return BuyingPlan(buy=found[:steps], level=found[LEVEL * steps : (LEVEL + 1) * steps])

    def _change(self, problem: Problem) -> None:
        low, high, cost = _columns(problem)
        least, most = _rows(problem)
        columns, rows = np.arange(len(cost), dtype=np.int32), np.arange(len(least), dtype=np.int32)
        self._highs.changeColsCost(len(cost), columns, cost)
        self._highs.changeColsBounds(len(cost), columns, low, high)
        self._highs.changeRowsBounds(  # type: ignore[attr-defined]
            len(least), rows, least, most
        )


def model_of(problem: Problem) -> "highspy.HighsLp":
    """Return the linear program of a problem."""
    import highspy

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


LIMIT_S = 0.1  # seconds after which the fallback decides
LEAST_PERMILLE, MOST_PERMILLE = 500, 900  # bounds of the quantile of the need that is planned for, thousandths
# ``planned_need``, or another forecast with its arguments.
Need = Callable[[EpochSeconds, NDArray[np.int64], Energies, ZoneInfo, int], Energies]

_SMALL = 1e-6
_HOUR = 4
_NEAR = 7
_HOURS = 44


class Planner:
    """Plans with one solver; the same situation gives the same cost, however often it was asked before.

    Args:
        solve: The solver.
        fallback: The rule that decides without a plan.
        need: The forecast.
        limit_s: Seconds after which the fallback decides.
    """

    def __init__(
        self,
        solve: Solver | None = None,
        fallback: Policy | None = None,
        need: Need = planned_need,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._limit_s = limit_s
        self._solve = solve or HighsSolver()
        self._fallback = fallback or AcesRule(peak=by_price)
        self._need = need

    def __call__(self, situation: BuyFacts) -> Purchase:
        """Return the purchase for the next quarter-hour."""
        if not len(situation.history):
            return self._by_rule(situation, "no history to plan from")
        unit = max(1, situation.plant.capacity) / 100
        edges = steps_of(situation)
        problem = problem_of(situation, edges, unit, self._need)
        plan = self._solve(problem, self._limit_s)
        if plan is None:
            return self._by_rule(situation, f"no plan within {self._limit_s * 1000:g} ms")
        energy = min(max(0, round(float(plan.buy[0]) * unit)), situation.plant.line_quarter)
        return Purchase(energy=energy, reason=_reason(situation, problem, plan))

    def _by_rule(self, situation: BuyFacts, why: str) -> Purchase:
        purchase = self._fallback(situation)
        return Purchase(energy=purchase.energy, reason=f"{why}; by rule: {purchase.reason}")


def steps_of(situation: BuyFacts) -> NDArray[np.int64]:
    """Return the edges of the steps in quarters from now: quarters for one to two hours, then whole hours.

    The number of steps is always the same, some have no length: so a plan starts from the last one's answer.
    """
    quarter = situation.now // QUARTER_S
    near = _HOUR + -quarter % _HOUR
    edges = np.concatenate([np.minimum(np.arange(_NEAR + 1), near), near + _HOUR * np.arange(1, _HOURS + 1)])
    return np.asarray(np.minimum(edges, min(MAX_HORIZON, len(situation.prices))), np.int64)


def quantile_permille(prices: NDArray[np.int64]) -> int:
    """Return the quantile of the need to plan for, thousandths.

    It is the newsvendor's ratio (Arrow, Harris, Marschak, *Econometrica* 19, 1951, 250-272): a unit that lacks is
    bought at a dear price instead of a cheap one; a unit to spare was bought at a cheap price, and takes the place of
    one at the cheapest price. With two prices energy to spare costs nothing, and the quantile is the highest.

    Args:
        prices: The price in each quarter-hour to come, at least one; those above the middle are dear.
    """
    dear = 2 * prices > prices.min() + prices.max()
    if not dear.any():
        return MOST_PERMILLE
    cheap = float(prices[~dear].mean())
    short, spare = float(prices[dear].mean()) - cheap, cheap - int(prices.min())
    return min(max(LEAST_PERMILLE, round(1000 * short / (short + spare))), MOST_PERMILLE)


def problem_of(situation: BuyFacts, edges: NDArray[np.int64], unit: float, forecast: Need) -> Problem:
    """Return the problem of a situation in steps, with energy in multiples of ``unit`` milliwatt-hours."""
    plant, length = situation.plant, np.diff(edges)
    permille = quantile_permille(situation.prices[: edges[-1]])
    need = forecast(situation.now, edges, situation.history, situation.zone, permille)
    price = _step_prices(situation.prices[: edges[-1]], edges)
    scale = max(1.0, float(price.max()))
    kept = (1000 - plant.loss_permille) / 1000
    return Problem(
        start=plant.level / unit,
        highest=plant.capacity / unit,
        lowest=plant.floor / unit,
        reserve=_reserve(situation, edges) / unit,
        need=need / unit,
        buy=length * (plant.line_quarter / unit),
        until=edges[1:] / max(1, edges[-1]),
        power=length * (plant.power_quarter / unit),
        price=price / scale,
        credit=situation.credit / scale,
        worth=0.999 * float(price.min()) / scale / kept,
        kept=kept,
    )


def _step_prices(prices: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean price in each step; in a step without length that of its moment."""
    sums, length = np.concatenate([[0], np.cumsum(prices)]), np.diff(edges)
    moments = prices[np.minimum(edges[:-1], len(prices) - 1)]
    return np.where(length > 0, np.diff(sums[edges]) / np.maximum(length, 1), moments)


def _reserve(situation: BuyFacts, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the level wanted at the end of each step: the reserve, from the begin to the end of a storm all."""
    wanted = np.full(len(edges) - 1, situation.plant.reserve, np.int64)
    if situation.storm is not None:
        begins, ends = (situation.now + QUARTER_S * part for part in (edges[:-1], edges[1:]))
        wanted[(ends >= situation.storm.start) & (begins < situation.storm.end)] = situation.plant.capacity
    return wanted


def _reason(situation: BuyFacts, problem: Problem, plan: BuyingPlan) -> str:
    """Return in words what the plan does in the next quarter-hour."""
    storm, end = situation.storm, situation.now + QUARTER_S
    at = f"at {problem.price[0] / max(1e-9, float(problem.price.min())):.2f} times the cheapest price to come"
    if storm is not None and storm.start < end:
        return f"storm: the battery is kept as full as line and load allow, {at}"
    if plan.level[0] < problem.reserve[0] - _SMALL:
        return f"below the reserve: as much as line and battery allow, {at}"
    if plan.level[0] > problem.start + _SMALL:
        return f"the load, and energy for {'a storm' if storm is not None else 'later'}, {at}"
    if plan.level[0] < problem.start - _SMALL:
        return f"the battery serves, the line what the battery does not, {at}"
    return f"the load only, the battery waits, {at}"


POLICIES: Mapping[str, Callable[[], Policy]] = MappingProxyType(
    {"spec": SpecRule, "aces": AcesRule, "rangers": RangersRule, "planner": Planner}
)
"""From a name to the function that makes the policy with its defaults."""
