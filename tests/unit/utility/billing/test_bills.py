"""What bills come to: random towns, a month by hand, late data, taxes; and the page that describes a receipt (U2)."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from commonwatt.town.town import Direction, Function
from harness.billing.plain import Plain, energy_of
from harness.billing.worlds import KWH, MONTH, ZONE, World, exact_world, late, random_world, tariff, world_of
from tests.unit.utility.billing.test_check_bill import SECRET, _checker, faults, receipts, run_of
from utility.billing.bill import Bill, LineKind, cent_amount, rounded, tax_cents
from utility.billing.documents.pdf import as_pdf
from utility.billing.documents.receipt import quarters_of_accounts, receipt_of
from utility.billing.documents.statement import Statement
from utility.billing.inputs import RunInputs
from utility.billing.proof import bill_bytes, bill_of, canonical, customer_of
from utility.billing.rules import policies
from utility.billing.run import bills_of
from utility.billing.stored_run import Computed, EarlierMonth, StoredRun, billed_month, computed, kept_of, unpack_run
from utility.energy.quarters import Quantity
from utility.registry.accounts import DatedRegistry, Holding, Installed
from utility.tariffs.file import AcesSettings, RangersSettings, SpecSettings, Tax
from utility.tariffs.file import faults as week_faults
from utility.tariffs.tariff import Tariff, read_tariff, tariff_of

TOWNS = int(os.environ.get("BILL_TOWNS", "3"))  # random towns; ``make soak`` runs more


def check(world: World) -> int:
    """Compare each bill of a world; return how many there were."""
    inputs = world.inputs
    result = bills_of(inputs, world.load)
    texts = [tariff.canonical() for tariff in inputs.tariffs]
    registry, settled = inputs.registry, world.settled
    plain = Plain(registry, texts, inputs.default, inputs.bases, settled, inputs.month).run()
    assert list(result.billed) == sorted(plain)
    for number, expected in plain.items():
        billed = result.billed[number]
        bill = billed.bill
        assert bill.total == sum(line.amount for line in bill.lines), "lines sum to the total"
        assert bill.total == Fraction(max(0, expected.cents), 100)
        assert energy_of(bill) == {key: energy for key, energy in expected.energy.items() if energy}
        lapsed = sum(line.amount for line in bill.lines if line.kind is LineKind.LAPSED)
        assert lapsed == Fraction(max(0, -expected.cents), 100), "unused credit lapses and is shown"
        for line in bill.lines:
            assert line.amount == round(line.amount, 2)
            if line.energy is not None and line.rate is not None:
                exact = Fraction(line.energy, 10**6) * Fraction(line.rate)
                assert abs(abs(Fraction(line.amount)) - exact) < Fraction(1, 100)
        shared = {line.text.split()[-3]: line.energy for line in bill.lines if line.kind is LineKind.INFORMATION}
        assert shared.get("taken", 0) == expected.shared_in
        assert shared.get("given", 0) == expected.shared_out
        flags = expected.provisional, expected.estimated, expected.missing
        assert (bill.provisional, bill.estimated, bill.missing) == flags
        assert billed.base == expected.next_base
    return len(plain)


@pytest.mark.parametrize("seed", range(TOWNS))
def test_bills_of_a_random_town_are_those_of_the_plain_calculation(seed: int) -> None:  # req: U2, C4, A9, P5
    assert check(random_world(seed)) > 0


def apartments() -> dict[int, Bill]:
    """Return the bills of three apartments whose building gave 1 kWh at 0.10 a kWh: 10 cents."""
    meters = {
        n: Installed(
            id=n,
            microgrid="apt",
            place=f"apartment {n}" if n < 4 else "building",
            building="building" if n < 4 else None,
            function=Function.APARTMENT if n < 4 else Function.BUILDING,
            direction=Direction.INCOMING if n < 4 else Direction.OUTGOING,
            holdings=(Holding(account=n, start=0),) if n < 4 else (),
        )
        for n in range(1, 5)
    }
    inputs = RunInputs(
        month="2026-11",
        timezone=ZONE,
        registry=DatedRegistry(revision=1, meters=meters),
        tariffs=(tariff(),),
        default="town",
    )
    shape = len(meters), inputs.length
    energies = {quantity: np.zeros(shape, np.int64) for quantity in Quantity}
    energies[Quantity.EXPORTED][3, 0] = 10**6
    world = exact_world(inputs, energies)
    return {number: each.bill for number, each in bills_of(inputs, world.load).billed.items()}


def test_credits_of_a_buildings_apartments_add_up_to_its_cents() -> None:
    bills = apartments().values()
    lines = [line for bill in bills for line in bill.lines if line.kind is LineKind.CREDIT]
    assert sorted(100 * Fraction(line.amount) for line in lines) == [-4, -3, -3]
    for bill in bills:
        assert bill.total == sum(line.amount for line in bill.lines)


def test_bills_do_not_depend_on_the_order_of_the_registry() -> None:
    world = random_world(3)
    registry = world.inputs.registry
    turned = type(registry)(
        revision=registry.revision,
        meters=dict(reversed(list(registry.meters.items()))),
        accounts=dict(reversed(list(registry.accounts.items()))),
    )
    again = type(world.inputs)(**{**world.inputs.__dict__, "registry": turned})
    assert bills_of(again, world.load).billed == bills_of(world.inputs, world.load).billed


def test_what_a_meter_shows_while_it_is_not_installed_changes_no_bill() -> None:
    pooled = 0
    for seed in range(6):
        world = random_world(seed)
        before = bills_of(world.inputs, world.load)
        quarters = world.settled.first + np.arange(world.settled.quality.shape[1])
        for row, meter_id in enumerate(world.settled.meters.tolist()):
            meter = world.inputs.registry.meters[meter_id]
            gone = (quarters < (meter.start or 0)) | (quarters >= (meter.end or 2**32))
            world.settled.quality[row, gone] = 0
            world.settled.provisional[row, gone] = True
            for energies in world.settled.energies.values():
                energies[row, gone] = 10**6
            pooled += meter.holdings == () and bool(gone.any())
        after = bills_of(world.inputs, world.load)
        assert after.billed == before.billed
        for name in ("given", "kept", "unheld"):
            assert getattr(after.sums, name) == getattr(before.sums, name), name
    assert pooled, "a building's or the farm's meter was exchanged"


@pytest.mark.parametrize("step_of", ["current", "initial"])
def test_base_that_fell_rises_to_the_tariffs_again(step_of: str) -> None:
    rates = tariff(policy={"name": "aces", "off_peak": "off-peak", "step_of": step_of})
    for bills in range(40):
        base = rates.base
        for cents in [-1] * bills + [1] * 60:
            base = policies.aces_next_base(rates, base, cents)
        assert base == rates.base


def test_credit_that_is_divided_adds_up_to_what_was_given() -> None:
    for seed in range(4):
        world = random_world(seed)
        sums = bills_of(world.inputs, world.load).sums
        credited = sum(
            sum(energies)
            for account in sums.accounts.values()
            for (_, flow), energies in account.energies.items()
            if 2 <= flow <= 5
        )
        assert credited + sums.kept == sums.given
        assert sums.kept >= 0


DOCS = Path(__file__).parents[4] / "docs"
PAGE = (DOCS / "billing.md").read_text(encoding="utf-8")
KWH_BY_HAND = 10**6


def quarter(day: int, hour: int) -> int:
    return int(datetime(2026, 11, day, hour, tzinfo=ZoneInfo(ZONE)).timestamp()) // 900


NOON, EVENING, SIXTEENTH = quarter(2, 12), quarter(2, 17), quarter(16, 0)

ENERGIES = {
    1: [(Quantity.IMPORTED, EVENING, 100 * KWH_BY_HAND), (Quantity.IMPORTED, NOON, 300 * KWH_BY_HAND),
        (Quantity.SHARED_IN, NOON, 20 * KWH_BY_HAND)],
    2: [(Quantity.EXPORTED, EVENING, 10 * KWH_BY_HAND), (Quantity.EXPORTED, NOON, 50 * KWH_BY_HAND)],
    3: [(Quantity.IMPORTED, NOON, 120 * KWH_BY_HAND)],
    6: [(Quantity.EXPORTED, NOON, 90 * KWH_BY_HAND + 1)],
    7: [(Quantity.IMPORTED, NOON, 500 * KWH_BY_HAND)],
    8: [(Quantity.IMPORTED, NOON, 200 * KWH_BY_HAND)],
    9: [(Quantity.IMPORTED, NOON, 200 * KWH_BY_HAND)],
    10: [(Quantity.EXPORTED, NOON, 100 * KWH_BY_HAND)],
}  # fmt: skip
"""Milliwatt-hours by meter."""

_IN, _OUT = Direction.INCOMING, Direction.OUTGOING

METERS: list[tuple[str, str, Function, Direction, int | None, int]] = [
    ("r001", "house", Function.HOUSE, _IN, 1, 0),
    ("r001", "house", Function.HOUSE, _OUT, 1, 0),
    ("apt", "apartment 1", Function.APARTMENT, _IN, 2, 0),
    ("apt", "apartment 2", Function.APARTMENT, _IN, None, 0),
    ("apt", "apartment 3", Function.APARTMENT, _IN, 3, SIXTEENTH),
    ("apt", "building", Function.BUILDING, _OUT, None, 0),
    ("public", "hospital", Function.HOSPITAL, _IN, 4, 0),
    ("public", "police", Function.POLICE, _IN, 5, 0),
    ("public", "fire", Function.FIRE, _IN, 6, 0),
    ("public", "farm", Function.SOLAR_FARM, _OUT, None, 0),
]
"""Microgrid, place, function, direction, account, its first quarter."""


def world_by_hand() -> World:
    meters = {
        number: Installed(
            id=number,
            microgrid=microgrid,
            place=place,
            building="building" if function is Function.APARTMENT else None,
            function=function,
            direction=direction,
            holdings=() if account is None else (Holding(account=account, start=start),),
        )
        for number, (microgrid, place, function, direction, account, start) in enumerate(METERS, 1)
    }
    inputs = RunInputs(
        month="2026-11",
        timezone=ZONE,
        registry=DatedRegistry(revision=1, meters=meters),
        tariffs=(replace(read_tariff(DOCS / "examples/tariff.toml"), version=1),),
        default="town",
    )
    shape = len(meters), inputs.length
    energies = {quantity: np.zeros(shape, np.int64) for quantity in Quantity}
    for meter, flows in ENERGIES.items():
        for quantity, when, energy in flows:
            energies[quantity][meter - 1, when - inputs.first] = energy
    return exact_world(inputs, energies)


def by_hand() -> list[list[list[str]]]:
    """The tables of bills on the page, as rows of cells."""
    tables = PAGE.split("## Three bills by hand")[1].split("| line | kWh | rate | dollars |\n|---|---|---|---|\n")[1:]
    return [
        [[cell.strip() for cell in row.strip("|").split("|")] for row in table.split("\n\n")[0].splitlines()]
        for table in tables
    ]


def rows_of(bill: Bill) -> list[list[str]]:
    rows = [
        [
            line.text,
            "" if line.energy is None else f"{line.energy / KWH_BY_HAND:.6f}",
            str(line.rate or ""),
            str(line.amount),
        ]
        for line in bill.lines
    ]
    return [*rows, ["total", "", "", str(bill.total)]]


def test_bills_are_those_computed_by_hand() -> None:  # req: U2
    found = bills_of(world_by_hand().inputs, world_by_hand().load)
    bills = {number: rows_of(each.bill) for number, each in found.billed.items()}
    assert by_hand() == [bills[1], bills[2], bills[3], bills[4], bills[5]]
    assert bills[6] == bills[5]
    assert found.sums.kept == 60 * KWH_BY_HAND + 1, "of the vacant apartment, and of the one that was vacant then"
    assert NOON % 3 == 2
    assert f"number {NOON:,}" in " ".join(PAGE.split())


def test_page_names_every_setting_of_a_policy_with_its_default() -> None:
    table = re.findall(r"^\| `(\w+)` \| ([^|]+) \| `?(\w+)[^|]*\|", PAGE, re.MULTILINE)
    stated = {(name, policy): default for name, policies, default in table for policy in _policies(policies)}
    for model, policy in ((SpecSettings, "spec"), (AcesSettings, "aces"), (RangersSettings, "rangers")):
        for name, field in model.model_fields.items():
            if name != "name":
                assert stated[name, policy] == ("none" if field.is_required() else field.default), (name, policy)


def _policies(text: str) -> list[str]:
    return ["spec", "aces", "rangers"] if text == "all" else re.findall(r"`(\w+)`", text)


def stored(world: World, month: str = MONTH, earlier: tuple[EarlierMonth, ...] = ()) -> StoredRun:
    inputs = world.inputs
    return StoredRun(
        month=month,
        timezone=ZONE,
        default=inputs.default,
        code="1",
        settled=1,
        previous=0,
        tariffs=tuple(t.canonical() for t in inputs.tariffs),
        registry=inputs.registry,
        bases=inputs.bases,
        earlier=earlier,
    )


def issued(run: Computed, month: str) -> EarlierMonth:
    billed = {number: billed_month(each.bill) for number, each in run.billed.items()}
    return EarlierMonth(month=month, default=run.run.default, bases={}, billed=billed, rules=run.run.rules)


@pytest.mark.parametrize(("energy", "amount"), [(100 * KWH, Decimal("20.00")), (-KWH // 50, Decimal("0.00"))])
def test_late_data_becomes_a_line_of_the_next_bill(energy: int, amount: Decimal) -> None:
    world = world_of()
    october = computed(stored(world, "2026-10"), world.load)
    account = late(world, Quantity.IMPORTED, energy)
    november = computed(stored(world, earlier=(issued(october, "2026-10"),)), world.load)
    corrections = {n: [x for x in b.bill.lines if x.kind is LineKind.CORRECTION] for n, b in november.billed.items()}
    changed = [number for number, lines in corrections.items() if lines]
    assert changed == ([account] if amount else [])
    if amount:
        (line,) = corrections[account]
        assert (line.amount, line.month, line.text) == (amount, "2026-10", "Correction of 2026-10")
        assert "billed were 119.040" in line.reason
        bill = november.billed[account].bill
        assert bill.total == sum(each.amount for each in bill.lines)
        assert bill.total == bills_of(world.inputs, world.load).billed[account].bill.total + amount


def test_another_default_tariff_corrects_no_earlier_month() -> None:
    world = world_of()
    october = computed(stored(world, "2026-10"), world.load)
    dearer = tariff("town2", 1, "2026-11-01", "20.00", (("peak", "0.40", "0.16"), ("off-peak", "0.30", "0.10")))
    inputs = replace(world.inputs, tariffs=(*world.inputs.tariffs, dearer), default="town2")
    run = stored(replace(world, inputs=inputs), earlier=(issued(october, "2026-10"),))
    for again in (run, unpack_run(run.pack())):
        november = computed(again, world.load)
        lines = [line for each in november.billed.values() for line in each.bill.lines]
        assert not [line for line in lines if line.kind is LineKind.CORRECTION]
        assert {each.bill.tariff for each in november.billed.values()} == {("town2 v1",)}


def test_correction_in_favour_takes_at_most_the_bill_and_goes_on_with_the_next() -> None:
    world = world_of()
    october = computed(stored(world, "2026-10"), world.load)
    account = next(iter(october.billed))
    paid = issued(october, "2026-10")
    too_much = paid.billed[account]._replace(cents=paid.billed[account].cents + 5_000)
    again = replace(paid, billed={**paid.billed, account: too_much})
    november = computed(stored(world, earlier=(again,)), world.load)
    own = bills_of(world.inputs, world.load).billed[account].bill.total
    bill = november.billed[account].bill
    assert own < 50
    assert (bill.total, bill.lines[-1].amount) == (Decimal(0), -own)
    assert november.figures["open_corrections"] == str(own - 50), "it follows on later bills"


def test_part_of_a_correction_has_its_part_of_the_taxes_and_the_last_part_the_rest() -> None:
    world = world_of()
    october = computed(stored(world, "2026-10"), world.load)
    account, paid = next(iter(october.billed)), issued(october, "2026-10")
    was = paid.billed[account]
    was = was._replace(cents=was.cents + 5_000, taxes=801)
    run = stored(world, earlier=(replace(paid, billed={**paid.billed, account: was}),))
    assert unpack_run(run.pack()).earlier[0].billed[account] == was
    part = computed(run, world.load).billed[account].bill.lines[-1]
    assert 0 < -part.amount < 50
    assert part.tax_cents == round(801 * part.amount / 50)
    was = was._replace(cents=was.cents + int(part.amount * 100), taxes=was.taxes + part.tax_cents)
    run = replace(run, earlier=(replace(paid, billed={**paid.billed, account: was}),), finals=(account,))
    rest = computed(run, world.load).billed[account].bill
    assert (part.amount + rest.lines[-1].amount, part.tax_cents + rest.lines[-1].tax_cents) == (Decimal(-50), -801)
    assert bill_of(bill_bytes(rest)) == rest
    only = paid.billed[account]._replace(taxes=30)
    run = stored(world, earlier=(replace(paid, billed={**paid.billed, account: only}),))
    line = computed(run, world.load).billed[account].bill.lines[-1]
    assert (line.kind, line.amount, line.tax_cents) == (LineKind.CORRECTION, Decimal(0), -30), "of energy, not of taxes"


def test_correction_of_an_account_that_left_is_a_bill_of_its_own() -> None:
    world = world_of()
    october = computed(stored(world, "2026-10"), world.load)
    account = late(world, Quantity.IMPORTED, 100 * KWH)
    first = world.inputs.first
    meters = {
        i: replace(m, holdings=tuple(replace(h, end=first) if h.account == account else h for h in m.holdings))
        for i, m in world.inputs.registry.meters.items()
    }
    moved = World(
        inputs=replace(world.inputs, registry=replace(world.inputs.registry, meters=meters)), settled=world.settled
    )
    bill = computed(stored(moved, earlier=(issued(october, "2026-10"),)), moved.load).billed[account].bill
    assert [line.kind for line in bill.lines] == [LineKind.CORRECTION]
    assert (int(bill.total), bill.start, bill.end) == (20, first, first)


def test_stored_run_gives_the_same_bytes_again() -> None:
    for seed in range(3):
        world = random_world(seed)
        first = computed(stored(world, world.inputs.month), world.load)
        again = unpack_run(first.run.pack())
        assert again.pack() == first.run.pack()
        world.settled.provisional[:] = False
        second = computed(again, world.load)
        assert (first.contents, first.digest, first.figures) == (second.contents, second.digest, second.figures)
        for number, content in first.contents.items():
            assert bill_of(content) == first.billed[number].bill
            assert bill_bytes(bill_of(content)) == content
        assert again.registry == world.inputs.registry


def of_a_building() -> World:
    """Return a town with two settled months in which a building gives what its apartments can't divide in cents."""
    world = world_of(1)
    for row, meter in enumerate(world.settled.meters.tolist()):
        if world.inputs.registry.meters[meter].function == "building":
            world.settled.energies[Quantity.EXPORTED][row, ::7] = 123_457
    return world


