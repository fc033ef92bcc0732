"""What each policy is worth against another one: the differences of their figures."""

from collections.abc import Mapping

from scenarios.figures import KINDS, Figures

MWH = 10**9  # milliwatt-hours in a megawatt-hour
_COLUMNS = {
    "reduced by command MWh": ("reduced_mwh", 2),
    "bought MWh": ("bought_mwh", 1),
    "at peak MWh": ("bought_peak_mwh", 1),
    "cost": ("net_cost", 1),
    "shared MWh": ("shared_mwh", 2),
}


def differences(runs: Mapping[str, Figures], against: str) -> dict[str, dict[str, int | float]]:
    """Return each other run's figures less those of ``against``; energies and costs in milliwatt-hours."""
    base = compared(runs[against])
    return {
        name: {key: round(value - base[key], 2) for key, value in compared(figures).items()}
        for name, figures in runs.items()
        if name != against
    }


def rows(runs: Mapping[str, Figures], against: str) -> list[dict[str, object]]:
    """Return the differences for people, one row a policy; less is better but for the batteries."""
    return [
        {
            "policy": name,
            "went short MWh": f"{by['unserved_mwh'] / MWH:+,.3f}",
            **megawatt_hours(by, "+"),
            "homes' batteries": f"{by['homes_percent']:+.1f} points",
        }
        for name, by in differences(runs, against).items()
    ]


def megawatt_hours(figures: Mapping[str, int | float], sign: str = "") -> dict[str, str]:
    """Return figures of ``compared`` for people; ``sign``: ``+``, if each has one."""
    return {title: f"{figures[key] / MWH:{sign},.{digits}f}" for title, (key, digits) in _COLUMNS.items()}


def compared(figures: Figures) -> dict[str, int | float]:
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
