"""The specification's rule (S 2.1, U2): max(0, base + sum of import x rate(t) - sum of export x credit(t)).

"For any excess power they return to the town, the town credits them with that power and they receive a comparable
reduction in their power bill. Since every bill has a base level for the connection to the house, if the house provides
more power back to the town than it uses, its base level bill will be reduced. A bill will never go below zero in any
month." - The credit beyond zero lapses, and the bill shows it.
"""

from decimal import Decimal

from utility.billing.policies.policy import CreditGoesTo, Policy
from utility.tariffs.tariff import Tariff


def credit_prices(tariff: Tariff) -> tuple[Decimal, ...]:
    """Return the tariff's prices of credit, dollars per kWh, by period."""
    return tuple(price.credit for price in tariff.prices)


POLICY = Policy(name="spec", credit_goes_to=CreditGoesTo.PLACES, credit_prices=credit_prices)  # the policy
