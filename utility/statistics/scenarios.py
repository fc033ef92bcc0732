"""Five years ahead as scenarios: what the town would need and what it could give, if its use grew so and so.

They are sums, not forecasts: nobody says how likely one is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from commonwatt.model.units import MilliwattHours

YEARS = 5

STEADY, TREND = "as in the last year", "as the last two years changed"

_CHANGES: Mapping[str, float] = {"1 % more each year": 0.01, "3 % more each year": 0.03, "2 % less each year": -0.02}
_STEP = "20 % more at once"
_STEP_PART = 0.20


@dataclass(frozen=True, kw_only=True)
class ScenarioYear:
    """A year of a scenario; energies are milliwatt-hours."""

    scenario: str  # its name
    year: int  # the number of the year, from 1
    used: MilliwattHours  # what the town uses
    generated: MilliwattHours  # what its panels generate: as in the last year, since the program knows of no new ones
    imported: MilliwattHours  # what the microgrids take from the town: all that is used more is taken
    exported: MilliwattHours  # what they give: all that is used less is given, once nothing more is taken


@dataclass(frozen=True, kw_only=True)
class YearBefore:
    """The last twelve whole months of the town, milliwatt-hours."""

    used: MilliwattHours  # what it used
    generated: MilliwattHours  # what its panels generated
    imported: MilliwattHours  # what the microgrids took
    exported: MilliwattHours  # what they gave
    used_before: MilliwattHours | None = None  # what it used in the twelve months before; ``None``: not known


def scenarios(last: YearBefore) -> Sequence[ScenarioYear]:
    """Return each scenario's five years."""
    growth: dict[str, tuple[float, float]] = {STEADY: (0.0, 0.0)}
    if last.used_before:
        growth[TREND] = (0.0, last.used / last.used_before - 1)
    growth |= {name: (0.0, rate) for name, rate in _CHANGES.items()}
    growth[_STEP] = (_STEP_PART, 0.0)
    return [
        _year(name, year, last, round(last.used * (1 + step) * (1 + rate) ** year))
        for name, (step, rate) in growth.items()
        for year in range(1, YEARS + 1)
    ]


def _year(name: str, year: int, last: YearBefore, used: MilliwattHours) -> ScenarioYear:
    imported = last.imported + used - last.used
    return ScenarioYear(
        scenario=name,
        year=year,
        used=used,
        generated=last.generated,
        imported=max(0, imported),
        exported=last.exported + max(0, -imported),
    )
