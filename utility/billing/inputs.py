"""What the bills of a month are computed from: registry, tariffs, bases, places, provisional quarters."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.calendar import local_text, month_quarters
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, MeterId, Quarter
from commonwatt.town.town import Function
from utility.energy.quarters import SettledQuarters
from utility.registry.accounts import Account, DatedRegistry, Installed, value_at
from utility.tariffs.tariff import Tariff, in_force

# The kinds of places that use energy.
UNITS = frozenset({Function.HOUSE, Function.APARTMENT, Function.HOSPITAL, Function.POLICE, Function.FIRE})
# The kinds of places that get the solar farm's credit.
PUBLIC = frozenset({Function.HOSPITAL, Function.POLICE, Function.FIRE})


@dataclass(frozen=True, kw_only=True)
class BilledPlace:
    """A place."""

    name: str  # its name
    function: Function  # its kind
    building: str | None  # the place of the building that it is in; ``None``: in none
    meters: tuple[Installed, ...]  # its meters, by id

    def exists(self, first: Quarter, until: Quarter) -> NDArray[np.bool_]:
        """Return in which quarters the place exists: from its first meter's installation to its last one's removal."""
        starts = [meter.start for meter in self.meters]
        ends = [meter.end for meter in self.meters]
        found = np.full(until - first, fill_value=True)
        if None not in starts:
            found[: max(0, min(s for s in starts if s is not None) - first)] = False
        if None not in ends:
            found[max(0, max(e for e in ends if e is not None) - first) :] = False
        return found

    def held(self, first: Quarter, until: Quarter) -> list[tuple[AccountNumber, Quarter, Quarter]]:
        """Return which accounts had the place: account, first quarter, quarter after.

        Of several meters the lowest id counts.
        """
        by_meter = [meter.held(first, until) for meter in self.meters]
        if all(each == by_meter[0] for each in by_meter):
            return by_meter[0]
        accounts = np.zeros(until - first, np.int64)
        for held in reversed(by_meter):
            for account, start, end in held:
                accounts[start - first : end - first] = account
        bounds = [0, *(np.flatnonzero(np.diff(accounts)) + 1).tolist(), accounts.size]
        return [(int(accounts[a]), first + a, first + b) for a, b in pairwise(bounds) if accounts[a]]


def places_of(members: Iterable[Installed]) -> list[BilledPlace]:
    """Return the places of a microgrid by name, without its boundary."""
    by_name: dict[str, list[Installed]] = {}
    for meter in members:
        if meter.function is not Function.BOUNDARY:
            by_name.setdefault(meter.place, []).append(meter)
    return [_place(name, meters) for name, meters in sorted(by_name.items())]


def _place(name: str, meters: Sequence[Installed]) -> BilledPlace:
    ordered = sorted(meters, key=lambda meter: meter.id)
    return BilledPlace(name=name, function=ordered[0].function, building=ordered[0].building, meters=tuple(ordered))


# The version of the rules that runs are computed by (docs/billing.md). No release had the first one.
RULES = 2
# The version of runs that use what no earlier version has: taxes, entries, final bills, names.
NEWEST_RULES = 3


def rules_of(*used: object) -> int:
    """Return the version of the rules of a run, by what it uses of the newest ones: a town that uses none keeps its."""
    return NEWEST_RULES if any(used) else RULES


# Returns the settled quarter-hours of meters, from a quarter to before another one.
Load = Callable[[Sequence[MeterId], Quarter, Quarter], SettledQuarters]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """A part of a month in which one version of a tariff is in force for an account."""

    tariff: Tariff  # the version
    start: Quarter  # its first quarter
    end: Quarter  # the quarter after its last


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """What the bills of a month are computed from."""

    month: str  # the local month, as in 2026-11
    timezone: str  # its zone
    registry: DatedRegistry  # meters and accounts
    tariffs: tuple[Tariff, ...]  # the published versions of all tariffs
    default: str  # the name of the tariff of accounts without one of their own
    # The base that the policy keeps for an account, dollars; an account without one has the tariff's.
    bases: Mapping[AccountNumber, Decimal] = field(default_factory=dict)

    @cached_property
    def first(self) -> Quarter:
        """The month's first quarter."""
        return month_quarters(self.month, ZoneInfo(self.timezone))[0]

    @cached_property
    def until(self) -> Quarter:
        """The quarter after the month's last."""
        return month_quarters(self.month, ZoneInfo(self.timezone))[1]

    @property
    def length(self) -> int:
        """The quarters of the month: 2,880 for 30 days, four more or less with a change of the clocks."""
        return self.until - self.first

    @cached_property
    def day_ends(self) -> list[Quarter]:
        """The last quarter of each local day of the month."""
        days = [local_text(quarter, ZoneInfo(self.timezone))[:10] for quarter in range(self.first, self.until + 1)]
        return [self.first + n for n in range(self.length) if days[n] != days[n + 1]]

    def segments(self, number: AccountNumber) -> tuple[Segment, ...]:
        """Return which versions are in force for an account, over the whole month; the same objects each time.

        Raises:
            ConfigError: No version of its tariff is in force in a part of the month.
        """
        return self._whole(self._names(self.registry.accounts.get(number)))

    def within(self, number: AccountNumber, start: Quarter, end: Quarter) -> Sequence[Segment]:
        """Return the segments that lie between two quarters, in whole or in part."""
        whole = self.segments(number)
        if start <= self.first and self.until <= end:
            return whole
        return [each for each in whole if each.start < end and start < each.end]

    @cached_property
    def changes(self) -> set[Quarter]:
        """The quarters of the month in which a tariff's version, or an account's tariff, changes."""
        dates = {tariff.effective for tariff in self.tariffs}
        dates |= {dated.start for account in self.registry.accounts.values() for dated in account.tariffs}
        return {quarter for quarter in dates if self.first < quarter < self.until}

    @cached_property
    def used(self) -> list[Tariff]:
        """The versions that are in force for an account in the month."""
        names = {self._names(account) for account in self.registry.accounts.values()} | {((self.first, self.default),)}
        found = {segment.tariff.label: segment.tariff for each in names for segment in self._whole(each)}
        return [found[label] for label in sorted(found)]

    def _names(self, account: Account | None) -> tuple[tuple[Quarter, str], ...]:
        """Return the names of an account's tariffs in the month, each from a quarter on."""
        if account is None or not account.tariffs:
            return ((self.first, self.default),)
        names = [(self.first, value_at(account.tariffs, self.first) or self.default)]
        return (*names, *((d.start, d.value) for d in account.tariffs if self.first < d.start < self.until))

    @cached_property
    def _known(self) -> dict[tuple[tuple[Quarter, str], ...], tuple[Segment, ...]]:
        return {}

    def _whole(self, names: tuple[tuple[Quarter, str], ...]) -> tuple[Segment, ...]:
        """Return the segments of the whole month for the names of tariffs."""
        if names not in self._known:
            ends = [*(start for start, _ in names[1:]), self.until]
            self._known[names] = tuple(
                segment
                for (start, name), end in zip(names, ends, strict=True)
                for segment in self._versions(name, start, end)
            )
        return self._known[names]

    def _versions(self, name: str, start: Quarter, end: Quarter) -> list[Segment]:
        versions = [tariff for tariff in self.tariffs if tariff.name == name]
        starts = sorted({start, *(t.effective for t in versions if start < t.effective < end)})
        found = []
        for begin, after in zip(starts, [*starts[1:], end], strict=True):
            tariff = in_force(versions, begin)
            if tariff is None:
                when = local_text(begin, ZoneInfo(self.timezone))
                raise ConfigError(
                    f"no tariff {name!r} is in force on {when}{self._whose(name)}",
                    "publish one: commonwatt tariff propose FILE",
                )
            found.append(Segment(tariff=tariff, start=begin, end=after))
        return found

    def _whose(self, name: str) -> str:
        """Return which accounts were given a tariff, for people: its name may be a slip of one row."""
        given = [a.number for a in self.registry.accounts.values() if any(dated.value == name for dated in a.tariffs)]
        more = f" and {len(given) - 1} more" if len(given) > 1 else ""
        return f" (given to account {min(given)}{more})" if given else ""