def test_a_run_names_its_rules_and_is_computed_again_by_them() -> None:
    world = of_a_building()
    made = computed(stored(world), world.load)
    assert computed(unpack_run(made.run.pack()), world.load).digest == made.digest
    assert kept_of(made.run.pack()) == {"default": made.run.default, "rules": 2, "corrects": ()}
    assert made.tree(bytes(32)).head["rules"] == 2


checker = _checker

LEVY = {"name": "grid levy", "per_kwh": "0.005"}
VAT = {"name": "VAT", "percent": "20", "on": ["base", "import", "grid levy"]}


def taxed(world: World, taxes: list[dict[str, Any]], base_by: str = "by_quarter") -> World:
    """Return a world whose tariffs have taxes; each later version has a tax more."""

    def with_taxes(each: Tariff) -> Tariff:
        content = json.loads(each.canonical())
        content["tax"] = taxes + [LEVY] * (each.version - 1)
        content["policy"]["base_of_part_month"] = base_by
        return tariff_of(json.dumps(content))

    return replace(world, inputs=replace(world.inputs, tariffs=tuple(map(with_taxes, world.inputs.tariffs))))


def taxes_of(bill: Bill) -> list[tuple[str, str, Decimal]]:
    return [(line.text, line.reason, line.amount) for line in bill.lines if line.kind is LineKind.TAX]


