"""What a new tariff would have made of a month's bills: winners, losers, and how many changed by how much."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from statistics import median

from commonwatt.model.units import AccountNumber
from utility.billing.inputs import Load, RunInputs
from utility.billing.run import Progress, bills_of
from utility.tariffs.tariff import Tariff

_BARS = (Decimal(-50), Decimal(-20), Decimal(-10), Decimal(-5), Decimal(-1), Decimal(0), Decimal(1), Decimal(5),
         Decimal(10), Decimal(20), Decimal(50))  # fmt: skip
"""Bounds of the histogram, dollars a month."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """An account's bill by the tariffs in force, and by the new one."""

    account: AccountNumber  # the account
    before: Decimal | None  # its bill now, dollars; ``None``: no tariff is in force
    after: Decimal  # its bill by the new tariff, dollars
    difference: Decimal = field(init=False)  # how much more the account would pay, dollars

    def __post_init__(self) -> None:
        object.__setattr__(self, "difference", self.after - (self.before or Decimal(0)))


def preview(
    inputs: RunInputs, new: Tariff | None, load: Load, progress: Progress | None = None, other: Load | None = None
) -> list[Change]:
    """Return each account's change, by account: the new tariff in place of all versions of its name.

    Args:
        inputs: A month, its registry and the published tariffs.
        new: The new tariff, taken to be in force for the whole month; ``None``: none.
        load: Returns settled quarter-hours.
        progress: Called after each loading.
        other: Returns the quarter-hours of the new bills; ``None``: they are the same.

    Raises:
        ConfigError: The policies of the tariffs do not go together.
    """
    name = "" if new is None else new.name
    others = tuple(tariff for tariff in inputs.tariffs if tariff.name != name)
    tariffs = others if new is None else (*others, replace(new, effective=inputs.first))
    after = bills_of(replace(inputs, tariffs=tariffs), other or load, progress).billed
    has_tariffs = not name or any(each.name == name and each.effective <= inputs.first for each in inputs.tariffs)
    before = bills_of(inputs, load, progress).billed if has_tariffs else {}
    return [
        Change(account=n, before=before[n].bill.total if n in before else None, after=each.bill.total)
        for n, each in after.items()
    ]


def histogram(changes: Sequence[Change]) -> list[tuple[str, int]]:
    """Return how many accounts pay how much less or more, by ranges of dollars; the bounds belong to the range of 0."""
    labels = [f"{_BARS[0]} and less"]
    labels += [f"{low} to {high}" for low, high in pairwise(_BARS)]
    labels += [f"{_BARS[-1]} and more"]
    counts = [0] * len(labels)
    same = 0
    for change in changes:
        if change.difference == 0:
            same += 1
            continue
        counts[sum(change.difference > bound for bound in _BARS)] += 1
    middle = _BARS.index(Decimal(0)) + 1
    return [*zip(labels[:middle], counts[:middle], strict=True), ("the same", same),
            *zip(labels[middle:], counts[middle:], strict=True)]  # fmt: skip


def sentences(changes: Sequence[Change], month: str) -> list[str]:
    """Return who would pay how much more, in three sentences."""
    if not changes:
        return [f"No account has a bill in {month}."]
    count, before, after = len(changes), sum(each.before or 0 for each in changes), sum(each.after for each in changes)
    less, more = (sum(sign * each.difference > 0 for each in changes) for sign in (-1, 1))
    low, *_, high = sorted([*changes, *changes], key=lambda each: each.difference)
    middle = median(each.difference for each in changes)
    percent = f" ({100 * (after - before) / before:+.1f} %)" if before else ", since no tariff was in force"
    counts = f"{more:,} of {count:,} accounts would have paid more in {month}, {less:,} less"
    ends = f"{low.difference:+,.2f} (account {low.account}) to {high.difference:+,.2f} (account {high.account})"
    return [
        f"{counts} and {count - more - less:,} the same.",
        f"All bills together: {after:,.2f} dollars in place of {before:,.2f}, {after - before:+,.2f}{percent}.",
        f"The middle change is {middle:+,.2f} dollars a month; the changes reach from {ends}.",
    ]
