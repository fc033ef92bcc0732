"""``planner``: the cheapest purchases for the next two days, planned anew each quarter-hour."""

from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.supply.buying.program import HighsSolver, Plan, Problem, Solver
from utility.supply.buying.rules import AcesRule, by_price
from utility.supply.buying.situation import MAX_HORIZON, Policy, Purchase, Situation
from utility.supply.forecast import Energies, planned_need

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

    def __call__(self, situation: Situation) -> Purchase:
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

    def _by_rule(self, situation: Situation, why: str) -> Purchase:
        purchase = self._fallback(situation)
        return Purchase(energy=purchase.energy, reason=f"{why}; by rule: {purchase.reason}")


def steps_of(situation: Situation) -> NDArray[np.int64]:
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


def problem_of(situation: Situation, edges: NDArray[np.int64], unit: float, forecast: Need) -> Problem:
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


def _reserve(situation: Situation, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the level wanted at the end of each step: the reserve, from the begin to the end of a storm all."""
    wanted = np.full(len(edges) - 1, situation.plant.reserve, np.int64)
    if situation.storm is not None:
        begins, ends = (situation.now + QUARTER_S * part for part in (edges[:-1], edges[1:]))
        wanted[(ends >= situation.storm.start) & (begins < situation.storm.end)] = situation.plant.capacity
    return wanted


def _reason(situation: Situation, problem: Problem, plan: Plan) -> str:
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
