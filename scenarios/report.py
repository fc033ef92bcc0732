"""A comparison of runs as JSON, which repeats to the byte, and as tables for people.

One policy may be compared with all others: the differences of their figures.
"""

import json
from collections.abc import Mapping, Sequence

from commonwatt.energy.figures import KINDS, Figures, Sample, equal_rows, fairness

MWH = 10**9  # milliwatt-hours in a megawatt-hour
_COLUMNS = {
    "reduced by command MWh": ("reduced_mwh", 2),
    "bought MWh": ("bought_mwh", 1),
    "at peak MWh": ("bought_peak_mwh", 1),
    "cost": ("net_cost", 1),
    "shared MWh": ("shared_mwh", 2),
}


def as_json(title: str, runs: Mapping[str, Figures], facts: Mapping[str, object], against: str | None = None) -> str:
    """Return the runs as JSON: the sums of each policy, the town hour by hour, the differences to one policy."""
    content = {
        "scenario": title,
        **facts,
        "policies": {name: _sums(figures) | {"hours": _hours(figures.samples)} for name, figures in runs.items()},
    }
    if against is not None:
        content["against"] = {"policy": against, "differences": differences(runs, against)}
    return json.dumps(content, indent=1) + "\n"


def table(runs: Mapping[str, Figures]) -> list[dict[str, object]]:
    """Return one row a policy, for people."""
    return [
        {
            "policy": name,
            "went short": f"{_percent(figures.unserved, figures.balance['demand']):.3f} %",
            **_megawatt_hours(_compared(figures)),
            "homes' batteries": f"{figures.mean_percent('residential'):.1f} %",
        }
        for name, figures in runs.items()
    ]


def differences(runs: Mapping[str, Figures], against: str) -> dict[str, dict[str, int | float]]:
    """Return each other run's figures less those of ``against``; energies and costs in milliwatt-hours."""
    base = _compared(runs[against])
    return {
        name: {key: round(value - base[key], 2) for key, value in _compared(figures).items()}
        for name, figures in runs.items()
        if name != against
    }


def rows_against(runs: Mapping[str, Figures], against: str) -> list[dict[str, object]]:
    """Return the differences for people, one row a policy; less is better but for the batteries."""
    return [
        {
            "policy": name,
            "went short MWh": f"{by['unserved_mwh'] / MWH:+,.3f}",
            **_megawatt_hours(by, "+"),
            "homes' batteries": f"{by['homes_percent']:+.1f} points",
        }
        for name, by in differences(runs, against).items()
    ]


def _megawatt_hours(figures: Mapping[str, int | float], sign: str = "") -> dict[str, str]:
    """Return what ``_compared`` returns, for people; ``sign``: ``+``, if each has one."""
    return {title: f"{figures[key] / MWH:{sign},.{digits}f}" for title, (key, digits) in _COLUMNS.items()}


def _compared(figures: Figures) -> dict[str, int | float]:
    """Return the figures by which runs are compared; energies and costs in milliwatt-hours."""
    by_kind = {f"unserved_{kind}_mwh": figures.kinds[kind].unserved.total() for kind in KINDS}
    return {
        "unserved_mwh": figures.unserved,
        **by_kind,
        "reduced_mwh": figures.balance["reduced by command"],
        "bought_mwh": figures.bought,
        "bought_peak_mwh": figures.bought_peak,
        "net_cost": figures.net_cost,
        "shared_mwh": sum(kind.shared for kind in figures.kinds.values()),
        "homes_percent": figures.mean_percent("residential"),
    }


def equal(runs: Mapping[str, Figures]) -> list[str]:
    """Return why rows of the table are equal."""
    return equal_rows(table(runs), {name: figures.decided for name, figures in runs.items()})


def _sums(figures: Figures) -> dict[str, object]:
    return {
        "bought_mwh": figures.bought,
        "bought_peak_mwh": figures.bought_peak,
        "cost": figures.cost,
        "plant_gain_mwh": figures.plant_gain,
        "net_cost": figures.net_cost,
        "sold_mwh": figures.sold,
        "highest_w": figures.highest_w,
        "plant": {f"{name}_mwh": energy for name, energy in figures.plant.items()},
        "balance_mwh": figures.balance,
        "switches": figures.switches,
        "decided": figures.decided,
        "fairness": {
            name: {
                "mean": round(it.mean, 6),
                "worst": round(it.worst, 6),
                "worst_microgrid": it.where,
                "microgrids": it.microgrids,
            }
            for name, it in fairness(figures.tallies).items()
        },
        "houses_by_minimum_percent": {
            percent: {"wanted_mwh": wanted, "unserved_mwh": short}
            for percent, (wanted, short) in figures.by_minimum().items()
        },
        "kinds": {
            kind: {
                "members": figures.members(kind)[0],
                "members_short": figures.members(kind)[1],
                **{f"{name}_mwh": sums for name, sums in vars(of).items()},
                "unserved_mwh": {cause: count for cause, count in of.unserved.items() if count},
                "curtailed_mwh": {cause: count for cause, count in of.curtailed.items() if count},
                "mean_level_percent": round(figures.mean_percent(kind), 2),
            }
            for kind in KINDS
            if (of := figures.kinds[kind]).wanted
        },
    }


def _hours(samples: Sequence[Sample]) -> dict[str, list[float]]:
    return {
        "time": [sample.time for sample in samples],
        "homes_percent": [round(sample.levels_percent["residential"], 2) for sample in samples],
        "plant_percent": [round(sample.plant_percent, 2) for sample in samples],
        "bought_mwh": [sample.bought for sample in samples],
        "unserved_mwh": [sample.unserved for sample in samples],
        "islands": [sample.islands for sample in samples],
        "price_percent": [sample.price_percent for sample in samples],
    }


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
