"""Attacks on releases: whose is a pseudonym, in which group is a home, what did it use; how sure that is.

By bills: the attacker has all bills, and looks for their homes among the pseudonyms. In 2018 billing totals found all
of some 6,500 pseudonymous meters. The bills are taken to cover the release: of a month whose bill covers more than the
release, an attacker has less than here.

By half-hours: the attacker knows five half-hours of a home. A neighbour, a visitor at the meter's display or a post of
the resident's gives as much. Among 2.5 million series of other towns, five half-hours in a row distinguished over 90 %
of homes.

On the open tier: groups are not published with their homes. The third attack is given them nevertheless: what an
attacker with all bills and the groups' homes gets is the worst case.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.calendar import local_hour, to_local
from commonwatt.model.units import QUARTER_S
from utility.research.groups import MEASURES, UNIT, OpenSums
from utility.research.homes import HALF_HOUR_S, Energies, Flags, HomeMeasure, Homes

_Z = 1.96  # standard deviations of an interval of 95 %


@dataclass(frozen=True, kw_only=True)
class Success:
    """The success of an attack."""

    name: str  # the attack's name
    words: str  # what the attacker knows and wants, in a line
    trials: int  # how often it was tried
    rate: float  # the part of trials that succeeded, 0 to 1
    guess: float  # the part that guessing gets without the release
    # The interval of 95 % of the rate; where each trial has its own guess, that of their difference.
    interval: tuple[float, float]

    @property
    def at_most_over_guessing(self) -> float:
        """The upper end of the interval less the rate of guessing: what a limit is compared with."""
        return self.interval[1] - self.guess


def of_hits(name: str, words: str, trials: int, hits: float, guess: float) -> Success:
    """Return the success of independent trials, with Wilson's interval.

    Args:
        name: The attack's name.
        words: What the attacker knows and wants.
        trials: How often it was tried.
        hits: How often it succeeded; of several equally likely answers each counts in part.
        guess: The rate of guessing.
    """
    n, p = trials, hits / trials if trials else 0.0
    low, high = 0.0, 1.0
    if n:
        middle, spread = p + _Z**2 / (2 * n), _Z * sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
        low, high = (max(0.0, (middle - spread) / (1 + _Z**2 / n)), min(1.0, (middle + spread) / (1 + _Z**2 / n)))
    return Success(name=name, words=words, trials=n, rate=p, guess=guess, interval=(low, high))


def of_pairs(name: str, words: str, rates: NDArray[np.float64], guesses: NDArray[np.float64]) -> Success:
    """Return the success of trials, each with its own rate of guessing.

    Args:
        name: The attack's name.
        words: What the attacker knows and wants.
        rates: The success of each trial, 0 to 1.
        guesses: The same of guessing.
    """
    n = len(rates)
    if n < 2:
        return of_hits(name, words, n, float(rates.sum()), float(guesses.sum()))
    rate, error = float(rates.mean()), _Z * float((rates - guesses).std(ddof=1)) / sqrt(n)
    interval = (max(0.0, rate - error), min(1.0, rate + error))
    return Success(name=name, words=words, trials=n, rate=rate, guess=float(guesses.mean()), interval=interval)


PEAK_HOURS = (15, 21)  # local hours with a price of their own, which a bill states apart (T5)
BILL_UNIT = 10_000  # a bill states energies to this, milliwatt-hours

_CHUNK = 50

Floats = NDArray[np.float64]


def lines_of(homes: Homes, zone: ZoneInfo) -> tuple[Energies, Floats]:
    """Return the energies on bills: taken in peak hours and outside, given; and the known part of the steps.

    Args:
        homes: The homes, in steps of at most an hour.
        zone: The town's time zone: bills are of local months.

    Returns:
        Energies, (homes, lines), and the part of each line's steps that is known.
    """
    quarters = homes.times // QUARTER_S
    months = to_local(quarters, zone).astype("timedelta64[m]") * 15 + np.datetime64("1970-01-01")
    _, month = np.unique(months.astype("datetime64[M]"), return_inverse=True)
    hour = local_hour(quarters, zone)
    peak = (hour >= PEAK_HOURS[0]) & (hour < PEAK_HOURS[1])
    energies, known = [], []
    for which in range(month.max() + 1):
        for measure, steps in ((HomeMeasure.TAKEN, peak), (HomeMeasure.TAKEN, ~peak), (HomeMeasure.GIVEN, month >= 0)):
            some = steps & (month == which)
            energies.append((homes.values[measure][:, some] * homes.known[:, some]).sum(axis=1))
            known.append(homes.known[:, some].sum(axis=1) / max(1, int(some.sum())))
    return np.stack(energies, axis=1), np.stack(known, axis=1)


def find_by_bills(
    truth: Homes,
    published: Homes,
    zone: ZoneInfo,
    random: np.random.Generator,
    trials: int = 400,
) -> Success:
    """Return how often a home's bill finds it among the pseudonyms; arguments as ``find_by_half_hours``."""
    bills, _ = lines_of(truth, zone)
    bills = (bills + BILL_UNIT // 2) // BILL_UNIT * BILL_UNIT
    sums, known = lines_of(published, zone)
    lines: Floats = sums / np.where(known > 0, known, 1)
    row_of = {home: row for row, home in enumerate(published.homes)}
    chosen = random.permutation(len(truth.homes))[:trials]
    hits = 0.0
    for first in range(0, len(chosen), _CHUNK):
        some = chosen[first : first + _CHUNK]
        distances = np.abs(bills[some][:, None] - lines[None]).sum(axis=2)
        nearest = distances <= distances.min(axis=1, keepdims=True)
        for found, home in zip(nearest, some.tolist(), strict=True):
            row = row_of.get(truth.homes[home])
            if row is not None and found[row]:
                hits += 1 / int(found.sum())
    return of_hits(
        "bills", "has all bills; finds the pseudonym of each", len(chosen), hits, 1 / max(1, len(truth.homes))
    )


KNOWN = 5  # half-hours in a row that the attacker knows

_DAY_S = 86_400
_FAR = 1e18  # distance of a home whose readings of the time are not published


def windows(homes: Homes, length: int, trials: int, random: np.random.Generator) -> tuple[Energies, Energies]:
    """Return homes and first steps of windows within a UTC day in which all is known; fewer if there are none.

    Args:
        length: Steps of a window.
        trials: The windows wanted.
        random: Draws them.
    """
    day = _DAY_S // homes.step_s
    whole = np.lib.stride_tricks.sliding_window_view(homes.known, length, axis=1).all(axis=2)
    at = np.arange(whole.shape[1]) + homes.start // homes.step_s
    rows, starts = np.nonzero(whole & (at % day <= day - length))
    some = random.permutation(len(rows))[:trials]
    return rows[some], starts[some]


def find_by_half_hours(
    truth: Homes,
    published: Homes,
    random: np.random.Generator,
    trials: int = 400,
) -> Success:
    """Return how often some known half-hours in a row find a home among the pseudonyms.

    Args:
        truth: All homes, in half-hours.
        published: The released homes, in half-hours or hours.
        random: Draws the homes and the windows that are known.
        trials: How many.
    """
    homes, starts = windows(truth, KNOWN, trials, random)
    row_of = {home: row for row, home in enumerate(published.homes)}
    size = published.step_s // HALF_HOUR_S
    series, known = _stacked(published.values), _stacked(truth.values)
    hits = 0.0
    for home, start in zip(homes.tolist(), starts.tolist(), strict=True):
        first = -(-(truth.start // HALF_HOUR_S + start) // size) * size - truth.start // HALF_HOUR_S
        steps = (start + KNOWN - first) // size
        seen = known[home, first : first + steps * size].reshape(steps, size, -1).sum(axis=1)
        begin = (truth.start + first * HALF_HOUR_S - published.start) // published.step_s
        distances = _distances(series, published.known, seen, begin)
        nearest = np.flatnonzero(distances <= distances.min())
        if row_of.get(truth.homes[home], -1) in nearest:
            hits += 1 / len(nearest)
    words = f"knows {KNOWN} half-hours in a row of a home; finds its pseudonym"
    return of_hits("half-hours", words, len(homes), hits, 1 / max(1, len(truth.homes)))


def _stacked(values: Mapping[HomeMeasure, Energies]) -> Energies:
    return np.stack(list(values.values()), axis=2)


def _distances(series: Energies, known: Flags, seen: Energies, begin: int) -> Floats:
    """Return how far each released home is from what was seen."""
    at = slice(begin, begin + len(seen))
    away = np.abs(series[:, at] - seen).sum(axis=(1, 2)).astype(np.float64)
    return np.where(known[:, at].all(axis=1), away, _FAR)


NEAR = 0.1  # a half-hour's use counts as found if the error is at most this part of the home's mean half-hour
SWAPS = 3000  # pairs of groups between which the attacker with all bills seeks the best exchange of two homes
CANDIDATES = 30  # the most homes of each that it compares in one step
UNUSUAL = 9.0  # squared standard deviations beyond which a group's step is no likelier to have the home in it
RESTARTS = 5  # how often it starts anew


Rows = NDArray[np.intp]


def attacks_on(
    truth: Homes, sums: OpenSums, zone: ZoneInfo, random: np.random.Generator, trials: int = 4000
) -> list[Success]:
    """Return the success of each attack on a release.

    Args:
        truth: The homes that the groups' rows are of, in half-hours.
        sums: What is released, in quarter-hours, half-hours or hours.
        zone: The town's time zone.
        random: Draws homes, times and the attackers' first guesses.
        trials: How many homes are attacked.
    """
    return [
        find_group_by_half_hours(truth, sums, random, trials),
        find_groups_by_bills(truth, sums, zone, random),
        find_use(truth, sums, random, trials),
    ]


def _group_of(truth: Homes, sums: OpenSums) -> Rows:
    """Return the row of each home's group; -1: it is in none."""
    group = np.full(len(truth.homes), -1, dtype=np.intp)
    for row, one in enumerate(sums.groups):
        group[list(one.rows)] = row
    return group


def _classes(sums: OpenSums) -> list[Rows]:
    """Return the groups of each function: everybody knows whether a home is a house or an apartment."""
    functions = [group.function for group in sums.groups]
    return [np.flatnonzero([f == one for f in functions]) for one in sorted(set(functions))]


def _sizes(sums: OpenSums) -> NDArray[np.int64]:
    return np.array([len(group.rows) for group in sums.groups], dtype=np.int64)


def _guesses(sums: OpenSums) -> Floats:
    """Return for a home of each group how often guessing the largest group of its function is right."""
    sizes, guesses = _sizes(sums), np.zeros(len(sums.groups))
    for some in _classes(sums):
        guesses[some] = sizes[some].max() / sizes[some].sum()
    return guesses


def _used(sums: OpenSums, step_s: int) -> Floats:
    """Return each group's published use in half-hours or hours; NaN where a sum is not shown."""
    size = step_s // sums.step_s
    values = np.where(sums.shown[HomeMeasure.USED], sums.values[HomeMeasure.USED], np.nan)
    return np.asarray(values[:, : values.shape[1] // size * size].reshape(len(values), -1, size).sum(axis=2))


def find_group_by_half_hours(truth: Homes, sums: OpenSums, random: np.random.Generator, trials: int) -> Success:
    """Return how often five known half-hours of a home tell its group.

    The attacker compares each group's course with its usual one at that time of day, with the home and without it.
    """
    step_s = max(HALF_HOUR_S, sums.step_s)
    size = step_s // HALF_HOUR_S
    groups, seen = _used(sums, step_s), truth.in_steps(step_s).values[HomeMeasure.USED]
    usual, variance = _usual(groups, _DAY_S // step_s)
    group_of, sizes, guesses = _group_of(truth, sums), _sizes(sums), _guesses(sums)
    class_of = {int(row): some for some in _classes(sums) for row in some}
    rest = (1 - 1 / sizes)[:, None]
    rounding = step_s // sums.step_s * UNIT**2 / 12
    of_rest = variance[:, None] * rest + rounding
    inside = np.flatnonzero(group_of >= 0)
    homes, starts = windows(truth.take(inside), KNOWN, trials, random)
    hits = np.zeros(len(homes))
    for trial, (home, start) in enumerate(zip(inside[homes].tolist(), starts.tolist(), strict=True)):
        at = slice(-(-start // size), (start + KNOWN) // size)
        unusual = np.minimum((groups[:, at] - usual[:, at]) ** 2 / variance[:, None], UNUSUAL)
        without = unusual + np.log(variance)[:, None]
        with_ = (groups[:, at] - seen[home, at] - usual[:, at] * rest) ** 2 / of_rest + np.log(of_rest)
        likely = np.nansum(without - with_, axis=1) / 2 + np.log(sizes)
        some = class_of[int(group_of[home])]
        best = some[likely[some] >= likely[some].max()]
        hits[trial] = (group_of[home] in best) / len(best)
    words = f"knows {KNOWN} half-hours in a row of a home; finds its group"
    return of_pairs("group by half-hours", words, hits, guesses[group_of[inside[homes]]])


def _usual(series: Floats, day: int) -> tuple[Floats, Floats]:
    """Return each row's mean at each step's time of day, and the variance of what differs from it."""
    usual = np.zeros_like(series)
    for at in range(min(day, series.shape[1])):
        column = series[:, at::day]
        count = np.maximum(np.isfinite(column).sum(axis=1), 1)
        usual[:, at::day] = (np.nansum(column, axis=1) / count)[:, None]
    away = np.where(np.isfinite(series), series - usual, 0.0)
    return usual, np.maximum((away**2).mean(axis=1), float(UNIT) ** 2)


def find_groups_by_bills(truth: Homes, sums: OpenSums, zone: ZoneInfo, random: np.random.Generator) -> Success:
    """Return how often all bills and the groups' totals together tell a home's group.

    The attacker deals the homes out, and exchanges pairs as long as the groups' totals come nearer to the published.
    Guessing is a deal without exchanges.
    What houses use of their own sun is on no bill, so the attacker is given each home's total use and generation.
    """
    group_of, sizes = _group_of(truth, sums), _sizes(sums)
    bills, wanted = _totals(truth, zone), _group_totals(truth, sums, zone)
    hits, expected = [], []
    for some in _classes(sums):
        inside = np.flatnonzero(np.isin(group_of, some))
        for _ in range(RESTARTS):
            dealt = np.repeat(np.arange(len(some)), sizes[some])
            random.shuffle(dealt)
            if len(some) > 1:
                _exchange(dealt, bills[inside], wanted[some], random)
            hits.append((some[dealt] == group_of[inside]).astype(np.float64))
            expected.append(sizes[group_of[inside]] / len(inside))
    words = "has all bills; finds the group of each home"
    return of_pairs("group by bills", words, np.concatenate(hits), np.concatenate(expected))


def _totals(homes: Homes, zone: ZoneInfo) -> Floats:
    """Return each home's use in and outside peak hours by month, milliwatt-hours."""
    alike = {HomeMeasure.TAKEN: homes.values[HomeMeasure.USED], HomeMeasure.GIVEN: homes.values[HomeMeasure.GENERATED]}
    shown = Homes(homes=homes.homes, start=homes.start, step_s=homes.step_s, values=alike, known=homes.known)
    return lines_of(shown, zone)[0].astype(np.float64)


def _group_totals(truth: Homes, sums: OpenSums, zone: ZoneInfo) -> Floats:
    """Return the published totals of each group; sums that are not shown are filled by the group's mean."""
    alike = {}
    for measure in MEASURES:
        shown = sums.shown[measure]
        mean = (sums.values[measure] * shown).sum(axis=1) // np.maximum(shown.sum(axis=1), 1)
        alike[measure] = np.where(shown, sums.values[measure], mean[:, None])
    series = Homes(
        homes=truth.homes[: len(sums.groups)],
        start=sums.start,
        step_s=sums.step_s,
        values=alike,
        known=np.ones_like(sums.shown[HomeMeasure.USED]),
    )
    return _totals(series, zone)


def _exchange(dealt: Rows, bills: Floats, wanted: Floats, random: np.random.Generator) -> None:
    """Exchange homes between groups, the best pair of two groups at a time, to bring totals nearer to the wanted."""
    scale = np.maximum(bills.std(axis=0), 1.0)
    bills, wanted = bills / scale, wanted / scale
    missing = wanted.copy()
    np.subtract.at(missing, dealt, bills)
    for _ in range(SWAPS):
        a, b = random.choice(len(wanted), 2, replace=False)
        ours, theirs = (random.permutation(np.flatnonzero(dealt == one))[:CANDIDATES] for one in (a, b))
        moved = bills[theirs][None] - bills[ours][:, None]
        now = (missing[a] ** 2 + missing[b] ** 2).sum()
        after = ((missing[a] - moved) ** 2 + (missing[b] + moved) ** 2).sum(axis=2)
        i, j = np.unravel_index(after.argmin(), after.shape)
        if after[i, j] < now:
            missing[a] -= moved[i, j]
            missing[b] += moved[i, j]
            dealt[ours[i]], dealt[theirs[j]] = b, a


def find_use(truth: Homes, sums: OpenSums, random: np.random.Generator, trials: int) -> Success:
    """Return how often a home's use in a half-hour is found, within ``NEAR`` of its mean, from bill and group.

    The attacker divides the group's use in the step by the homes' totals. Guessing divides by the usual course of all.
    """
    step_s = max(HALF_HOUR_S, sums.step_s)
    groups, seen = _used(sums, step_s), truth.in_steps(step_s)
    use = seen.values[HomeMeasure.USED].astype(np.float64)
    totals, group_of, day = use.sum(axis=1), _group_of(truth, sums), _DAY_S // step_s
    all_of_them = use.sum(axis=0)
    usual = np.array([all_of_them[at::day].mean() for at in range(min(day, len(all_of_them)))])
    usual = np.resize(usual, len(all_of_them)) / all_of_them.mean()
    homes = random.permutation(np.flatnonzero((group_of >= 0) & (totals > 0)))[:trials]
    rates, guesses = np.zeros(len(homes)), np.zeros(len(homes))
    for trial, home in enumerate(homes.tolist()):
        group = group_of[home]
        mean, there = use[home].mean(), np.isfinite(groups[group])
        estimate = groups[group] * totals[home] / totals[list(sums.groups[group].rows)].sum()
        for each, course in ((rates, estimate), (guesses, usual * mean)):
            each[trial] = (np.abs(course - use[home])[there] <= NEAR * mean).sum() / max(1, there.sum())
    words = f"has all bills and the homes of each group; finds a home's use in a step to {NEAR:.0%} of its mean"
    return of_pairs("use by bill and group", words, rates, guesses)
