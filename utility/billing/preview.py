"""What a new tariff would have made of a year's bills: winners, losers, and how many changed by how much."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from statistics import median

from commonwatt.model.units import AccountNumber
from utility.billing.inputs import Load, RunInputs
from utility.billing.run import Progress, bills_of
from utility.tariffs.tariff import Tariff


@dataclass(frozen=True, kw_only=True)
class BillChange:
    """An account's bill of a month, or of several, by the tariffs in force, and by the new one."""

    account: AccountNumber  # the account
    before: Decimal | None  # its bill now, dollars; ``None``: no tariff is in force
    after: Decimal  # its bill by the new tariff, dollars
    kind: str = ""  # what the account is, such as a house; empty: not known
    difference: Decimal = field(init=False)  # how much more the account would pay, dollars

    def __post_init__(self) -> None:
        object.__setattr__(self, "difference", self.after - (self.before or Decimal(0)))


@dataclass(frozen=True, kw_only=True)
class MonthSum:
    """All bills of a month."""

    month: str  # the local month
    all: BillChange  # of all accounts
    low: BillChange  # of the account that pays least more
    high: BillChange  # of the account that pays most more


@dataclass(frozen=True, kw_only=True)
class Year:
    """Bills of up to twelve months."""

    months: Sequence[MonthSum] = ()  # in order; months without a bill are left out
    changes: Sequence[BillChange] = ()  # each account's, over all months; the largest fall first

    @property
    def span(self) -> str:
        """Its months, for people."""
        names = [month.month for month in self.months] or ["that time"]
        return names[0] if len(names) == 1 else f"the {len(names)} months {names[0]} to {names[-1]}"


def year(months: Iterable[tuple[str, Sequence[BillChange]]]) -> Year:
    """Return the bills of some months, each account's added up."""
    sums, by_account = [], dict[AccountNumber, list[BillChange]]()
    for month, changes in months:
        for change in changes:
            by_account.setdefault(change.account, []).append(change)
        if ranked := _ranked(changes):
            sums.append(MonthSum(month=month, all=_added(ranked), low=ranked[0], high=ranked[-1]))
    return Year(months=sums, changes=_ranked(map(_added, by_account.values())))


def _ranked(changes: Iterable[BillChange]) -> list[BillChange]:
    return sorted(changes, key=lambda change: (change.difference, change.account))


def _added(some: Sequence[BillChange]) -> BillChange:
    known = [change.before for change in some if change.before is not None]
    before, after = sum(known, Decimal(0)), sum((change.after for change in some), Decimal(0))
    return replace(some[-1], before=before if known else None, after=after)


def preview(
    inputs: RunInputs, new: Tariff | None, load: Load, progress: Progress | None = None, other: Load | None = None
) -> list[BillChange]:
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
    seen = set[bool]()  # whether some microgrids have readings
    changed = replace(inputs, tariffs=tariffs)
    after = bills_of(changed, other or load, progress, lambda settled: seen.add(bool(settled.version.any()))).billed
    if True not in seen:
        return []  # It is no comparison.
    has_tariffs = not name or any(t.name == name and t.effective <= inputs.first for t in inputs.tariffs)
    before = bills_of(inputs, load, progress).billed if has_tariffs else {}
    accounts = inputs.registry.accounts
    return [
        BillChange(
            account=n,
            before=before[n].bill.total if n in before else None,
            after=billed.bill.total,
            kind=accounts[n].function.replace("_", " ") if n in accounts else "",
        )
        for n, billed in after.items()
    ]


def sentences(bills: Year) -> list[str]:
    """Return who would pay how much more, and in which month, in a few sentences."""
    changes, months = bills.changes, bills.months
    if not changes:
        return [f"No account has a bill in {bills.span}."]
    count, less, more = len(changes), *(sum(sign * change.difference > 0 for change in changes) for sign in (-1, 1))
    whole, middle = _added([month.all for month in months]), median(month.difference for month in changes)
    now, percent = whole.before or Decimal(0), ", since no tariff was in force"
    if now:
        percent = f" ({100 * whole.difference / now:+.1f} %)"
    counts = f"{more:,} of {count:,} accounts would have paid more in {bills.span}, {less:,}"
    ends = f"{_who(changes[0])} to {_who(changes[-1])}"
    texts = [
        f"{counts} less and {count - more - less:,} the same.",
        f"All bills together: {whole.after:,.2f} dollars in place of {now:,.2f}, {whole.difference:+,.2f}{percent}.",
        f"The middle change is {middle:+,.2f} dollars; the changes reach from {ends}.",
    ]
    if len(months) > 1:
        cheap, *_, dear = sorted(months, key=lambda month: month.all.difference)
        texts += [
            f"{words} is {month.month}: {month.all.difference:+,.2f} dollars for all, {end} {_who(change)}."
            for words, month, end, change in (
                ("Dearest", dear, "up to", dear.high),
                ("Cheapest", cheap, "down to", cheap.low),
            )
        ]
    return texts


def _who(change: BillChange) -> str:
    kind = f", {change.kind}" if change.kind else ""
    return f"{change.difference:+,.2f} (account {change.account}{kind})"
