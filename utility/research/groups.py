"""The open tier: sums of groups of homes in which no home stands out (U7).

The groups are the leaves of a tree. Its root are all homes; it divides by function, then by the bits of a number that
follows from the home's name and the utility's secret. A node is divided only if both halves pass the rules and can
show nearly all their sums. So a half that fails stays merged with its sibling, a home that comes or goes changes no
group but its own, and of the groups of two periods each is the same, or contains the other, or is contained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import EpochSeconds
from utility.research.homes import Energies, Flags, HomeMeasure, Homes, keyed

# What the open tier has. `taken` and `given` of homes with batteries nearly always come from a few homes.
MEASURES = (HomeMeasure.USED, HomeMeasure.GENERATED)
UNIT = 100_000  # sums are rounded to this, milliwatt-hours
MIN_HOMES = 15  # the least homes of a group (CPUC D.14-05-016)
MAX_SHARE_PERCENT = 15  # the most that one home may have of a published sum, and of a group's sum over the period
MIN_SHOWN = 0.95  # a node is divided only if each half can show at least this part of what it used
# The least part of a period's steps that a home must have; missing ones are filled by its mean of that time of day.
MIN_KNOWN = 0.9

_MAX_DEPTH = 64


@dataclass(frozen=True, kw_only=True)
class HomeGroup:
    """A group of homes."""

    name: str  # its place in the tree, such as `house-01`: the same in every release
    function: str  # house or apartment, `home` for both
    rows: tuple[int, ...]  # its homes; never published


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenSums:
    """The sums of the open tier."""

    groups: tuple[HomeGroup, ...]  # the groups, one a row
    start: EpochSeconds  # start of the first step
    step_s: int  # length of a step, seconds
    values: Mapping[HomeMeasure, Energies]  # by measure, rounded to ``UNIT``, (groups, steps); 0 where not shown
    shown: Mapping[HomeMeasure, Flags]  # by measure, whether a sum is published

    def take(self, rows: Sequence[int]) -> "OpenSums":
        """Return some of the groups."""
        return replace(
            self,
            groups=tuple(self.groups[row] for row in rows),
            values={measure: values[rows] for measure, values in self.values.items()},
            shown={measure: shown[rows] for measure, shown in self.shown.items()},
        )


def filled(homes: Homes) -> Homes:
    """Return the homes with nearly all readings, their missing steps filled by their mean of the same time of day."""
    homes = homes.take(np.flatnonzero(homes.known.mean(axis=1) >= MIN_KNOWN))
    if homes.known.all():
        return homes
    day = 86_400 // homes.step_s
    at = np.arange(homes.known.shape[1]) % day
    weight = _by_time(homes.known.astype(np.int64), at, day)
    usual = {measure: _by_time(values, at, day) // np.maximum(weight, 1) for measure, values in homes.values.items()}
    values = {m: np.where(homes.known, values, usual[m][:, at]) for m, values in homes.values.items()}
    return replace(homes, values=values, known=np.ones_like(homes.known))


def _by_time(values: Energies, at: NDArray[np.int64], day: int) -> Energies:
    """Return the sums of the steps of each time of day, (homes, steps of a day)."""
    sums = np.zeros((day, len(values)), dtype=np.int64)
    np.add.at(sums, at, values.T)
    return sums.T


def grouped(homes: Homes, secret: bytes, min_homes: int = MIN_HOMES) -> tuple[HomeGroup, ...]:
    """Return the groups of homes without missing steps; none if all homes together fail the rules.

    Args:
        homes: The homes, all known.
        secret: The utility's.
        min_homes: The least homes of a group.
    """
    bits = [int.from_bytes(keyed(secret, "group", home.key)[:8], "big") for home in homes.homes]
    found: list[HomeGroup] = []

    def passes(rows: Sequence[int]) -> bool:
        return _allowed(homes, rows, min_homes) and _shows_enough(homes, rows)

    def divide(name: str, function: str, rows: tuple[int, ...], depth: int) -> None:
        halves = [tuple(r for r in rows if bits[r] >> (63 - depth) & 1 == bit) for bit in (0, 1)]
        if depth < _MAX_DEPTH and all(map(passes, halves)):
            for bit, half in enumerate(halves):
                divide(f"{name}{'' if depth else '-'}{bit}", function, half, depth + 1)
        else:
            found.append(HomeGroup(name=name, function=function, rows=rows))

    everyone = tuple(range(len(homes.homes)))
    functions = {
        f.value: tuple(r for r in everyone if homes.homes[r].function is f) for f in {h.function for h in homes.homes}
    }
    if len(functions) > 1 and not all(map(passes, functions.values())):
        functions = {"home": everyone}
    for function, rows in sorted(functions.items()):
        if _allowed(homes, rows, min_homes):
            divide(function, function, rows, 0)
    return tuple(found)


def _allowed(homes: Homes, rows: Sequence[int], min_homes: int) -> bool:
    """Return whether a group has enough homes, and none has too much of its sum over the period."""
    totals = [homes.values[measure][list(rows)].sum(axis=1) for measure in MEASURES]
    return len(rows) >= min_homes and all(
        int(np.abs(total).max()) * 100 <= MAX_SHARE_PERCENT * int(total.sum()) for total in totals
    )


def _shows_enough(homes: Homes, rows: Sequence[int]) -> bool:
    return bool(_shown(homes.values[HomeMeasure.USED][list(rows)]).mean() >= MIN_SHOWN)


def _shown(values: Energies) -> Flags:
    """Return which sums over homes may be published: no home has too much of it, or it rounds to 0."""
    sums = values.sum(axis=0)
    # A battery's level that jumps makes a use far below 0.
    most = np.abs(values).max(axis=0)
    return np.asarray((most * 100 <= MAX_SHARE_PERCENT * sums) | (_rounded(sums) == 0))


def _rounded(sums: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray((sums + UNIT // 2) // UNIT * UNIT)


def sums_of(homes: Homes, groups: Sequence[HomeGroup]) -> OpenSums:
    """Return the sums of groups, rounded, without those in which a home stands out."""
    values: dict[HomeMeasure, Energies] = {}
    shown: dict[HomeMeasure, Flags] = {}
    for measure in MEASURES:
        of = [homes.values[measure][list(group.rows)] for group in groups]
        shown[measure] = np.array([_shown(one) for one in of])
        values[measure] = np.array([_rounded(one.sum(axis=0)) for one in of]) * shown[measure]
    return OpenSums(groups=tuple(groups), start=homes.start, step_s=homes.step_s, values=values, shown=shown)


def digests_of(homes: Homes, sums: OpenSums, secret: bytes) -> dict[str, str]:
    """Return a digest of each group's homes and sums, by its name.

    A later release of the same time publishes a group only if its digest is the same: the difference of two sums, one
    with a home or its late reading, the other without, would be that home.
    """
    found = {}
    for row, group in enumerate(sums.groups):
        content = [homes.homes[r].key.encode() for r in group.rows]
        content += [sums.values[m][row].astype("<i8").tobytes() + sums.shown[m][row].tobytes() for m in MEASURES]
        found[group.name] = keyed(secret, f"group {group.name}", b"\0".join(content)).hex()[:16]
    return found
