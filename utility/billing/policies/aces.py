"""The rule of ACES (A 2.2.5, A9): credit at the non-peak rate, and a base that adapts.

"For every customer, it starts with the base bill from Customer Accounts. By filtering through Meter Records, it charges
based on time of day for incoming power and credits customers using the non-peak rate for outgoing power (prorated if
necessary). If the bill is negative, it is adjusted to $0 and the customer's base bill is reduced by 25%. If the bill is
positive, their base bill increases by 25% (capped at the initial value)." - The initial value is the tariff's base. The
base is rounded to the cent, half to even, at each step, and rises by at least a cent.
"""

from decimal import Decimal

from utility.billing.money import CENT, to_cents
from utility.billing.policies.policy import CreditGoesTo, Policy
from utility.tariffs.policy_settings import AcesSettings
from utility.tariffs.tariff import Tariff

_FALL, _RISE = Decimal("0.75"), Decimal("1.25")


def _settings(tariff: Tariff) -> AcesSettings:
    assert isinstance(tariff.policy, AcesSettings)
    return tariff.policy


def credit_prices(tariff: Tariff) -> tuple[Decimal, ...]:
    """Return the price outside peak hours for every period, dollars per kWh."""
    settings = _settings(tariff)
    price = next(price for price in tariff.prices if price.name == settings.off_peak)
    return (price.import_ if settings.credit_price == "import" else price.credit,) * len(tariff.prices)


def base(tariff: Tariff, own: Decimal | None) -> Decimal:
    """Return the account's own base, at most the tariff's; for a new account the tariff's."""
    return tariff.base if own is None else min(own, tariff.base)


def next_base(tariff: Tariff, current: Decimal, cents: int) -> Decimal:
    """Return the base after a bill: lower after a negative bill, higher after a positive one."""
    settings = _settings(tariff)
    step = current if settings.step_of == "current" else tariff.base
    if cents < 0 or (cents == 0 and settings.zero_bill == "falls"):
        changed = max(Decimal(0), current - step * (1 - _FALL))
    elif cents > 0:
        # At least a cent: a quarter of 2 cents is none, and the base would stay there for ever.
        changed = min(tariff.base, current + max(CENT, step * (_RISE - 1)))
    else:
        changed = current
    return to_cents(changed) * CENT


POLICY = Policy(
    name="aces",
    credit_goes_to=CreditGoesTo.PLACES,
    credit_prices=credit_prices,
    base=base,
    next_base=next_base,
)
"""The policy."""
