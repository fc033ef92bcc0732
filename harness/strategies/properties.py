"""The properties of each strategy of sharing, checked on arrays of microgrids."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from commonwatt.energy.strategies import STRATEGIES, Batteries, Flags, SharingPlan

Property = Callable[[Batteries, SharingPlan], Flags]  # returns the microgrids that have the property


def _all(flags: npt.NDArray[np.bool_]) -> Flags:
    return np.asarray(flags.all(axis=1), np.bool_)


def _any(flags: npt.NDArray[np.bool_]) -> Flags:
    return np.asarray(flags.any(axis=1), np.bool_)


def _never_below_the_minimum(batteries: Batteries, plan: SharingPlan) -> Flags:
    after = batteries.level - plan.giving
    return ~_any((plan.giving > 0) & (after < batteries.minimum))


def _nothing_for_absent_ones(batteries: Batteries, plan: SharingPlan) -> Flags:
    possible = (batteries.level >= 0) & (batteries.level <= batteries.capacity)
    part = plan.donors | (plan.giving != 0) | (plan.receiving != 0)
    wrong = part & ~(batteries.available & possible) | (plan.giving > 0) & ~batteries.may_share
    return ~_any(wrong)


def _within_the_need(batteries: Batteries, plan: SharingPlan) -> Flags:
    limits = (plan.giving >= 0) & (plan.receiving >= 0) & (plan.receiving <= batteries.deficit)
    balanced: Flags = plan.giving.sum(axis=1) == plan.receiving.sum(axis=1)
    return _all(limits) & balanced


def _gives_only_as_donor(batteries: Batteries, plan: SharingPlan) -> Flags:
    in_range = (plan.weights >= 0) & (plan.weights <= 1000)
    return _all(in_range & (plan.donors | (plan.giving == 0)) & ~(plan.donors & (plan.receiving > 0)))


def _equal_help(batteries: Batteries, plan: SharingPlan) -> Flags:
    """A battery that is not at its minimum then receives no less than any other, but for 1 mWh."""
    short = (batteries.deficit > plan.receiving) & (plan.receiving.sum(axis=1) > 0)[:, None]
    least = np.where(short, plan.receiving, np.iinfo(np.int64).max).min(axis=1)
    equal: Flags = plan.receiving.max(axis=1) - 1 <= least
    return equal


def _same_again(name: str) -> Property:
    def same(batteries: Batteries, plan: SharingPlan) -> Flags:
        """With the same levels, and the commands carried out, it decides the same."""
        again = STRATEGIES[name](replace(batteries, sharing=plan.donors))
        return _all(again.donors == plan.donors)

    return same


def _no_deficit_beside_surplus(batteries: Batteries, plan: SharingPlan) -> Flags:
    """Where help is given, all deficits or the donors' whole surplus is gone."""
    deficit = (batteries.deficit - plan.receiving).sum(axis=1)
    surplus = (np.where(plan.donors, batteries.surplus, 0) - plan.giving).sum(axis=1)
    settled: Flags = (deficit == 0) | (surplus == 0)
    return settled | ~_any(plan.donors)


def _stays_on_after_its_start(batteries: Batteries, plan: SharingPlan) -> Flags:
    """Where a battery began to share recently, all go on above their minimum, while one of the others may need help."""
    # Where no battery is below its target, batteries share for no other reason.
    recent = batteries.sharing if batteries.recent is None else batteries.sharing & batteries.recent
    done = batteries.level >= np.minimum(batteries.target + batteries.band, batteries.capacity)
    others = batteries.usable & ~batteries.sharing & (batteries.target > 0) & ~done
    recent = recent & (batteries.surplus > 0)
    stays = batteries.sharing & (batteries.surplus > 0) & (_any(recent) & _any(others))[:, None]
    needless = plan.donors & ~_any(batteries.deficit > 0)[:, None]
    return _all(plan.donors | ~stays) & ~_any(needless & ~stays)


