"""The sharing weight of an account: what a person may set, and from when (pure)."""

from dataclasses import replace
from decimal import Decimal

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds, Quarter, quarter_of
from utility.registry.accounts import Account, Dated, value_at

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
