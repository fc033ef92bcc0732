"""Policies of billing by name: who gets credit, at which price, and what happens to the base (docs/billing.md).

The specification's rule (S 2.1, U2), max(0, base + sum of import x rate(t) - sum of export x credit(t)): "For any
excess power they return to the town, the town credits them with that power and they receive a comparable reduction in
their power bill. Since every bill has a base level for the connection to the house, if the house provides more power
back to the town than it uses, its base level bill will be reduced. A bill will never go below zero in any month." - The
credit beyond zero lapses, and the bill shows it.

The rule of Power RAnGeRS (P 2.3, P5), import and credit at the regional price of the hour: "When a microgrid has excess
power and shares it back to the CU, then the microgrid will be given credit to be split evenly among its units. The
credit will total to the same cost as if the same amount of power was purchased from the regional utility the same hour
during which the energy was shared back to the CU. On the other hand, if a microgrid requests energy to meet its
demands, then the microgrid will receive energy from the CU battery and be charged with the same rate as if purchased
from the regional utility at that hour." - The regional price is static by period (P 2.3), so it is the tariff's price
of import. A unit is "each energy-consuming unit (house, apartment, or municipal building)".

The rule of ACES (A 2.2.5, A9), credit at the non-peak rate and a base that adapts: "For every customer, it starts with
the base bill from Customer Accounts. By filtering through Meter Records, it charges based on time of day for incoming
power and credits customers using the non-peak rate for outgoing power (prorated if necessary). If the bill is negative,
it is adjusted to $0 and the customer's base bill is reduced by 25%. If the bill is positive, their base bill increases
by 25% (capped at the initial value)." - The initial value is the tariff's base. The base is rounded to the cent, half
to even, at each step, and rises by at least a cent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from utility.billing.bill import CENT, to_cents
from utility.tariffs.file import AcesSettings
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
class BillingPolicy:
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


def spec_credit_prices(tariff: Tariff) -> tuple[Decimal, ...]:
    """Return the tariff's prices of credit, dollars per kWh, by period."""
    return tuple(price.credit for price in tariff.prices)


SPEC = BillingPolicy(name="spec", credit_goes_to=CreditGoesTo.PLACES, credit_prices=spec_credit_prices)  # the policy


def rangers_credit_prices(tariff: Tariff) -> tuple[Decimal, ...]:
    """Return the regional price of each period, which is that of import, dollars per kWh."""
    return tuple(price.import_ for price in tariff.prices)


RANGERS = BillingPolicy(
    name="rangers", credit_goes_to=CreditGoesTo.UNITS, credit_prices=rangers_credit_prices
)  # the policy

_FALL, _RISE = Decimal("0.75"), Decimal("1.25")


def _aces_settings(tariff: Tariff) -> AcesSettings:
    assert isinstance(tariff.policy, AcesSettings)
    return tariff.policy


def aces_credit_prices(tariff: Tariff) -> tuple[Decimal, ...]:
    """Return the price outside peak hours for every period, dollars per kWh."""
    settings = _aces_settings(tariff)
    price = next(price for price in tariff.prices if price.name == settings.off_peak)
    return (price.import_ if settings.credit_price == "import" else price.credit,) * len(tariff.prices)


def aces_base(tariff: Tariff, own: Decimal | None) -> Decimal:
    """Return the account's own base, at most the tariff's; for a new account the tariff's."""
    return tariff.base if own is None else min(own, tariff.base)


def aces_next_base(tariff: Tariff, current: Decimal, cents: int) -> Decimal:
    """Return the base after a bill: lower after a negative bill, higher after a positive one."""
    settings = _aces_settings(tariff)
    step = current if settings.step_of == "current" else tariff.base
    if cents < 0 or (cents == 0 and settings.zero_bill == "falls"):
        changed = max(Decimal(0), current - step * (1 - _FALL))
    elif cents > 0:
        # At least a cent: a quarter of 2 cents is none, and the base would stay there for ever.
        changed = min(tariff.base, current + max(CENT, step * (_RISE - 1)))
    else:
        changed = current
    return to_cents(changed) * CENT


ACES = BillingPolicy(
    name="aces",
    credit_goes_to=CreditGoesTo.PLACES,
    credit_prices=aces_credit_prices,
    base=aces_base,
    next_base=aces_next_base,
)
"""The policy."""

POLICIES: dict[str, BillingPolicy] = {policy.name: policy for policy in (SPEC, ACES, RANGERS)}
"""The policies by name."""