def _all_able_ones_give(batteries: Batteries, plan: SharingPlan) -> Flags:
    band = np.minimum(batteries.capacity * batteries.band_permille // 1000, batteries.capacity - batteries.minimum)
    able = (batteries.surplus > 0) & (batteries.surplus >= band)
    return ~_any(plan.donors) | ~_any(batteries.deficit > 0) | _all(plan.donors | ~able)


def _acts_at_the_band(batteries: Batteries, plan: SharingPlan) -> Flags:
    """From rest it acts exactly if a deficit is as large as the band, and a battery has a surplus of the band."""
    band = batteries.capacity * batteries.band_permille // 1000
    needs = _any((batteries.deficit > 0) & (batteries.deficit >= np.minimum(band, batteries.target)))
    return _acts_iff(batteries, plan, needs)


def _acts_when_empty(batteries: Batteries, plan: SharingPlan) -> Flags:
    """From rest it acts exactly if a level is 0, and a battery has a surplus of the band."""
    return _acts_iff(batteries, plan, _any((batteries.level == 0) & (batteries.deficit > 0)))


def _acts_iff(batteries: Batteries, plan: SharingPlan, needs: Flags) -> Flags:
    rest = ~_any(batteries.sharing & batteries.usable)
    expected = needs & _any(batteries.able)
    return ~rest | ~(_any(plan.donors) ^ expected)


def _by_weight(batteries: Batteries, plan: SharingPlan) -> Flags:
    """Of two donors, the one with energy left gave no less for its weight, but for 1 mWh."""
    free = plan.donors & (plan.giving < batteries.surplus)
    weight = np.where(plan.donors, plan.weights, 1).astype(float)
    least = np.where(free, (plan.giving + 1) / weight, np.inf).min(axis=1)
    most = np.where(plan.donors, (plan.giving - 1) / weight, -np.inf).max(axis=1)
    fair: Flags = most <= least * (1 + 1e-12)
    return fair


def _largest_first(batteries: Batteries, plan: SharingPlan) -> Flags:
    """A donor gives only if every larger surplus that may be used is used up."""
    rest = ~_any(batteries.sharing & batteries.usable)
    free = batteries.able & (plan.giving < batteries.surplus)
    largest_free = np.where(free, batteries.surplus, -1).max(axis=1)
    largest_later = np.where(plan.giving > 0, batteries.surplus, np.iinfo(np.int64).max).min(axis=1)
    ordered: Flags = largest_later >= largest_free
    return ordered | ~rest


def _only_the_needed(batteries: Batteries, plan: SharingPlan) -> Flags:
    """From rest, each donor gives something."""
    rest = ~_any(batteries.sharing & batteries.usable)
    return ~rest | ~_any(plan.donors & (plan.giving == 0))


COMMON: Mapping[str, Property] = {
    "no donor falls below its minimum": _never_below_the_minimum,
    "nothing for batteries that are absent, isolated, or report what can't be": _nothing_for_absent_ones,
    "what is given is received, and no more than is needed": _within_the_need,
    "only donors give, and no donor receives": _gives_only_as_donor,
    "deficits are filled equally": _equal_help,
    "no deficit remains beside the surplus of a donor": _no_deficit_beside_surplus,
}
_BY_COMMAND = {"sharing that began goes on for five minutes": _stays_on_after_its_start}
PROPERTIES: Mapping[str, Mapping[str, Property]] = {
    "spec": {
        "starts at the band": _acts_at_the_band,
        "all above their minimum give": _all_able_ones_give,
        "by weight": _by_weight,
    },
    "aces": {
        "starts if a level is 0": _acts_when_empty,
        "all above their minimum give": _all_able_ones_give,
        "by weight": _by_weight,
    },
    "rangers": {
        "starts at the band": _acts_at_the_band,
        "the largest surplus first": _largest_first,
        "only those that are needed": _only_the_needed,
    },
}


def table() -> Iterator[tuple[str, str, Property]]:
    """Return each strategy with each of its properties."""
    for strategy, own in PROPERTIES.items():
        named = {**COMMON, **_BY_COMMAND, "the same levels, the same decision": _same_again(strategy), **own}
        yield from ((strategy, name, judge) for name, judge in named.items())