_RATE = st.decimals(0, 300, places=6).map(str)
_TAXES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"per_kwh": _RATE}),
        st.fixed_dictionaries(
            {"percent": _RATE, "credit": st.sampled_from(("taxed", "untaxed"))},
            optional={"on": st.sampled_from((["base"], ["import"], ["import", "base"]))},
        ),
    ),
    max_size=3,
).map(lambda some: [{"name": f"tax {n}"} | one for n, one in enumerate(some)])


@settings(max_examples=12, deadline=None, phases=[Phase.generate])
@given(seed=st.integers(0, 30), taxes=_TAXES, base_by=st.sampled_from(("by_quarter", "by_day", "whole")))
def test_a_household_computes_each_tax_again(
    checker: ModuleType, seed: int, taxes: list[dict[str, Any]], base_by: str
) -> None:
    above = {"name": "on all", "percent": "7.5", "on": ["import", *(each["name"] for each in taxes)]}
    for found in receipts(taxed(random_world(seed), [*taxes, above], base_by)).values():
        assert faults(checker, found) == []
        bill = found["leaf"]["bill"]
        own = sum(Decimal(line["amount"]) for line in bill["lines"] if line["kind"] != "tax")
        assert own >= 0, "a bill is never below zero"
        assert sum(Decimal(line["amount"]) for line in bill["lines"]) == Decimal(bill["total"])