Spans = Mapping[MeterId, Sequence[tuple[Quarter, Quarter]]]
"""Provisional quarters by meter: first, and the one after the last."""


class Recorder:
    """Loads settled quarter-hours, and remembers which were provisional."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.found: dict[MeterId, list[tuple[Quarter, Quarter]]] = {}  # the provisional quarters so far
        self.settled: set[Quarter] = set()  # the quarters of which a meter is settled

    def load(self, meters: Sequence[MeterId], first: Quarter, until: Quarter) -> SettledQuarters:
        """Return the settled quarter-hours of some meters."""
        settled = self._load(meters, first, until)
        self.settled.update((first + np.flatnonzero(settled.version.any(axis=0))).tolist())
        for row in np.flatnonzero(settled.provisional.any(axis=1)):
            edges = np.flatnonzero(np.diff(settled.provisional[row].astype(np.int8), prepend=0, append=0)).tolist()
            spans = [(first + a, first + b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
            known = self.found.setdefault(int(settled.meters[row]), [])
            known += [span for span in spans if span not in known]
        return settled


def replayed(load: Load, spans: Spans) -> Load:
    """Return a function that loads settled quarter-hours with the provisional ones of a run."""

    def again(meters: Sequence[MeterId], first: Quarter, until: Quarter) -> SettledQuarters:
        settled = load(meters, first, until)
        provisional = np.zeros(settled.provisional.shape, np.bool_)
        for row, meter in enumerate(settled.meters):
            for start, end in spans.get(int(meter), ()):
                provisional[row, max(0, start - first) : max(0, end - first)] = True
        return replace(settled, provisional=provisional)

    return again
