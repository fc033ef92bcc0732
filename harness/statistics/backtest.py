"""The backtest of projections: each month of a synthetic town projected from the months before it alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.statistics.town import CLASS, Years
from utility.statistics.projection import (
    LEVELS,
    MIN_MONTHS,
    NEXT_MONTH,
    YEAR,
    Floats,
    Middle,
    Panel,
    Projected,
    coverage,
    project,
    scale_of,
    usual,
    year_before,
)

FIRST = MIN_MONTHS + YEAR  # the first projected month: before it are two years to project from, and a year of errors
SCOPES = ("account", "microgrid", "class", "town")


def last_year(panel: Panel, month: int, ahead: int) -> tuple[Floats, Floats]:
    """Return the same month of the year before, and what its error is relative to: the seasonal-naive projection."""
    center = panel.values[:, month - YEAR]
    return center, scale_of(center, year_before(panel.values, month, ahead))


METHODS: dict[str, Middle] = {"usual": usual, "last year": last_year}


@dataclass(frozen=True, kw_only=True)
class Score:
    """How good projections were."""

    quantity: str  # what was projected
    scope: str  # of what; ``all``: all together
    months: int  # how many projections had a band and an outcome
    held: float  # the part of them whose 80 % band held the outcome
    loss: float  # their pinball loss, each relative to the mean of its subject
    naive_held: float  # the part held by the band around last year's month
    naive_loss: float  # its pinball loss


def scores(towns: Sequence[Years], quantity: str, ahead: int = NEXT_MONTH) -> list[Score]:
    """Return the scores of a quantity by scope, and pooled over accounts, microgrids and classes."""
    made: dict[str, list[tuple[Years, list[Projected]]]] = {method: [] for method in METHODS}
    for town in towns:
        # As the service does: a class has few errors of its own.
        alike = np.where(town.scopes >= CLASS, -1, town.groups)
        panel = Panel(values=town.energies[quantity], groups=town.groups, errors=alike)
        for method, found in made.items():
            found.append((town, project(panel, FIRST, ahead, METHODS[method])))
    wanted = [(name, (number,)) for number, name in enumerate(SCOPES)]
    result = []
    for name, scopes in [*wanted, ("all but the town", (0, 1, 2))]:
        some = {method: [_only(town, each, scopes) for town, each in found] for method, found in made.items()}
        count, held = coverage([one for town in some["usual"] for one in town])
        _, naive = coverage([one for town in some["last year"] for one in town])
        result.append(
            Score(
                quantity=quantity,
                scope=name,
                months=count,
                held=held,
                loss=_loss(some["usual"]),
                naive_held=naive,
                naive_loss=_loss(some["last year"]),
            )
        )
    return result


def _only(town: Years, projected: Sequence[Projected], scopes: tuple[int, ...]) -> list[Projected]:
    """Return the projections of the subjects of some scopes."""
    ours = np.isin(town.scopes, scopes)
    return [Projected(quantiles=each.quantiles[ours], actual=each.actual[ours]) for each in projected]


def _loss(towns: Sequence[Sequence[Projected]]) -> float:
    return float(np.mean([pinball(projected) for projected in towns]))


def pinball(projected: Sequence[Projected]) -> float:
    """Return the mean pinball loss over the quantiles, each relative to the mean of its subject: lower is better."""
    quantiles = np.stack([each.quantiles for each in projected])
    actual = np.stack([each.actual for each in projected])
    known = np.isfinite(quantiles).all(axis=2) & np.isfinite(actual)
    count = known.sum(axis=0)
    mean = np.where(known, actual, 0).sum(axis=0) / np.maximum(count, 1)
    over = actual[:, :, None] - quantiles
    levels = np.array(LEVELS)
    loss = np.maximum(levels * over, (levels - 1) * over).mean(axis=2)
    known &= mean > 0
    return float((loss / np.where(mean > 0, mean, 1.0))[known].mean()) if known.any() else 0.0