def test_a_wrong_cent_of_a_tax_is_found(checker: ModuleType) -> None:
    found = next(iter(receipts(taxed(random_world(3), [LEVY, VAT])).values()))
    line = next(line for line in found["leaf"]["bill"]["lines"] if line["kind"] == "tax")
    line["amount"] = str(Decimal(line["amount"]) + Decimal("0.01"))
    assert any(each.startswith("taxes: the bill has") for each in faults(checker, found))


def house(*taxes: dict[str, Any]) -> Bill:
    """Return the bill of docs/billing.md's house: base 12.00, import 92.00 for 400 kWh, credit -6.60; with taxes."""
    world = taxed(world_by_hand(), list(taxes))
    return bills_of(world.inputs, world.load).billed[1].bill


def test_taxes_are_of_printed_cents_and_credit_lowers_them_only_if_it_says_so() -> None:
    bill = house(LEVY, VAT, {"name": "city", "percent": "10", "credit": "taxed"})
    assert taxes_of(bill) == [
        ("grid levy", "", Decimal("2.00")),
        ("VAT", "20 % of 106.00", Decimal("21.20")),
        ("city", "10 % of 97.40", Decimal("9.74")),
    ]
    assert bill.total == Decimal("97.40") + Decimal("32.94")


def test_a_tax_is_rounded_once_half_a_cent_to_the_even_one() -> None:
    half = Tax(name="half", percent="50")
    assert [tax_cents(half, cents, 0) for cents in (1, 3, 5, 7)] == [0, 2, 2, 4]
    assert tax_cents(Tax(name="levy", per_kwh="0.01"), 0, 2_500_000) == 2


