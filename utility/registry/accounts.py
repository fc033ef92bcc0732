"""The registry with dates: which account had a meter when, its tariff, minimum, weight; meters exchanged (T8, A).

Every date is a quarter-hour. Numbers are stored, never derived from a position in a file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Generic, TypeVar

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import (
    AccountNumber,
    EpochSeconds,
    MeterId,
    MicrogridId,
    MilliwattHours,
    Quarter,
    quarter_of,
)
from commonwatt.town.town import Direction, Function

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Holding:
    """A period in which an account had a meter."""

    account: AccountNumber  # the account; never 0
    start: Quarter  # its first quarter
    end: Quarter | None = None  # the quarter after its last; ``None``: it goes on


def holder_at(holdings: Iterable[Holding], quarter: Quarter) -> AccountNumber | None:
    """Return the account that had a meter in a quarter; ``None``: nobody."""
    for held in holdings:
        if held.start <= quarter and (held.end is None or quarter < held.end):
            return held.account
    return None


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A meter at a place, from its installation to its removal."""

    id: MeterId  # its id
    microgrid: MicrogridId  # its microgrid
    place: str  # its place, one name for all meters of a place; unique within the microgrid
    building: str | None = None  # the place of the building that it is in; ``None``: in none
    function: Function  # the kind of place behind it
    direction: Direction  # the direction it measures
    capacity: MilliwattHours | None = None  # capacity of the battery behind it, milliwatt-hours; ``None``: no battery
    start: Quarter | None = None  # its first quarter; ``None``: from the beginning
    end: Quarter | None = None  # the quarter after its last; ``None``: it is still there
    # Accounts that had it, in order of time, not overlapping. Without one its energy is the town's.
    holdings: tuple[Holding, ...] = ()
    # Its register when it was installed, milliwatt-hours; ``None``: not known.
    first_register: MilliwattHours | None = None
    last_register: MilliwattHours | None = None  # its register when it was removed

    def account_at(self, quarter: Quarter) -> AccountNumber | None:
        """Return the account that had the meter in a quarter."""
        return holder_at(self.holdings, quarter)

    def within(self, first: Quarter, until: Quarter) -> tuple[Quarter, Quarter]:
        """Return when it was installed, within some quarters: first quarter, quarter after; equal: it was not."""
        low = first if self.start is None else min(max(first, self.start), until)
        return low, until if self.end is None else max(low, min(until, self.end))

    def held(self, first: Quarter, until: Quarter) -> list[tuple[AccountNumber, Quarter, Quarter]]:
        """Return which accounts had it while it was installed, within some quarters: account, first, quarter after."""
        low, high = self.within(first, until)
        found = []
        for each in self.holdings:
            start, end = max(low, each.start), high if each.end is None else min(high, each.end)
            if start < end:
                found.append((each.account, start, end))
        return found


@dataclass(frozen=True, kw_only=True)
class Dated(Generic[Value]):
    """A value from a quarter on, until the next one of its sequence."""

    start: Quarter
    value: Value


