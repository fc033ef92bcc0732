"""A release: what is asked, what comes of it, what its files say; what coarser data costs and buys (U7)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.research.attacks import Success, attacks_on, find_by_bills, find_by_half_hours
from utility.research.coarsening import Coarsening
from utility.research.groups import MIN_HOMES, OpenSums, digests_of, filled, grouped, sums_of
from utility.research.homes import HALF_HOUR_S, HomeMeasure, Homes, digest_of, keyed, random_of

_DAY_S = 86_400

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Errors:
    """How wrong a researcher's figures get, as parts of the true ones."""

    curve: float  # mean error of the load curve: the mean home's use by time of day
    peak: float  # error of the highest use of all homes together
    home_peak: float | None  # mean error of the highest use of each home; ``None``: homes are not distinguished


def errors_of(truth: Homes, released: Homes) -> Errors:
    """Return the errors of figures from released homes beside those of all homes as measured."""
    true, seen = _power(truth), _power(released)
    row_of = {home: row for row, home in enumerate(truth.homes)}
    rows = [row_of[home] for home in released.homes]
    peaks, wrong = true.max(axis=1)[rows], seen.max(axis=1)
    return Errors(
        curve=_curve_error(truth, true.mean(axis=0), released.step_s, seen.mean(axis=0)),
        peak=float(abs(seen.mean(axis=0).max() / true.mean(axis=0).max() - 1)),
        home_peak=float((np.abs(wrong - peaks) / np.maximum(peaks, 1)).mean()),
    )


def errors_of_open(truth: Homes, sums: OpenSums) -> Errors:
    """Return the same for the open tier; a sum that is not shown counts as the mean of the other groups' homes."""
    rows = [row for group in sums.groups for row in group.rows]
    true = _power(truth)[rows].mean(axis=0)
    shown = sums.shown[HomeMeasure.USED]
    sizes = np.array([len(group.rows) for group in sums.groups])[:, None] * shown
    seen = sums.values[HomeMeasure.USED].sum(axis=0) / np.maximum(sizes.sum(axis=0), 1) * 3600 / sums.step_s
    return Errors(
        curve=_curve_error(truth, true, sums.step_s, seen),
        peak=float(abs(seen.max() / true.max() - 1)),
        home_peak=None,
    )


def _power(homes: Homes) -> Floats:
    """Return each home's use, milliwatts; unknown steps count as nothing."""
    return np.asarray(homes.values[HomeMeasure.USED] * 3600 / homes.step_s)