@pytest.mark.parametrize("energy", [10**10, 400 * KWH])
def test_credit_beyond_the_rest_pays_no_tax_back(energy: int) -> None:
    world = taxed(world_by_hand(), [LEVY, {"name": "city", "percent": "10", "credit": "taxed"}])
    world.settled.energies[Quantity.EXPORTED][1, 0] = energy
    bill = bills_of(world.inputs, world.load).billed[1].bill
    own = sum(line.amount for line in bill.lines if line.kind is not LineKind.TAX)
    assert [amount for _, _, amount in taxes_of(bill)] == [Decimal("2.00"), own / 10 if own else Decimal("0.00")]
    assert bill.total == own + sum(amount for _, _, amount in taxes_of(bill))


@pytest.mark.parametrize("seed", range(6))
def test_two_accounts_that_follow_each_other_pay_one_base_by_days(seed: int) -> None:
    world = world_of()
    random, first, until = Random(seed), world.inputs.first, world.inputs.until
    moved = random.randrange(first + 1, until)
    meters = dict(world.inputs.registry.meters)
    number, meter = next((n, m) for n, m in meters.items() if m.holdings)
    old = meter.holdings[0]
    for n, each in meters.items():
        if each.holdings == meter.holdings:
            new = replace(old, account=900, start=moved)
            meters[n] = replace(each, holdings=(replace(old, end=moved), new))
    inputs = replace(world.inputs, registry=replace(world.inputs.registry, meters=meters))
    by_day = taxed(replace(world, inputs=inputs), [], "by_day")
    bills = bills_of(by_day.inputs, by_day.load).billed
    lines = [bills[account].bill.lines[0] for account in (old.account, 900)]
    days = datetime.fromtimestamp(moved * 900, ZoneInfo(inputs.timezone)).day - 1
    assert [line.text for line in lines] == [f"Base, {days} of 30 days", f"Base, {30 - days} of 30 days"]
    assert abs(sum((line.amount for line in lines), Decimal(-12))) <= Decimal("0.01"), "each bill is rounded at its sum"
    assert number in by_day.inputs.registry.meters


