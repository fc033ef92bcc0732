"""Attacks on the open tier: in which group is a home, and what did a home use when.

Groups are not published with their homes. The third attack is given them nevertheless: what an attacker with all bills
and the groups' homes gets is the worst case.
"""

from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from utility.research.attacks.bills import lines_of
from utility.research.attacks.half_hours import KNOWN, windows
from utility.research.attacks.success import Success, of_pairs
from utility.research.groups import MEASURES, UNIT, OpenSums
from utility.research.homes import HALF_HOUR_S, Homes, Measure

NEAR = 0.1  # a half-hour's use counts as found if the error is at most this part of the home's mean half-hour
SWAPS = 3000  # pairs of groups between which the attacker with all bills seeks the best exchange of two homes
CANDIDATES = 30  # the most homes of each that it compares in one step
UNUSUAL = 9.0  # squared standard deviations beyond which a group's step is no likelier to have the home in it
RESTARTS = 5  # how often it starts anew

_DAY_S = 86_400

Floats = NDArray[np.float64]
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
    values = np.where(sums.shown[Measure.USED], sums.values[Measure.USED], np.nan)
    return np.asarray(values[:, : values.shape[1] // size * size].reshape(len(values), -1, size).sum(axis=2))


def find_group_by_half_hours(truth: Homes, sums: OpenSums, random: np.random.Generator, trials: int) -> Success:
    """Return how often five known half-hours of a home tell its group.

    The attacker compares each group's course with its usual one at that time of day, with the home and without it.
    """
    step_s = max(HALF_HOUR_S, sums.step_s)
    size = step_s // HALF_HOUR_S
    groups, seen = _used(sums, step_s), truth.in_steps(step_s).values[Measure.USED]
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
    alike = {Measure.TAKEN: homes.values[Measure.USED], Measure.GIVEN: homes.values[Measure.GENERATED]}
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
        known=np.ones_like(sums.shown[Measure.USED]),
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
    use = seen.values[Measure.USED].astype(np.float64)
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