def _curve_error(truth: Homes, true: Floats, step_s: int, seen: Floats) -> float:
    usual, found = _by_time(true, truth.step_s), np.repeat(_by_time(seen, step_s), step_s // truth.step_s)
    return float(np.abs(found - usual).mean() / usual.mean())


def _by_time(series: Floats, step_s: int) -> Floats:
    day = _DAY_S // step_s
    return np.array([series[at::day].mean() for at in range(day)])


def attacks_on_pseudonyms(
    truth: Homes, released: Homes, zone: ZoneInfo, random: np.random.Generator, trials: int = 400
) -> tuple[Success, ...]:
    """Return the success of each attack on a pseudonymous release.

    Args:
        truth: All homes, in half-hours.
        zone: The town's time zone.
        random: Draws what the attacker knows.
        trials: How many homes are attacked.
    """
    seen = released.in_steps(max(HALF_HOUR_S, released.step_s))
    return (
        find_by_half_hours(truth, seen, random, trials),
        find_by_bills(truth, seen, zone, random, trials),
    )


class Tier(StrEnum):
    """How much of its homes a release shows."""

    OPEN = "open"  # sums of groups, for everybody
    HOMES = "homes"  # each home under a pseudonym, by quarter-hour or by 15 s: identifiable, under agreement only


@dataclass(frozen=True, kw_only=True)
class AskedRelease:
    """What a person asks to release."""

    tier: Tier  # the tier
    start: EpochSeconds  # start of the period, on a quarter-hour
    end: EpochSeconds  # its end
    min_homes: int = MIN_HOMES  # open tier: the least homes of a group
    # How readings are made coarser; of the open tier only the length of a step.
    coarsening: Coarsening = field(default_factory=Coarsening)
    agreement: str = ""  # the agreement of identifiable data; empty: none

    @property
    def step_s(self) -> int:
        """Length of a released step, seconds."""
        return self.coarsening.step_s or QUARTER_S

    @property
    def is_by_slot(self) -> bool:
        """Return whether its steps are finer than quarter-hours."""
        return self.step_s < QUARTER_S

    @property
    def options(self) -> dict[str, object]:
        """What decides the release's content beside its input."""
        if self.tier is Tier.OPEN:
            return {"step_s": self.step_s, "min_homes": self.min_homes}
        return {**vars(self.coarsening), "step_s": self.step_s, "agreement": self.agreement}


def id_of(asked: AskedRelease, digest: str, secret: bytes, version: str) -> str:
    """Return the id of a release, 16 characters: the same input, options and code give it, and the same bytes, again.

    Args:
        digest: A digest of the readings.
        secret: The utility's.
        version: The code's version.
    """
    facts = {"tier": asked.tier, "from": asked.start, "until": asked.end, "options": asked.options}
    facts |= {"input": digest, "version": version}
    return keyed(secret, "release", json.dumps(facts, sort_keys=True)).hex()[:16]


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenRelease:
    """The content of an open release."""

    id: str  # its id
    homes: Homes  # the homes that the groups' rows are of, missing steps filled
    sums: OpenSums  # what is published
    # The groups that are not published since an earlier release of the same time has other sums of them.
    withheld: tuple[str, ...]
    digests: Mapping[str, str]  # of each published group
    attacks: Sequence[Success]  # the success of each attack
    errors: Errors | None  # how wrong usual figures get


def open_release(
    asked: AskedRelease, homes: Homes, earlier: Sequence[Mapping[str, str]], zone: ZoneInfo, secret: bytes, version: str
) -> OpenRelease:
    """Return what an open release would publish.

    Args:
        homes: All homes of the period, in quarter-hours.
        earlier: The groups' digests of the earlier releases of the same period and options.
        zone: The town's time zone.
        secret: The utility's.
        version: The code's version.
    """
    whole = filled(homes)
    steps = whole.in_steps(asked.step_s)
    sums = sums_of(steps, grouped(steps, secret, asked.min_homes)) if len(whole.homes) else None
    groups = sums.groups if sums is not None else ()
    if sums is None or not groups:
        sums = OpenSums(groups=(), start=steps.start, step_s=steps.step_s, values={}, shown={})
    digests = digests_of(steps, sums, secret)
    kept = [row for row, g in enumerate(groups) if all(one.get(g.name) == digests[g.name] for one in earlier)]
    published = sums.take(kept)
    names = [group.name for group in published.groups]
    # The id follows from what earlier releases make it withhold, too.
    release = id_of(asked, digest_of(secret, homes), secret, f"{version} {sorted(names)}")
    return OpenRelease(
        id=release,
        homes=steps,
        sums=published,
        withheld=tuple(sorted(digests.keys() - set(names))),
        digests={name: digests[name] for name in names},
        attacks=_attacks(whole, published, zone, secret, release),
        errors=errors_of_open(whole, published) if names else None,
    )


def _attacks(homes: Homes, sums: OpenSums, zone: ZoneInfo, secret: bytes, release: str) -> list[Success]:
    if not sums.groups:
        return []
    return attacks_on(homes.in_steps(HALF_HOUR_S), sums, zone, random_of(secret, "attack", release))


def is_above(attacks: Sequence[Success], limit_percent: float) -> bool:
    """Return whether an attack may succeed more often over guessing than a limit."""
    return any(100 * one.at_most_over_guessing > limit_percent for one in attacks)


def known_percent(homes: Homes) -> float:
    """Return the part of the homes' steps whose readings are all there."""
    return 100 * float(np.mean(homes.known)) if homes.known.size else 0.0


def as_json(attacks: Sequence[Success]) -> list[dict[str, object]]:
    """Return attacks for files and the database."""
    return [
        {
            "attack": one.name,
            "attacker": one.words,
            "trials": one.trials,
            "success": round(one.rate, 4),
            "by_guessing": round(one.guess, 4),
            "interval": [round(end, 4) for end in one.interval],
        }
        for one in attacks
    ]


def report_lines(attacks: Sequence[Success]) -> list[str]:
    """Return a table of attacks for people."""
    head = ["| attack | the attacker | success | 95 % interval | by guessing |", "|---|---|---|---|---|"]
    return head + [
        f"| {one.name} | {one.words} | {one.rate:.1%} | {one.interval[0]:.1%} to {one.interval[1]:.1%} "
        f"| {one.guess:.1%} |"
        for one in attacks
    ]


MEANINGS: Mapping[HomeMeasure, str] = {
    HomeMeasure.USED: "Used in the step: generated + taken - given - rise of the battery's level; the battery's "
    "charging loss is in it",
    HomeMeasure.GENERATED: "Generated by solar panels, as far as it was used, stored or given",
    HomeMeasure.TAKEN: "Taken from the microgrid or the town",
    HomeMeasure.GIVEN: "Given to the microgrid or the town",
}
"""The words of the data dictionary."""
