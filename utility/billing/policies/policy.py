"""What a policy of billing decides: who gets the credit, its price, and the base before and after a bill."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from utility.tariffs.tariff import Tariff


class CreditGoesTo(StrEnum):
    """The accounts that get the credit for energy given to the town."""

    # The place that gave it; of a building its apartments, of the solar farm hospital, police and fire.
    PLACES = "places"
    UNITS = "units"  # all units of the microgrid, in equal parts


def tariffs_base(tariff: Tariff, _: Decimal | None) -> Decimal:
    """Return the tariff's base, dollars a month."""
    return tariff.base


def no_base(_: Tariff, __: Decimal, ___: int) -> None:
    """Keep no base of the account's own."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy, as functions; the sentence of its source is in its module."""

    name: str  # its name
    credit_goes_to: CreditGoesTo  # who gets the credit
    # The price of credit in each period of a tariff, dollars per kWh.
    credit_prices: Callable[[Tariff], tuple[Decimal, ...]]
    # The base of a month, dollars, from the tariff and the account's own base (``None``: it has none yet).
    base: Callable[[Tariff, Decimal | None], Decimal] = tariffs_base
    # The account's own base after a bill, dollars, from the tariff, the base of the month and the sum of the lines
    # before the floor at zero, cents; ``None``: it keeps none.
    next_base: Callable[[Tariff, Decimal, int], Decimal | None] = no_base
