"""Applies the facts of a table to the dated registry, or says everything that is wrong with them (pure).

What a table says of a meter's place, of a meter's holders, or of one of an account's terms replaces all that the
registry had of it; what a table does not name stays. Without a fault the new registry is returned, else none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import combinations
from zoneinfo import ZoneInfo

from commonwatt.model.units import AccountNumber, MeterId, Quarter
from commonwatt.town.town import Function
from utility.registry.accounts import Account, Dated, DatedRegistry, Holding, Installed, functions_of
from utility.registry.changes import date_text
from utility.registry.table import Fact, Fault

_EVER: Quarter = 2**32  # later than every quarter: the end of what goes on


def apply_facts(
    registry: DatedRegistry, facts: Sequence[Fact], faults: Sequence[Fault], zone: ZoneInfo
) -> tuple[DatedRegistry | None, list[Fault]]:
    """Return the registry with the facts, and all faults by row; with a fault there is no registry.

    Args:
        faults: The faults that reading the table found.
        zone: Local time of the dates in words.
    """
    work = _Import(registry, zone)
    work.place([fact for fact in facts if fact.what == "meter"])
    work.accounts |= {fact.account for fact in facts if fact.what == "account" and fact.account is not None}
    work.hold([fact for fact in facts if fact.what == "holder"])
    terms = work.terms([fact for fact in facts if fact.what in _TERMS])
    found = sorted({*faults, *work.faults}, key=lambda fault: (fault.row, fault.column, fault.text))
    return (None if found else work.result(terms)), found


@dataclass
class _Span:
    """A holder row, cut to one meter's time at its place."""

    fact: Fact
    start: Quarter
    end: Quarter


