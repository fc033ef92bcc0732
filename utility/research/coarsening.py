"""Coarser readings for pseudonymous releases: what each costs and buys is measured, not promised (U7)."""

from dataclasses import dataclass, replace

import numpy as np

from utility.research.homes import Homes

_MWH = 1000  # milliwatt-hours in a watt-hour


@dataclass(frozen=True, kw_only=True)
class Coarsening:
    """How readings are made coarser, in the order in which it is done."""

    sample_percent: int = 100  # the part of the homes that are released, drawn at random
    step_s: int | None = None  # length of a step, seconds; ``None``: as measured
    noise_wh: int = 0  # standard deviation of random energy added to each value, watt-hours
    unit_wh: int = 0  # values are rounded to this, watt-hours; 0: whole milliwatt-hours

    @property
    def words(self) -> str:
        """What it does, for people."""
        parts = [
            f"{self.sample_percent} % of the homes" if self.sample_percent < 100 else "",
            "hours" if self.step_s == 3600 else f"steps of {self.step_s} s" if self.step_s else "",
            f"noise of {self.noise_wh} Wh" if self.noise_wh else "",
            f"rounded to {self.unit_wh} Wh" if self.unit_wh else "",
        ]
        return ", ".join(part for part in parts if part) or "as measured"


def sampled(homes: Homes, coarsening: Coarsening, random: np.random.Generator) -> Homes:
    """Return the homes that are released, at least one."""
    if coarsening.sample_percent == 100:
        return homes
    count = max(1, round(len(homes.homes) * coarsening.sample_percent / 100))
    return homes.take(np.sort(random.permutation(len(homes.homes))[:count]))


def coarsened(homes: Homes, coarsening: Coarsening, random: np.random.Generator) -> Homes:
    """Return homes with coarser values; which homes, ``sampled`` decides."""
    homes = homes.in_steps(coarsening.step_s or homes.step_s)
    if coarsening.noise_wh:
        homes = _noisy(homes, coarsening.noise_wh * _MWH, random)
    if coarsening.unit_wh:
        homes = _rounded(homes, coarsening.unit_wh * _MWH)
    return homes


def _noisy(homes: Homes, deviation: int, random: np.random.Generator) -> Homes:
    values = {
        measure: values + np.rint(random.normal(0, deviation, values.shape)).astype(np.int64) * homes.known
        for measure, values in homes.values.items()
    }
    return replace(homes, values=values)


def _rounded(homes: Homes, unit: int) -> Homes:
    values = {measure: (values + unit // 2) // unit * unit for measure, values in homes.values.items()}
    return replace(homes, values=values)
