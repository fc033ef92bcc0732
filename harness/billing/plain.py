"""A second calculation of bills, as plainly as possible: one quarter-hour at a time, fractions, no arrays.

It shares nothing with ``utility.billing`` but the records that go in and come out; a tariff is read from its canonical
JSON.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

from utility.billing.bill import Bill, LineKind
from utility.energy.quarters import Quantity, SettledQuarters
from utility.registry.accounts import DatedRegistry, Installed

DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CENT = Fraction(1, 100)
UNITS = ("house", "apartment", "hospital", "police", "fire")


@dataclass
class PlainBill:
    """A bill: energy by what it is for, period and price; exact amounts, and the total in cents."""

    energy: dict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    exact: Fraction = Fraction(0)
    held: int = 0
    shared_in: int = 0
    shared_out: int = 0
    estimated: int = 0
    missing: int = 0
    provisional: int = 0
    next_base: Fraction | None = None
    building: tuple[str, str] | None = None
    of_building: Fraction = Fraction(0)

    @property
    def cents(self) -> int:
        """The sum of the lines before the floor at zero."""
        return round(self.exact * 100)


def is_installed(meter: Installed, quarter: int) -> bool:
    return (meter.start is None or quarter >= meter.start) and (meter.end is None or quarter < meter.end)


class Plain:
    """The bills of a month.

    Args:
        registry: Meters and accounts.
        tariffs: Canonical JSON of each published version.
        default: The name of the tariff of accounts without one.
        bases: The accounts' own bases.
        settled: Quarter-hours that include the month.
    """

    def __init__(
        self,
        registry: DatedRegistry,
        tariffs: Sequence[str],
        default: str,
        bases: Mapping[int, Decimal],
        settled: SettledQuarters,
        month: str,
        zone: str = "America/New_York",
    ) -> None:
        self.registry, self.default, self.bases, self.settled = registry, default, bases, settled
        self.tariffs = sorted((json.loads(text) for text in tariffs), key=lambda tariff: tariff["version"])
        self.zone = ZoneInfo(zone)
        for tariff in self.tariffs:
            begins = datetime.fromisoformat(tariff["tariff"]["effective"])
            local = begins if begins.tzinfo else begins.replace(tzinfo=self.zone)
            tariff["begins"] = local.timestamp() // 900
        self.rows = {int(meter): row for row, meter in enumerate(settled.meters)}
        around = range(settled.first, settled.first + settled.quality.shape[1])
        self.quarters = [q for q in around if self.local(q).strftime("%Y-%m") == month]
        self.bills: dict[int, PlainBill] = defaultdict(PlainBill)
        self.policy = self.tariffs[0]["policy"]
        self.periods: dict[tuple[str, int, int], dict[str, Any]] = {}
        self.known: dict[tuple[Quantity, tuple[int, ...]], int] = {}

    def local(self, quarter: int) -> datetime:
        return datetime.fromtimestamp(quarter * 900, UTC).astimezone(self.zone)

    def run(self) -> dict[int, PlainBill]:
        imports = self.imports_of_month()
        microgrids: dict[str, list[Installed]] = defaultdict(list)
        for meter in sorted(self.registry.meters.values(), key=lambda m: m.id):
            if meter.function != "boundary":
                microgrids[meter.microgrid].append(meter)
        for quarter in self.quarters:
            for account in {self.holder(meter, quarter) for meter in self.registry.meters.values()} - {None}:
                assert account is not None
                self.bills[account].held += 1
                if self.policy["base_of_part_month"] == "by_quarter":
                    self.bills[account].exact += self.base_at(account, quarter) / len(self.quarters)
            for members in microgrids.values():
                self.add_quarter(members, quarter, imports)
        if self.policy["base_of_part_month"] == "whole":
            for account, bill in self.bills.items():
                bill.exact += sum(self.base_at(account, q) / len(self.quarters) for q in self.quarters)
        for building in {bill.building for bill in self.bills.values()} - {None}:
            self.round_building([self.bills[n] for n in sorted(self.bills) if self.bills[n].building == building])
        for account, bill in self.bills.items():
            if self.policy["name"] == "aces":
                bill.next_base = self.next_base(account, bill)
        return dict(self.bills)

    def round_building(self, bills: Sequence[PlainBill]) -> None:
        """Round the credits of a building's apartments to cents that add up to the building's."""
        exact = [-100 * bill.of_building for bill in bills]
        cents = [floor(credit) for credit in exact]
        order = sorted(range(len(bills)), key=lambda n: cents[n] - exact[n])
        for n in order[: round(sum(exact)) - sum(cents)]:
            cents[n] += 1
        for bill, part in zip(bills, cents, strict=True):
            bill.exact += bill.of_building + Fraction(part, 100)

    def holder(self, meter: Installed, quarter: int) -> int | None:
        return meter.account_at(quarter) if is_installed(meter, quarter) else None

    def tariff(self, account: int, quarter: int) -> dict[str, Any]:
        name = self.default
        for dated in self.registry.accounts[account].tariffs if account in self.registry.accounts else ():
            if dated.start <= quarter:
                name = dated.value
        found: dict[str, Any] | None = None
        for tariff in self.tariffs:
            if tariff["tariff"]["name"] == name and tariff["begins"] <= quarter:
                found = tariff
        assert found is not None
        return found

    def period(self, tariff: dict[str, Any], quarter: int) -> dict[str, Any]:
        key = tariff["tariff"]["name"], tariff["version"], quarter
        if key not in self.periods:
            self.periods[key] = self.find_period(tariff, quarter)
        return self.periods[key]

    def find_period(self, tariff: dict[str, Any], quarter: int) -> dict[str, Any]:
        time = self.local(quarter)
        is_holiday = time.strftime("%Y-%m-%d") in [h["date"] for h in tariff["holiday"]]
        day = "holiday" if is_holiday else DAY_NAMES[time.weekday()]
        clock, date = time.strftime("%H:%M"), time.strftime("%m-%d")
        for hours in tariff["hours"]:
            if day in hours["days"] and hours["from"] <= clock < hours["until"]:
                season = [s for s in tariff["season"] if s["name"] == hours["season"]]
                if all(
                    s["from"] <= date < s["until"]
                    if s["from"] < s["until"]
                    else (date >= s["from"] or date < s["until"])
                    for s in season
                ):
                    found: dict[str, Any] = next(p for p in tariff["period"] if p["name"] == hours["period"])
                    return found
        raise AssertionError

    def base_at(self, account: int, quarter: int) -> Fraction:
        base = Fraction(self.tariff(account, quarter)["tariff"]["base"])
        if self.policy["name"] == "aces" and account in self.bases:
            base = min(base, Fraction(self.bases[account]))
        return base

    def value(self, quantity: Quantity, meter: Installed, quarter: int) -> int:
        if not is_installed(meter, quarter):
            return 0
        return int(self.settled.of(quantity)[self.rows[meter.id], quarter - self.settled.first])

    def add_quarter(self, members: Sequence[Installed], quarter: int, imports: Mapping[tuple[str, str], int]) -> None:
        marks: dict[int, set[str]] = defaultdict(set)
        is_rangers = self.policy["name"] == "rangers"
        evenly = is_rangers and self.policy["import_by"] == "evenly"
        for meter in members:
            account = self.holder(meter, quarter)
            if account is None:
                continue
            self.mark(marks[account], [meter], quarter)
            self.bills[account].shared_in += self.value(Quantity.SHARED_IN, meter, quarter)
            self.bills[account].shared_out += self.value(Quantity.SHARED_OUT, meter, quarter)
            if not evenly:
                self.charge(account, quarter, self.value(Quantity.IMPORTED, meter, quarter))
            if not is_rangers and meter.function not in ("building", "solar_farm"):
                self.credit(account, quarter, "Credit", self.value(Quantity.EXPORTED, meter, quarter))
        units = sorted({m.place for m in members if m.function in UNITS})
        if is_rangers:
            self.split(members, units, None, quarter, "Credit, part of the microgrid's", members, marks)
            if evenly:
                self.split([m for m in members if m.place in units], units, None, quarter, None, members, marks)
        else:
            for building in sorted({m.place for m in members if m.function == "building"}):
                inside = [p for p in units if any(m.place == p and m.building == building for m in members)]
                source = [m for m in members if m.place == building]
                self.split(source, inside, None, quarter, "Credit, part of the building's", members, marks)
            farm = [m for m in members if m.function == "solar_farm"]
            public = sorted({m.place for m in members if m.function in ("hospital", "police", "fire")})
            weights = [imports[members[0].microgrid, p] for p in public] if self.policy["farm"] == "import" else None
            self.split(farm, public, weights, quarter, "Credit, part of the solar farm's", members, marks)
        for account, found in marks.items():
            bill = self.bills[account]
            if "estimated" in found:
                bill.estimated += 1
            if "missing" in found:
                bill.missing += 1
            if "provisional" in found:
                bill.provisional += 1

    def mark(self, found: set[str], meters: Sequence[Installed], quarter: int) -> None:
        for meter in (each for each in meters if is_installed(each, quarter)):
            row, column = self.rows[meter.id], quarter - self.settled.first
            quality = int(self.settled.quality[row, column])
            if quality == 0:
                found.add("missing")
            elif quality == 1:
                found.add("estimated")
            if self.settled.provisional[row, column]:
                found.add("provisional")

    def split(
        self,
        sources: Sequence[Installed],
        places: Sequence[str],
        weights: Sequence[int] | None,
        quarter: int,
        credit_words: str | None,
        members: Sequence[Installed],
        marks: dict[int, set[str]],
    ) -> None:
        """Divide the energy of some meters among places: a credit with these words, or without words import."""
        quantity = Quantity.IMPORTED if credit_words is None else Quantity.EXPORTED
        owners: dict[str, int | None] = {}
        weight_of = dict(zip(places, weights or [1] * len(places), strict=True))
        for place in places:
            of = [m for m in members if m.place == place]
            starts, ends = [m.start for m in of], [m.end for m in of]
            low = None if None in starts else min(s for s in starts if s is not None)
            high = None if None in ends else max(e for e in ends if e is not None)
            if (low is None or quarter >= low) and (high is None or quarter < high):
                holders = [h for m in of if (h := self.holder(m, quarter)) is not None]
                owners[place] = holders[0] if holders else None
        if self.policy["vacant"] == "occupied":
            owners = {place: owner for place, owner in owners.items() if owner is not None}
        # A pool without energy marks nobody's bill.
        ever = self.given(quantity, sources) > 0
        for owner in owners.values():
            if owner is not None and ever:
                self.mark(marks[owner], sources, quarter)
        energy = sum(self.value(quantity, meter, quarter) for meter in sources)
        whole = sum(weight_of[place] for place in owners)
        if not energy or not whole:
            return
        exact = {place: Fraction(energy * weight_of[place], whole) for place in owners}
        parts = {place: int(part) for place, part in exact.items()}
        odd = energy - sum(parts.values())
        names = list(owners)
        if weights is None:
            order = [names[(quarter + n) % len(names)] for n in range(len(names))]
        else:
            order = sorted(names, key=lambda place: parts[place] - exact[place])
        for place in order[:odd]:
            parts[place] += 1
        for place, owner in owners.items():
            if owner is not None:
                if sources[0].function == "building":
                    self.bills[owner].building = sources[0].microgrid, sources[0].place
                if credit_words is None:
                    self.charge(owner, quarter, parts[place])
                else:
                    self.credit(owner, quarter, credit_words, parts[place])

    def given(self, quantity: Quantity, meters: Sequence[Installed]) -> int:
        key = quantity, tuple(m.id for m in meters)
        if key not in self.known:
            self.known[key] = sum(self.value(quantity, m, quarter) for m in meters for quarter in self.quarters)
        return self.known[key]

    def charge(self, account: int, quarter: int, energy: int) -> None:
        if not energy:
            return
        period = self.period(self.tariff(account, quarter), quarter)
        self.bills[account].energy["Import", period["name"], period["import"]] += energy
        self.bills[account].exact += Fraction(energy, 10**6) * Fraction(period["import"])

    def credit(self, account: int, quarter: int, words: str, energy: int) -> None:
        if not energy:
            return
        tariff = self.tariff(account, quarter)
        period = self.period(tariff, quarter)
        price = period["credit"]
        if self.policy["name"] == "aces":
            off_peak = next(p for p in tariff["period"] if p["name"] == tariff["policy"]["off_peak"])
            price = off_peak[tariff["policy"]["credit_price"]]
        self.bills[account].energy[words, period["name"], price] += energy
        self.bills[account].exact -= Fraction(energy, 10**6) * Fraction(price)
        if words == "Credit, part of the building's":
            self.bills[account].of_building += Fraction(energy, 10**6) * Fraction(price)

    def imports_of_month(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = defaultdict(int)
        for meter in self.registry.meters.values():
            if meter.function != "boundary":
                of = (self.value(Quantity.IMPORTED, meter, quarter) for quarter in self.quarters)
                found[meter.microgrid, meter.place] += sum(of)
        return found

    def next_base(self, account: int, bill: PlainBill) -> Fraction:
        last = max(q for q in self.quarters if any(self.holder(m, q) == account for m in self.registry.meters.values()))
        tariff = self.tariff(account, last)
        initial, base = Fraction(tariff["tariff"]["base"]), self.base_at(account, last)
        step = (base if tariff["policy"]["step_of"] == "current" else initial) / 4
        falls = bill.cents < 0 or (bill.cents == 0 and tariff["policy"]["zero_bill"] == "falls")
        changed = (
            max(Fraction(0), base - step) if falls else min(initial, base + max(step, CENT)) if bill.cents > 0 else base
        )
        return Fraction(round(changed * 100), 100)


def energy_of(bill: Bill) -> dict[tuple[str, str, str], int]:
    """Return the energy of a bill as ``PlainBill`` has it."""
    found: dict[tuple[str, str, str], int] = {}
    for line in bill.lines:
        if line.kind in (LineKind.IMPORT, LineKind.CREDIT) and line.energy:
            words = line.text.rsplit(f", {line.period}", 1)[0]
            key = words, line.period, str(line.rate)
            found[key] = found.get(key, 0) + line.energy
    return found
