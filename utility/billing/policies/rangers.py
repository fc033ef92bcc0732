"""The rule of Power RAnGeRS (P 2.3, P5): import and credit at the regional price of the hour.

"When a microgrid has excess power and shares it back to the CU, then the microgrid will be given credit to be split
evenly among its units. The credit will total to the same cost as if the same amount of power was purchased from the
regional utility the same hour during which the energy was shared back to the CU. On the other hand, if a microgrid
requests energy to meet its demands, then the microgrid will receive energy from the CU battery and be charged with the
same rate as if purchased from the regional utility at that hour." - The regional price is static by period (P 2.3), so
it is the tariff's price of import. A unit is "each energy-consuming unit (house, apartment, or municipal building)".
"""

from decimal import Decimal

from utility.billing.policies.policy import CreditGoesTo, Policy
from utility.tariffs.tariff import Tariff


def credit_prices(tariff: Tariff) -> tuple[Decimal, ...]:
    """Return the regional price of each period, which is that of import, dollars per kWh."""
    return tuple(price.import_ for price in tariff.prices)


POLICY = Policy(name="rangers", credit_goes_to=CreditGoesTo.UNITS, credit_prices=credit_prices)  # the policy
