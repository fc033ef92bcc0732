"""How many amounts there are from one round amount to the next (pure)."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from utility.billing.money import dollars

_MOST_STEPS = 20

Step = tuple[Decimal, Decimal, int]  # from which amount, below which one, how many; dollars


def steps_of(cents: Sequence[int], most: int = _MOST_STEPS) -> list[Step]:
    """Return how amounts are spread, in at most so many steps of a round width."""
    if not cents:
        return []
    low, high = min(cents), max(cents)
    widths = (factor * 10**power for power in range(20) for factor in (1, 2, 5))
    width = next(each for each in widths if (high // each) - (low // each) < most)
    counts = Counter(each // width for each in cents)
    steps = range(low // width, high // width + 1)
    return [(dollars(each * width), dollars((each + 1) * width), counts[each]) for each in steps]
