"""The whole town's controllers, some of them down: meters a line, microgrids a controller, and GB a month (A1, A2).

Nothing is measured on a network: the rules of assignment are applied to random sets of controllers that live, with the
bytes of a meter that ``benchmarks.lte`` measured.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from commonwatt.cliques.formation import formed, orders
from commonwatt.cliques.installed import installed
from commonwatt.model.units import ControllerId
from harness.docs.measured import Goal, Section, Table, kept
from harness.world.clique.states import manager
from utility.collection.balance import Collected, balanced, loads

AVAILABILITIES = (1.0, 0.75, 0.5, 0.25)
SEEDS = 5
RESIDENTIAL = 800  # residential microgrids
METERS = {"residential": 20, "apartment": 303, "public": 4}  # meters of a microgrid, by kind
WARM = {"residential": 10, "apartment": 4, "public": 4}  # meters that can send to any that may manage, by kind
OWN_LINES = 15  # LTE lines of the apartments' controller
ALONE, OWN, SHARED = "the apartments on one line", "the apartments on 15 lines", "the apartments shared by 24 others"

Lines = dict[ControllerId, int]  # meters on each line that carries some


@dataclass(frozen=True)
class Town:
    """The town of T1 to T3."""

    kinds: dict[str, str]  # the kind of each microgrid, by the name of its controller
    orders: dict[str, tuple[str, ...]]  # who may manage each microgrid, the first one first
    collectors: tuple[str, ...]  # the controllers that share the apartments' meters


def town(residential: int) -> Town:
    """Return a town with so many residential microgrids, the apartments and the public one."""
    kinds = {f"r{n:03d}": "residential" for n in range(1, residential + 1)} | {"a001": "apartment", "p001": "public"}
    cliques = formed((), kinds)
    every_third = [clique for clique in cliques if "a001" not in clique][:: max(1, len(cliques) // 8)]
    collectors = tuple(name for clique in every_third for name in clique)[:24]
    return Town(kinds, orders(cliques, kinds), collectors)


def meters_of(place: Town, layout: str) -> list[Collected]:
    """Return all meters with their brokers; a line of the apartments' controller is a broker ``a001/N``."""
    found: list[Collected] = []
    for name, kind in place.kinds.items():
        for n in range(METERS[kind]):
            order = place.orders[name]
            if kind == "apartment" and layout == OWN:
                order = (f"a001/{n % OWN_LINES}", *order[1:])
            brokers = installed(order, place.collectors if kind == "apartment" and layout == SHARED else (), n)
            # Meters with a battery, and at least four, hold silent sessions at those that may manage; the rest do not.
            is_warm = n < WARM[kind]
            choices = brokers if is_warm else (brokers[0], *(name for name in brokers if name not in order))
            found.append(Collected(meter=len(found), installed=brokers, choices=choices, order=brokers))
    return found


def lines(meters: Sequence[Collected], alive: Iterable[ControllerId]) -> tuple[Lines, int]:
    """Return the meters on each living line once all moves are made, and how many meters reach none."""
    living = set(alive) | {f"a001/{n}" for n in range(OWN_LINES) if "a001" in alive}
    moves = balanced(meters, living, len(meters))
    reached = [
        Collected(meter=m.meter, installed=m.installed, choices=m.choices, order=moves[m.meter].order)
        if m.meter in moves
        else m
        for m in meters
    ]
    found = loads(reached, living)
    return {name: count for name, count in found.items() if name in living}, sum(
        count for name, count in found.items() if name not in living
    )


def bench(*, smoke: bool = False) -> Section:
    """Apply the rules at each availability."""
    place, seeds = town(12 if smoke else RESIDENTIAL), range(1 if smoke else SEEDS)
    gigabytes = _gigabytes()
    tables = [_cliques(place, layout, seeds, gigabytes) for layout in (ALONE, OWN, SHARED)]
    full, _ = lines(meters_of(place, SHARED), place.kinds)
    return Section(
        title="The whole town's controllers, some of them down",
        about=f"802 controllers and 16,307 meters; each controller lives with the probability in the first column, "
        f"{len(seeds)} random sets each. A microgrid is managed by the first living controller of its order; a "
        "meter sends to the least loaded of its brokers that lives, after all moves for balance. GB a month: meters "
        f"times what a meter of a residential line costs in the fuller direction, {gigabytes(1):.4f} GB ([the line]"
        "(#what-a-controllers-lte-line-carries)). Nothing is measured on a network here.",
        tables=tuple(tables),
        goals=(
            Goal(
                what="meters on the fullest line, all controllers up, the apartments shared by 24 others",
                value=max(full.values()),
                unit="meters",
                at_most=32,
                limited_by="Each of the 24 has 20 meters of its own.",
            ),
        ),
    )


def _gigabytes() -> Callable[[float], float]:
    goals = {goal.what: goal.value for goal in kept(["lte"])["lte"].section.goals}
    a_meter = next(value for what, value in goals.items() if what.startswith("residential")) / METERS["residential"]
    return lambda meters: a_meter * meters


def _cliques(place: Town, layout: str, seeds: Iterable[int], gigabytes: Callable[[float], float]) -> Table:
    meters = meters_of(place, layout)
    rows = []
    for availability in AVAILABILITIES:
        fullest, means, most, unmanaged, unreached = [], [], [], [], []
        for seed in seeds if availability < 1 else (0,):
            alive = _alive(place, availability, seed)
            found, lost = lines(meters, alive)
            managed = Counter(manager(order, alive) for order in place.orders.values())
            unmanaged.append(managed.pop(None, 0))
            means.append(mean(found.values()))
            fullest.append(max(found.values()))
            most.append(max(managed.values()))
            unreached.append(lost)
        rows.append(
            (
                f"{availability:g}",
                f"{mean(means):.1f}",
                f"{mean(fullest):.0f}",
                f"{max(most)}",
                f"{mean(unmanaged):.1f}",
                f"{mean(unreached):.0f}",
                f"{gigabytes(mean(means)):.2f}",
                f"{gigabytes(mean(fullest)):.2f}",
            )
        )
    return Table(title=layout.capitalize(), columns=_COLUMNS, rows=tuple(rows))


_COLUMNS = (
    "available",
    "meters a living line, mean",
    "the fullest line",
    "most microgrids of a controller",
    "microgrids without a manager",
    "meters that wait",
    "GB, mean",
    "GB, fullest",
)


def _alive(place: Town, availability: float, seed: int) -> set[ControllerId]:
    rng = random.Random(f"{availability}/{seed}")  # noqa: S311 - reproducible, keeps no secret
    found = {name for name in place.kinds if rng.random() < availability}
    return found or {min(place.kinds)}