def test_a_correction_has_the_taxes_of_its_month() -> None:
    world = taxed(world_of(), [LEVY, VAT])
    october = computed(stored(world, "2026-10"), world.load)
    account = late(world, Quantity.IMPORTED, 100 * KWH)
    november = computed(stored(world, earlier=(issued(october, "2026-10"),)), world.load)
    line = november.billed[account].bill.lines[-1]
    levy, vat = Decimal("0.50"), (Decimal("20.00") + Decimal("0.50")) / 5
    assert (line.kind, line.month, line.amount) == (LineKind.CORRECTION, "2026-10", 20 + levy + vat)
    assert Decimal(november.figures["tax"]) == sum(
        amount for each in november.billed.values() for _, _, amount in taxes_of(each.bill)
    )


@pytest.mark.parametrize(
    ("tax", "words"),
    [
        ({"name": "VAT"}, "needs `percent`, and may have `on` and `credit`; or `per_kwh` alone"),
        ({"name": "VAT", "percent": "20", "per_kwh": "0.1"}, "needs `percent`, and may have"),
        ({"name": "VAT", "per_kwh": "0.1", "credit": "taxed"}, "or `per_kwh` alone"),
        ({"name": "VAT", "percent": "20", "on": ["credit"]}, "'credit' must be one of these, once: base, import"),
        ({"name": "VAT", "percent": "20", "on": ["VAT"]}, "'VAT' must be one of these, once: base, import"),
        ({"name": "VAT", "percent": "20", "on": ["base", "base"]}, "'base' must be one of these, once"),
        ({"name": "base", "percent": "20"}, "'base' is there twice, or names other lines"),
    ],
)
def test_a_tax_that_says_two_things_or_none_is_refused(tax: dict[str, Any], words: str) -> None:
    file = tariff().file.model_copy(update={"tax": (Tax.model_validate(tax),)})
    assert all(words in said for _, said in week_faults(file) or [((), "")])
    twice = tariff().file.model_copy(update={"tax": (Tax.model_validate(LEVY),) * 2})
    assert [said for _, said in week_faults(twice)] == ["'grid levy' is there twice, or names other lines"]


