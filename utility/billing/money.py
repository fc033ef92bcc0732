"""Exact money: amounts are whole numbers of a unit so small that a bill is rounded only once, at its total.

A price has at most six decimals, energy is in milliwatt-hours, and a part of a month is a number of its quarters. So
every amount of a bill is a whole number of 10⁻¹² dollars divided by the quarters of the month.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

from utility.tariffs.file import Tax

CENT = Decimal("0.01")

PRICE_PLACES = 6  # most decimals of a price

_PRICE_UNITS = 10**PRICE_PLACES
_MWH_A_KWH = 10**6
_UNITS_A_CENT: int = _PRICE_UNITS * _MWH_A_KWH // 100


def to_cents(amount: Decimal) -> int:
    """Return dollars as cents, half a cent to the even one."""
    return int((amount / CENT).to_integral_value(ROUND_HALF_EVEN))


def dollars(cents: int) -> Decimal:
    """Return cents as dollars with two decimals."""
    return cents * CENT


def price_units(price: Decimal) -> int:
    """Return a price per kWh in millionths of a dollar."""
    return int(price * _PRICE_UNITS)


def energy_amount(energy: int, price: int, month_quarters: int) -> int:
    """Return the exact amount for milliwatt-hours at millionths of a dollar per kWh, in the unit of their month."""
    return energy * price * month_quarters


def base_amount(base: Decimal, quarters: int) -> int:
    """Return the exact amount of a base for so many quarters of its month, in the unit of that month."""
    return int(base * _PRICE_UNITS) * _MWH_A_KWH * quarters


def tax_cents(tax: Tax, cents: int, energy: int) -> int:
    """Return a tax in cents, half a cent to the even one: of amounts in cents, or of milliwatt-hours."""
    of_cents, of_energy = Fraction(tax.percent or 0) / 100, Fraction(tax.per_kwh or 0) / 10**4
    return round(cents * of_cents + energy * of_energy)


def cent_amount(month_quarters: int) -> int:
    """Return a cent, in the unit of a month with so many quarters."""
    return _UNITS_A_CENT * month_quarters


def rounded(amounts: Sequence[int], month_quarters: int) -> tuple[int, list[int]]:
    """Return the sum of exact amounts in cents, and each amount in cents, so that they add up to that sum.

    The sum is rounded once, half a cent to the even one.
    """
    unit = cent_amount(month_quarters)
    total, rest = divmod(sum(amounts), unit)
    total += 2 * rest > unit or (2 * rest == unit and total % 2)
    return total, in_cents(amounts, total, month_quarters)


def in_cents(amounts: Sequence[int], total: int, month_quarters: int) -> list[int]:
    """Return exact amounts in cents that add up to their sum in cents.

    Each amount is rounded down; the cents that are then lacking go to the largest remainders, of equal ones to the
    first.
    """
    return _completed([divmod(amount, cent_amount(month_quarters)) for amount in amounts], total)


def divided(total: int, weights: Sequence[int]) -> list[int]:
    """Divide a whole number by weights, exactly: the odd ones go to the largest remainders, of equal ones to the first.

    Without any weight nobody gets a part.
    """
    whole = sum(weights)
    if not whole:
        return [0] * len(weights)
    return _completed([divmod(total * weight, whole) for weight in weights], total)


def _completed(parts: Sequence[tuple[int, int]], total: int) -> list[int]:
    found = [quotient for quotient, _ in parts]
    if lacking := total - sum(found):
        for n in sorted(range(len(parts)), key=lambda n: -parts[n][1])[:lacking]:
            found[n] += 1
    return found
