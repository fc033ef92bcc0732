"""A comparison of runs as JSON, which repeats to the byte, and as tables for people."""

import json
from collections.abc import Mapping, Sequence

from commonwatt.energy.figures import KINDS, HourSample, RunFigures, equal_rows

MWH = 10**9  # milliwatt-hours in a megawatt-hour


def as_json(title: str, runs: Mapping[str, RunFigures], facts: Mapping[str, object]) -> str:
    """Return the runs as JSON: the sums of each policy, and the town hour by hour."""
    content = {
        "scenario": title,
        **facts,
        "policies": {name: _sums(figures) | {"hours": _hours(figures.samples)} for name, figures in runs.items()},
    }
    return json.dumps(content, indent=1) + "\n"


def table(runs: Mapping[str, RunFigures]) -> list[dict[str, object]]:
    """Return one row a policy, for people."""
    return [
        {
            "policy": name,
            "went short": f"{_percent(figures.unserved, figures.balance['demand']):.3f} %",
            "reduced by command MWh": f"{figures.balance['reduced by command'] / MWH:,.2f}",
            "bought MWh": f"{figures.bought / MWH:,.1f}",
            "at peak MWh": f"{figures.bought_peak / MWH:,.1f}",
            "cost": f"{figures.net_cost / MWH:,.1f}",
            "shared MWh": f"{sum(kind.shared for kind in figures.kinds.values()) / MWH:,.2f}",
            "homes' batteries": f"{figures.mean_percent('residential'):.1f} %",
        }
        for name, figures in runs.items()
    ]


def equal(runs: Mapping[str, RunFigures]) -> list[str]:
    """Return why rows of the table are equal."""
    return equal_rows(table(runs), {name: figures.decided for name, figures in runs.items()})


def _sums(figures: RunFigures) -> dict[str, object]:
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


def _hours(samples: Sequence[HourSample]) -> dict[str, list[float]]:
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