BEFORE = (
    "e3e2a6777bbb9cdf0fc8970d4dee8c46c130de8e56dc21cc8d8fdce1ae85eb4a",
    "7969f7899530ac82799754284afc229753e4313c822d03481e0913fc155f6910",
    "47e68356fe45ba062eb1b6641bd08af751fce2945f4eb94207f351b3d5839078",
    "edc820fed1c2271ece560c775ffa2da50c71a0474be34a334a9ab1acbae8e342",
)
"""Digests of random towns' inputs, bills, head, figures, PDFs and receipts, by the version before taxes."""


def digest_of(made: Computed, world: World) -> str:
    tree, zone = made.tree(SECRET), ZoneInfo(made.run.timezone)
    found = hashlib.sha256(made.run.pack() + made.digest.encode() + canonical(tree.head))
    found.update(json.dumps(made.figures).encode())
    for number, each in made.billed.items():
        quarters = quarters_of_accounts(made.run.inputs(), [number], world.load)[number]
        customer = customer_of(made.run.registry, number)
        printed = Statement(
            bill=each.bill, customer=customer, zone=zone, meters=tuple(quarters), state="issued", head=tree.head
        )
        found.update(as_pdf(printed))
        found.update(json.dumps(receipt_of(made.run.inputs(), tree, each.bill, quarters)).encode())
    return found.hexdigest()


