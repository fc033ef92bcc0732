"""What each policy of buying costs over a year, against a bound that no policy can beat.

``python -m benchmarks.planner --seeds 20`` runs more seeds in two processes, and only prints the tables.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.model.units import QUARTER_S, EpochSeconds
from harness.docs.measured import Goal, Section, Table, number, percentile
from harness.supply.bound import strict_bound
from harness.supply.town import BEGIN
from harness.supply.worlds import WORLDS
from harness.supply.year import PLANT, World, Year, run
from utility.supply.buying.planner import Planner
from utility.supply.buying.policies import POLICIES
from utility.supply.buying.rules import AcesRule, RangersRule, SpecRule, by_price
from utility.supply.buying.situation import Policy
from utility.supply.forecast import Energies, planned_need

PLANNER, ACES = "planner", "aces"
PRICED = ", by price"
HOURLY, CHANGED, STORMS = "a price each hour", "N4, a change for good", "storms"
ORDINARY = ("two prices", "two prices, cloudy")  # the worlds of which whole years are run
KNOWN_H = (0, 4, 8, 12, 24, 48)  # hours for which the planner gets the need, to see what not knowing it costs
SHORT_DAYS = 91  # scored days in the other worlds

LIMITED_BY = "The next day's load is not known; see docs/supply.md."

Result = tuple[float | None, dict[str, Year]]  # one world of one seed: the strict bound, and each policy's year
Found = dict[str, list[Result]]  # by world, the result of each seed
Job = tuple[str, int, int]  # the name of a world, a seed, and scored days


def policies() -> Mapping[str, Callable[[], Policy]]:
    """Return how to make each policy; rules with peak hours by the clock and by the prices."""
    priced: dict[str, Callable[[], Policy]] = {
        "spec" + PRICED: partial(SpecRule, peak=by_price),
        ACES + PRICED: partial(AcesRule, peak=by_price),
        "rangers" + PRICED: partial(RangersRule, peak=by_price),
    }
    return {**{name: each for name, each in POLICIES.items() if name != PLANNER}, **priced, PLANNER: POLICIES[PLANNER]}


def bench(*, smoke: bool = False) -> Section:
    """Compare all policies with one seed."""
    return section(measured(1, 2 if smoke else 365, 2 if smoke else SHORT_DAYS), 1)


def measured(
    seeds: int, days: int, short_days: int, run_jobs: Callable[..., Iterable[Result]] = map, minutes: float = np.inf
) -> Found:
    """Run all policies in all worlds, with equal reserves.

    Args:
        seeds: The number of seeds.
        days: Scored days of the ordinary worlds.
        short_days: Scored days of the others, at most ``days``.
        run_jobs: Applies ``one`` to jobs, in their order; a pool's ``map`` runs them at the same time.
        minutes: No seed begins after this time; those that have begun are finished.
    """
    found: Found = {name: [] for name in WORLDS}
    begun = time.monotonic()
    for seed in range(1, seeds + 1):
        if time.monotonic() - begun > 60 * minutes:
            break
        jobs = [(name, seed, days if name in ORDINARY else min(days, short_days)) for name in WORLDS]
        for (name, _, _), result in zip(jobs, run_jobs(one, jobs), strict=True):
            found[name].append(result)
            print(f"  {name}, seed {seed}: {_line(result)}", flush=True)
    return found


def one(job: Job) -> Result:
    """Return what each policy makes of one world."""
    name, seed, days = job
    world = WORLDS[name](seed, days)
    years = {policy: run(each(), world) for policy, each in policies().items()}
    # In storms the reserve is there to be used: no bound with a whole reserve.
    return None if name == STORMS else bound_of(world), years


def bound_of(world: World) -> float:
    """Return the strict bound of a world, in the unit of ``Year.cost``."""
    part = world.scored
    prices = world.prices[part]
    return strict_bound(PLANT, world.net[part], prices, world.line[part] * 250, world.credit, int(prices.min())) / 1000


def _line(result: Result) -> str:
    bound, years = result
    return ", ".join(f"{name} {year.cost / (bound or years[ACES].cost):.4f}" for name, year in years.items())


def section(found: Found, seeds: int) -> Section:
    """Return the section of the page."""
    return Section(
        title="Buying for the town, over a year",
        about=f"A synthetic town as its plant sees it, {seeds} seed{'s' if seeds > 1 else ''}; two prices: "
        f"{_days(found, ORDINARY[0])} days, other worlds {_days(found, STORMS)} days. Every policy has the same plant "
        "(12 h of mean load, power for 4 h, 10 % lost in charging), the same reserve (25 %) and starts at 50 %. Cost "
        "is what the regional grid and residents' exports are paid, less the worth of the battery's content at the "
        "end, divided by the strict bound: a linear program over the whole time that knows it beforehand. In storms "
        "the cost is divided by the cost of *aces*.",
        tables=(_costs(found, seeds), _service(found), _times(found), _knowing(_days(found, HOURLY))),
        goals=_goals(found),
    )


def _days(found: Found, world: str) -> int:
    return len(found[world][0][1][PLANNER].seconds) // 96


def _ratios(found: Found, world: str, policy: str) -> list[float]:
    return [years[policy].cost / (bound or years[ACES].cost) for bound, years in found[world]]


def _costs(found: Found, seeds: int) -> Table:
    rows = []
    for policy in policies():
        cells = []
        for world in found:
            ratios = _ratios(found, world, policy)
            cells.append(f"{np.mean(ratios):.4f}" + (f" (at most {max(ratios):.4f})" if seeds > 1 else ""))
        rows.append((policy, *cells))
    return Table(title="Cost, as a multiple of the strict bound", columns=("policy", *found), rows=tuple(rows))


def _service(found: Found) -> Table:
    rows = []
    for policy in policies():
        years = [years[policy] for results in found.values() for _, years in results]
        storms = [years[policy] for _, years in found[STORMS]]
        rows.append(
            (
                policy,
                number(sum(year.unserved for year in years if year not in storms) / 1e9),
                number(sum(year.unserved for year in storms) / 1e9),
                number(sum(year.refused for year in years) / 1e9),
            )
        )
    columns = ("policy", "not served", "not served in storms", "exports refused")
    return Table(title="Energy, MWh", columns=columns, rows=tuple(rows))


def _times(found: Found) -> Table:
    seconds = [s for results in found.values() for _, years in results for s in years[PLANNER].seconds]
    late = sum(years[PLANNER].fallbacks for results in found.values() for _, years in results)
    row = (
        number(len(seconds)),
        number(1000 * median(seconds)),
        number(1000 * percentile(seconds, 99)),
        number(1000 * max(seconds)),
        str(late),
    )
    columns = ("plans", "median, ms", "99th percentile, ms", "longest, ms", "left to the rule")
    return Table(title="CPU time of a plan", columns=columns, rows=(row,))


def _knowing(days: int) -> Table:
    """Return what a planner costs that knows the need of the next hours."""
    world = WORLDS[HOURLY](1, days)
    bound = bound_of(world)
    rows = [
        (str(hours), f"{run(Planner(need=partial(_known, world, 4 * hours)), world).cost / bound:.4f}")
        for hours in KNOWN_H
    ]
    columns = ("hours known", "cost")
    return Table(
        title=f"*planner* if it knew the need of the next hours, {HOURLY}, seed 1", columns=columns, rows=tuple(rows)
    )


def _known(
    world: World, quarters: int, now: EpochSeconds, edges: Energies, history: Energies, zone: ZoneInfo, permille: int
) -> Energies:
    """Return the forecast, but the need itself in all steps that end within some quarter-hours."""
    place = (now - BEGIN) // QUARTER_S
    sums = np.concatenate([[0], np.cumsum(world.net[place : place + int(edges[-1])])])
    exact = np.diff(sums[np.minimum(edges, len(sums) - 1)])
    return np.where(edges[1:] <= quarters, exact, planned_need(now, edges, history, zone, permille))


def _goals(found: Found) -> tuple[Goal, ...]:
    goals = []
    for world in ORDINARY:
        planned, aces = (_ratios(found, world, policy) for policy in (PLANNER, ACES))
        above = max(p / a for p, a in zip(planned, aces, strict=True))
        goals.append(_goal(f"*planner* above the strict bound, {world}, the worst seed", 100 * (max(planned) - 1), 0.5))
        goals.append(_goal(f"*planner* above *aces*, {world}, the worst seed", 100 * (above - 1), 0.1))
    for world in (HOURLY, CHANGED):
        # In N4 a rule that reads the new peak hours off the prices needs no plan; a rule as written needs one.
        rivals = [policy for policy in policies() if policy != PLANNER and (world == HOURLY or PRICED not in policy)]
        best = min(float(np.mean(_ratios(found, world, policy))) for policy in rivals)
        below = float(np.mean(_ratios(found, world, PLANNER))) / best
        goals.append(_goal(f"*planner* above the best rule, {world}", 100 * (below - 1), -1))
    least = min(_unserved(found, policy) for policy in policies() if policy != PLANNER)
    more = max(0.0, _unserved(found, PLANNER) - least)
    seconds = [s for results in found.values() for _, years in results for s in years[PLANNER].seconds]
    return (
        *goals,
        _goal("*planner*: energy not served beyond the best rule's", more, 0, "MWh"),
        _goal("CPU time of a plan, 99th percentile", 1000 * percentile(seconds, 99), 5, "ms"),
    )


def _unserved(found: Found, policy: str) -> float:
    """Return the load that a policy left without supply in all worlds, MWh."""
    return sum(years[policy].unserved for results in found.values() for _, years in results) / 1e9


def _goal(what: str, value: float, at_most: float, unit: str = "%") -> Goal:
    return Goal(what=what, value=round(value, 3), unit=unit, at_most=at_most, limited_by=LIMITED_BY)


def main() -> None:
    """Run with more seeds, and print the section."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--days", type=int, default=365, help="scored days of worlds with two prices")
    parser.add_argument("--short-days", type=int, default=SHORT_DAYS, help="scored days of the other worlds")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=np.inf, help="no seed begins after this time")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = measured(options.seeds, options.days, options.short_days, pool.map, options.minutes)
    seeds = len(found[STORMS])
    result = section(found, seeds)
    print(f"{seeds} seeds", *(table.markdown() for table in result.tables), sep="\n\n")
    print(*(goal.line() for goal in result.goals), sep="\n")


if __name__ == "__main__":
    main()