def value_at(values: Sequence[Dated[Value]], quarter: Quarter) -> Value | None:
    """Return the value that holds in a quarter; ``None``: none has begun."""
    return next((dated.value for dated in reversed(values) if dated.start <= quarter), None)


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account: one household, apartment or public service."""

    number: AccountNumber  # its number, from 1; stable for ever
    function: Function  # the kind of its place
    tariffs: tuple[Dated[str], ...] = ()  # the names of its tariffs, by date; empty: the town's default
    # The sharing minimum, percent, by date, as agreed (T6); the meter's own answer is the truth.
    minimums: tuple[Dated[int], ...] = ()
    weights: tuple[Dated[Decimal], ...] = ()  # the sharing weight by date

    @property
    def terms(self) -> tuple[tuple[str, tuple[Dated[Any], ...]], ...]:
        """Its terms by name."""
        return ("tariff", self.tariffs), ("minimum", self.minimums), ("weight", self.weights)


@dataclass(frozen=True, kw_only=True)
class DatedRegistry:
    """The whole registry with its dates."""

    revision: int  # increases with each change
    meters: Mapping[MeterId, Installed] = field(default_factory=dict)  # by id
    accounts: Mapping[AccountNumber, Account] = field(default_factory=dict)  # by number

    def members(self, microgrid: MicrogridId) -> Sequence[Installed]:
        """Return the meters that a microgrid has or had, by id."""
        return [m for _, m in sorted(self.meters.items()) if m.microgrid == microgrid]


def functions_of(meters: Mapping[MeterId, Installed]) -> dict[AccountNumber, Function]:
    """Return the kind of place of each account that has or had a meter: of the meter it had last.

    A meter of another maker says nothing of the place, unless there is no other.
    """
    found: dict[AccountNumber, tuple[bool, Quarter, Function]] = {}
    for meter in meters.values():
        of_place = meter.function not in (Function.FOREIGN, Function.ADAPTED)
        for held in meter.holdings:
            found[held.account] = max(
                found.get(held.account, (False, -1, meter.function)), (of_place, held.start, meter.function)
            )
    return {account: function for account, (_, _, function) in found.items()}


LEAST, MOST = 1, 1000  # the bounds of a weight, as in the registry's table
DEFAULT = Decimal(1)  # the weight of an account without one
FURTHEST_S = 366 * 86_400  # how far ahead a weight may begin, seconds


def weight_at(account: Account, quarter: Quarter) -> Decimal:
    """Return the weight of an account in a quarter."""
    return value_at(account.weights, quarter) or DEFAULT


def check_weight(weight: int, start: Quarter, now: EpochSeconds) -> None:
    """Check a weight and its first quarter.

    Raises:
        ConfigError: The weight is out of its bounds, or it begins in the past or too far ahead.
    """
    if not LEAST <= weight <= MOST:
        raise ConfigError(f"weight: {weight} is no whole number from {LEAST} to {MOST}")
    if start <= quarter_of(now):
        raise ConfigError("from: this time is over; give a later one, such as the next midnight")
    if start > quarter_of(now + FURTHEST_S):
        raise ConfigError("from: this is more than a year ahead; give an earlier time")


def with_weight(account: Account, weight: int, start: Quarter) -> Account:
    """Return an account with a weight from a quarter on; weights that were to begin later are dropped."""
    before = tuple(dated for dated in account.weights if dated.start < start)
    return replace(account, weights=(*before, Dated(start=start, value=Decimal(weight))))


def exchanged(
    registry: DatedRegistry,
    old: MeterId,
    new: MeterId,
    at: Quarter,
    last_register: MilliwattHours | None,
    first_register: MilliwattHours | None,
) -> DatedRegistry:
    """Return the registry in which a meter gives its place and its accounts to another one.

    Each quarter belongs to one of the two, so no energy counts twice, and a register that begins anew is no energy.

    Args:
        old: The meter that is taken out.
        new: The meter that comes in its place; not in the registry yet.
        at: The first quarter of the new meter.
        last_register: The old meter's register when it is taken out; ``None``: not known.
        first_register: The new meter's register when it is put in.

    Raises:
        ConfigError: The meter is not there at that time, or the new one is somewhere already.
    """
    meter = registry.meters.get(old)
    if meter is None:
        raise ConfigError(f"meter {old} is not registered", "see: commonwatt show accounts")
    if new in registry.meters:
        place = registry.meters[new].place
        raise ConfigError(
            f"meter {new} is already at {place}; each meter has one place, so give the new meter's own id"
        )
    if at <= (meter.start or 0) or (meter.end is not None and at >= meter.end):
        raise ConfigError(
            f"meter {old} is not at {meter.place} at that time",
            f"see: commonwatt show accounts/changes 'subject=meter {old}'",
        )
    if last_register is not None and last_register < (meter.first_register or 0):
        raise ConfigError(
            f"last register: is below the {meter.first_register} mWh at which meter {old} began; leave it out if the "
            "register rolled over"
        )
    before = [held for held in meter.holdings if held.start < at]
    after = [held for held in meter.holdings if held.end is None or held.end > at]
    held_before = tuple(replace(held, end=at if held.end is None else min(held.end, at)) for held in before)
    out = replace(meter, end=at, holdings=held_before, last_register=last_register)
    holdings = tuple(replace(held, start=max(held.start, at)) for held in after)
    come = replace(meter, id=new, start=at, holdings=holdings, first_register=first_register, last_register=None)
    return replace(registry, meters={**registry.meters, old: out, new: come})