@pytest.mark.parametrize("seed", range(len(BEFORE)))
def test_a_town_that_uses_nothing_new_keeps_every_byte(seed: int) -> None:
    world = random_world(seed)
    assert digest_of(computed(run_of(world), world.load), world) == BEFORE[seed]


@pytest.mark.parametrize(("halves", "cents"), [(1, 0), (3, 2), (5, 2), (-1, 0), (-3, -2)])
def test_a_sum_with_half_a_cent_goes_to_the_even_cent(halves: int, cents: int) -> None:
    half, quarters = cent_amount(2976) // 2, 2976
    assert rounded([half] * abs(halves) if halves > 0 else [-half] * -halves, quarters)[0] == cents
    assert rounded([halves * half + 1], quarters)[0] == (halves + 1) // 2, "more than half is rounded up"


RECEIPT_PAGE = Path(__file__).parents[4] / "docs/billing.md"


def of_kind(world: World, seed: int) -> World:
    """Return a world, every other one with taxes and a base by days."""
    both: list[dict[str, Any]] = [
        LEVY,
        VAT,
        {"name": "city", "percent": "3.5", "on": ["import", "VAT"], "credit": "taxed"},
    ]
    return taxed(world, both, "by_day") if seed % 2 else world


def names_of(value: object, above: str = "") -> Iterator[str]:
    """Yield the names of all fields of a receipt; what is named by data has none: tariffs by their labels."""
    if isinstance(value, dict):
        for name, each in value.items():
            if above != "tariffs":
                yield name
            yield from names_of(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from names_of(each, above)


def test_every_field_of_a_receipt_is_on_the_page() -> None:
    section = RECEIPT_PAGE.read_text(encoding="utf-8").split("## The receipt's fields")[1]
    described = set(re.findall(r"`([a-z_0-9]+)`", section))
    for seed in range(8):
        for receipt in receipts(of_kind(random_world(seed), seed)).values():
            assert set(names_of(receipt)) <= described
