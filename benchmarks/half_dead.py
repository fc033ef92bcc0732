"""Half of a town's controllers dead at random: which microgrids are managed, and which meters' records are collected.

The orders of the product's cliques, beside those of two other designs as their papers describe them.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from benchmarks.town import WHOLE_TOWN
from commonwatt.cliques.formation import Clique, formed, manager, orders
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.town.loading import load_town
from commonwatt.town.town import Function
from harness.docs.measured import Goal, Section, Table

DRAWS = 1_000
DEAD_SHARE = 0.5
OTHER_SHARES = (0.01, 0.1, 0.2)

Orders = Mapping[MicrogridId, Clique]


@dataclass(frozen=True)
class Design:
    """Who may manage what."""

    words: str  # its name
    order: Callable[[Orders, random.Random], Orders]  # returns who may manage each microgrid, the first one first
    collects: bool  # whether who manages also collects; otherwise a controller's own meters wait for it


@dataclass(frozen=True)
class Share:
    """What goes on in one draw."""

    managed: float  # the part of the microgrids with a manager
    collected: float  # the part of the meters whose records a controller takes
    most: int  # microgrids of the controller that manages most


def _ours(order: Orders, _: random.Random) -> Orders:
    return order


def _fixed(order: Orders, _: random.Random) -> Orders:
    return {name: own[:1] if name.startswith("p") else own for name, own in order.items()}


def _paired(order: Orders, chance: random.Random) -> Orders:
    names = list(order)
    return {name: (name, chance.choice([each for each in names if each != name])) for name in names}


DESIGNS = (
    Design("Commonwatt, with the utility or without", _ours, collects=True),
    Design("Power RAnGeRS: fixed cliques, the public microgrid alone", _fixed, collects=True),
    Design("ACES without the utility: a random backup each, which does not collect", _paired, collects=False),
)


def share(design: Design, order: Orders, meters: Mapping[MicrogridId, int], dead_share: float, seed: int) -> Share:
    """Return what goes on after a part of the controllers died at random."""
    chance = random.Random(seed)  # noqa: S311
    its = design.order(order, chance)
    alive: Set[ControllerId] = set(chance.sample(sorted(order), round(len(order) * (1 - dead_share))))
    managers = {name: manager(its[name], alive) for name in its}
    managed = {name: by for name, by in managers.items() if by is not None}
    collected = sum(meters[name] for name in its if (name in managed if design.collects else name in alive))
    return Share(
        managed=len(managed) / len(its),
        collected=collected / sum(meters.values()),
        most=max(Counter(managed.values()).values()),
    )


def bench(*, smoke: bool = False) -> Section:
    """Reckon it for the whole town."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "town.toml"
        path.write_text(WHOLE_TOWN)
        town = load_town(path)
    kinds = {name: grid.kind for name, grid in town.microgrids.items()}
    order = orders(formed((), kinds), kinds)
    meters = {
        name: sum(meter.function is not Function.BOUNDARY for meter in grid.meters)
        for name, grid in town.microgrids.items()
    }
    draws = range(3 if smoke else DRAWS)
    found = {d: [share(d, order, meters, DEAD_SHARE, seed) for seed in draws] for d in DESIGNS}
    ours = {
        part: [share(DESIGNS[0], order, meters, part, seed) for seed in draws] for part in (*OTHER_SHARES, DEAD_SHARE)
    }
    return Section(
        title="Half of the town's controllers dead",
        about=(
            f"{len(order)} controllers, {sum(meters.values()):,} meters; in each of {len(draws):,} draws a part of the "
            "controllers is dead at random. The boundaries' meters stand in their controller's place and are not "
            "counted. A microgrid is managed if one of its order lives. ACES with the utility "
            "assigns all microgrids anew, also to controllers far away: all are managed and collected; for half of the "
            "controllers its paper states 4 microgrids and 41 meters a controller, and below an availability of 0.65 "
            "more than 2 GB a month on each line without its compression. A dead controller "
            "loses no records here: meters keep them until one answers."
        ),
        tables=(
            Table(
                title=f"{round(len(order) * DEAD_SHARE)} controllers dead, percent",
                columns=("design", "microgrids managed: mean", "least", "meters collected: mean", "least", "most"),
                rows=tuple(_row(design.words, shares) for design, shares in found.items()),
            ),
            Table(
                title="Commonwatt, by the part that is dead, percent",
                columns=("dead", "microgrids managed: mean", "least", "meters collected: mean", "least", "most"),
                rows=tuple(_row(f"{100 * part:g}", shares) for part, shares in ours.items()),
            ),
        ),
        goals=(
            ()
            if smoke
            else (
                Goal(
                    what="microgrids managed with half of the controllers dead, mean",
                    value=round(100 * mean(one.managed for one in found[DESIGNS[0]]), 1),
                    unit="%",
                    at_least=87,
                    limited_by="Three controllers may manage a microgrid; all three are dead in one of eight.",
                ),
            )
        ),
        notes=("*Most*: the microgrids of the controller that manages most, in any draw.",),
    )


def _row(words: str, shares: list[Share]) -> tuple[str, ...]:
    managed, collected = [one.managed for one in shares], [one.collected for one in shares]
    figures = (mean(managed), min(managed), mean(collected), min(collected))
    return words, *(f"{100 * figure:.1f}" for figure in figures), str(max(one.most for one in shares))
