"""Rows of usage for people and programs: kilowatt-hours as text, words for what is not known."""

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from commonwatt.model.units import QUARTER_S, MilliwattHours
from utility.statistics.totals import Totals

ENERGIES = ("imported", "exported", "shared_in", "shared_out", "generated", "used")

COLUMNS = (
    "scope",
    "name",
    "period",
    *(f"{name}_kwh" for name in ENERGIES),
    "self_sufficiency_percent",
    "use_known_percent",
    "peak_kw",
    "peak_at",
    "complete_percent",
    "estimated_percent",
    "generation_known_percent",
    "reduced_hours",
    "islanded_hours",
    "months",
    "provisional",
)
"""Columns of a row in a file; an empty cell: no meter tells."""


def cells_of(
    scope: str, name: str, period: str, it: Totals, zone: ZoneInfo, *, is_provisional: bool
) -> Mapping[str, str]:
    """Return a row's cells, as text, by column."""
    found = {"scope": scope, "name": name, "period": period}
    found |= {f"{each}_kwh": kilowatt_hours(getattr(it, each)) for each in ENERGIES}
    return found | {
        "self_sufficiency_percent": _percent(it.self_sufficiency),
        "use_known_percent": _percent(it.use_known),
        "peak_kw": f"{it.peak * 4 / 1e6:.3f}",
        "peak_at": datetime.fromtimestamp(it.peak_at * QUARTER_S, zone).isoformat(timespec="minutes"),
        "complete_percent": _percent(it.complete),
        "estimated_percent": _percent(it.estimated / it.quarters if it.quarters else 0.0),
        "generation_known_percent": _percent(it.generation_known),
        "reduced_hours": f"{it.reduced_s / 3600:.1f}",
        "islanded_hours": f"{it.islanded_s / 3600:.1f}",
        "months": str(it.months),
        "provisional": "yes" if is_provisional else "no",
    }


def kilowatt_hours(energy: MilliwattHours | None) -> str:
    """Return an energy exactly; empty: not known."""
    if energy is None:
        return ""
    sign, rest = "-" if energy < 0 else "", abs(energy)
    return f"{sign}{rest // 1_000_000}.{rest % 1_000_000:06d}"


def _percent(part: float | None) -> str:
    return "" if part is None else f"{100 * part:.2f}"


def projected_words(low: int | None, middle: int, high: int | None, *, is_money: bool) -> str:
    """Return a projection of cents, or of milliwatt-hours, in words."""
    scale, unit = (100, "dollars") if is_money else (1_000_000, "kWh")
    if low is None or high is None:
        return f"{middle / scale:,.0f} {unit}; there is too little past for a band"
    return f"{middle / scale:,.0f} {unit}, in 8 of 10 months between {low / scale:,.0f} and {high / scale:,.0f}"


def tested_words(count: int, held: float) -> str:
    """Return in words how the band of 80 % has done on the service's own past."""
    if not count:
        return "The band could not be tested on this town's own past yet; docs/statistics.md has its test."
    part = f"{100 * held:.0f} %"
    return f"Of {count:,} months of this town's own past, each projected from earlier ones alone, the band held {part}."