@dataclass
class _Import:
    registry: DatedRegistry
    zone: ZoneInfo
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meters: dict[MeterId, Installed] = dict(self.registry.meters)
        self.accounts: set[AccountNumber] = set(self.registry.accounts)
        self._placed_by: dict[MeterId, Fact] = {}

    def place(self, facts: Sequence[Fact]) -> None:
        """Place meters."""
        for fact in facts:
            meter = self._meter(fact)
            if meter is None:
                continue
            if (other := self._placed_by.setdefault(meter.id, fact)) is not fact:
                told = f"meter {meter.id} is already at {other.place} by row {other.row}: a meter has one place"
                self._fault(fact, "place", f"{told}; another place takes another meter")
                continue
            if fact.microgrid and fact.microgrid != meter.microgrid:
                self._fault(fact, "microgrid", f"meter {meter.id} is registered in {meter.microgrid}")
            self.meters[meter.id] = replace(
                meter, place=fact.place, building=fact.building or None, start=fact.start, end=fact.end
            )
        self._check_buildings(self._placed_by.values())
        self._check_doubles(self._placed_by.values())

    def _check_buildings(self, facts: Iterable[Fact]) -> None:
        buildings = {(m.microgrid, m.place) for m in self.meters.values() if m.function is Function.BUILDING}
        for fact in facts:
            meter = self.meters[fact.meter or 0]
            if meter.building is not None and (meter.microgrid, meter.building) not in buildings:
                told = f"{meter.building!r} is no place of a building's meter in {meter.microgrid}"
                self._fault(fact, "building", told)

    def _check_doubles(self, facts: Iterable[Fact]) -> None:
        """Find two meters that measure the same flow of a place at a time: its energy would count twice."""
        flows: dict[tuple[str, str, str, str], list[Installed]] = {}
        for meter in self.meters.values():
            if meter.function not in (Function.FOREIGN, Function.ADAPTED):
                key = meter.microgrid, meter.place, meter.function.value, meter.direction.value
                flows.setdefault(key, []).append(meter)
        placed = {fact.meter: fact for fact in facts}
        for (_, place, _, direction), meters in flows.items():
            for one, other in combinations(meters, 2):
                fact = placed.get(other.id) or placed.get(one.id)
                meet = max(one.start or 0, other.start or 0) < min(_or_ever(one.end), _or_ever(other.end))
                if fact is not None and meet:
                    told = f"meters {one.id} and {other.id} are both the {direction} meter of {place} at a time"
                    self._fault(fact, "from", f"{told}; let one end with `to` where the other begins")

    def hold(self, facts: Sequence[Fact]) -> None:
        """Give meters to accounts."""
        at: dict[tuple[str, str], list[Installed]] = {}
        for meter in self.meters.values():
            if meter.function is not Function.BOUNDARY:
                at.setdefault((meter.microgrid, meter.place), []).append(meter)
        spans: dict[MeterId, list[_Span]] = {}
        for fact in facts:
            if fact.account and fact.account not in self.accounts:
                told = f"account {fact.account} is unknown; a new one needs an `account` row"
                self._fault(fact, "account", told)
            for meter in self._held(fact, at):
                spans.setdefault(meter.id, []).append(self._span(fact, meter))
        # A meter without a `holder` row keeps its holders, which must fit its own dates.
        for meter_id, found in spans.items():
            self._hold(self.meters[meter_id], sorted(found, key=lambda span: span.start))
        self._check_kept(spans)

    def _held(self, fact: Fact, at: Mapping[tuple[str, str], list[Installed]]) -> Iterator[Installed]:
        """Yield the meters that a holder row names."""
        if fact.meter is not None:
            meter = self._meter(fact)
            if meter is None:
                return
            if meter.function is Function.BOUNDARY:
                self._fault(fact, "meter", f"meter {meter.id} is at the boundary, which has no account")
            elif fact.place not in ("", meter.place):
                self._fault(fact, "place", f"meter {meter.id} is at {meter.place}")
            elif fact.microgrid not in ("", meter.microgrid):
                self._fault(fact, "microgrid", f"meter {meter.id} is in {meter.microgrid}")
            elif _outside(fact, meter):
                column = "from" if (fact.start or 0) < (meter.start or 0) else "to"
                self._fault(fact, column, f"meter {meter.id} is at {meter.place} only {self._dates(meter)}")
            else:
                yield meter
            return
        start, end = fact.start or 0, _or_ever(fact.end)
        there = at.get((fact.microgrid, fact.place), ())
        found = [m for m in there if (m.start or 0) < end and start < _or_ever(m.end)]
        if not found:
            self._fault(fact, "place", f"{fact.microgrid} has no meter at {fact.place!r} in that time")
        yield from found

    def _span(self, fact: Fact, meter: Installed) -> _Span:
        start, end = max(fact.start or 0, meter.start or 0), min(_or_ever(fact.end), _or_ever(meter.end))
        return _Span(fact, start, end)

    def _hold(self, meter: Installed, spans: Sequence[_Span]) -> None:
        longest: _Span | None = None
        for span in spans:
            if longest is not None and span.start < longest.end:
                first, second = sorted((longest.fact, span.fact), key=lambda fact: fact.row)
                told = f"meter {meter.id}: overlaps row {first.row} (account {first.account})"
                until = date_text(span.start, self.zone)
                hint = f"; let row {longest.fact.row} end with `to` {until}" if longest.start < span.start else ""
                self._fault(second, "from", told + hint)
            longest = span if longest is None or span.end > longest.end else longest
        holdings = tuple(
            Holding(account=span.fact.account, start=span.start, end=None if span.end == _EVER else span.end)
            for span in spans
            if span.fact.account
        )
        self.meters[meter.id] = replace(meter, holdings=holdings)

    def _check_kept(self, named: Mapping[MeterId, object]) -> None:
        for meter in self.meters.values():
            if meter.id in named or meter == self.registry.meters.get(meter.id):
                continue
            if any(
                held.start < (meter.start or 0) or _or_ever(held.end) > _or_ever(meter.end) for held in meter.holdings
            ):
                fact = self._placed_by[meter.id]
                told = f"meter {meter.id} has holders outside its new dates; state them in `holder` rows too"
                self._fault(fact, "meter", told)

    def terms(self, facts: Sequence[Fact]) -> dict[tuple[AccountNumber, str], dict[Quarter, str]]:
        """Return the values of terms by account and term, then by first quarter."""
        found: dict[tuple[AccountNumber, str], dict[Quarter, Fact]] = {}
        for fact in facts:
            account = fact.account or 0
            if account not in self.accounts:
                self._fault(fact, "account", f"account {account} is unknown; a new one needs an `account` row")
            dated = found.setdefault((account, fact.what), {})
            if (other := dated.setdefault(fact.start or 0, fact)) is not fact:
                self._fault(fact, "from", f"row {other.row} has another {fact.what} from the same time on")
        return {key: {start: fact.value for start, fact in sorted(dated.items())} for key, dated in found.items()}

    def result(self, terms: Mapping[tuple[AccountNumber, str], Mapping[Quarter, str]]) -> DatedRegistry:
        """Return the new registry."""
        functions = functions_of(self.meters)
        accounts = {}
        for number in sorted(self.accounts):
            function = functions.get(number, Function.HOUSE)
            known = self.registry.accounts.get(number) or Account(number=number, function=function)
            accounts[number] = replace(known, function=function)
        for (number, what), dated in terms.items():
            field, read = _TERMS[what]
            values = tuple(Dated(start=start, value=read(value)) for start, value in dated.items())
            accounts[number] = replace(accounts[number], **{field: values})  # type: ignore[arg-type]
        return replace(self.registry, meters=self.meters, accounts=accounts)

    def _meter(self, fact: Fact) -> Installed | None:
        meter = self.meters.get(fact.meter or 0)
        if meter is None:
            told = f"meter {fact.meter} is unknown: register it with `commonwatt utility register`, or in place of "
            self._fault(fact, "meter", told + "another one with `commonwatt swap meter`")
        return meter

    def _dates(self, meter: Installed) -> str:
        since = "" if meter.start is None else f"from {date_text(meter.start, self.zone)} "
        return since + ("on" if meter.end is None else f"to {date_text(meter.end, self.zone)}")

    def _fault(self, fact: Fact, column: str, text: str) -> None:
        self.faults.append(Fault(row=fact.row, column=column, text=text))


_TERMS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "tariff": ("tariffs", str),
    "minimum": ("minimums", int),
    "weight": ("weights", Decimal),
}
"""The field of an account with each kind of term, and what reads a value."""


def _outside(fact: Fact, meter: Installed) -> bool:
    """Return whether stated dates are outside those of the meter; dates left empty are the meter's own."""
    starts_early = fact.start is not None and fact.start < (meter.start or 0)
    ends_late = fact.end is not None and fact.end > _or_ever(meter.end)
    return (
        starts_early
        or ends_late
        or _or_ever(fact.end) <= (meter.start or 0)
        or (fact.start or 0) >= _or_ever(meter.end)
    )


def _or_ever(quarter: Quarter | None) -> Quarter:
    return _EVER if quarter is None else quarter
