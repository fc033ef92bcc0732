"""Taxes and levies, a base by days: lines that a household computes again; towns without them keep every byte (U2)."""

import hashlib
import json
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from random import Random
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from commonwatt.settlement.settled import Quantity
from harness.billing.two_months import KWH, late, world_of
from harness.billing.worlds import World, random_world, tariff
from tests.unit.utility.billing.test_by_hand import world as by_hand
from tests.unit.utility.billing.test_check_bill import SECRET, _checker, faults, receipts, run_of
from tests.unit.utility.billing.test_corrections import issued, stored
from utility.billing.bill import Bill, LineKind
from utility.billing.documents.pdf import as_pdf
from utility.billing.documents.receipt import quarters_of_accounts, receipt_of
from utility.billing.documents.statement import Statement
from utility.billing.money import cent_amount, rounded, tax_cents
from utility.billing.proof.canonical import canonical
from utility.billing.proof.digests import customer_of
from utility.billing.run import bills_of
from utility.billing.stored_run import Computed, computed
from utility.tariffs.file import Tax
from utility.tariffs.tariff import Tariff, tariff_of
from utility.tariffs.week import faults as week_faults

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
    world = taxed(by_hand(), list(taxes))
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
    world = taxed(by_hand(), [LEVY, {"name": "city", "percent": "10", "credit": "taxed"}])
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
