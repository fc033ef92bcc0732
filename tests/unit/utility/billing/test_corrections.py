"""Late data becomes a line of the next bill, issued bills stay; a stored run gives the same bytes again (row 21)."""

from dataclasses import replace
from decimal import Decimal

import pytest

from commonwatt.settlement.settled import Quantity
from harness.billing.two_months import KWH, MONTH, late, world_of
from harness.billing.worlds import ZONE, World, random_world, tariff
from utility.billing.bill import LineKind
from utility.billing.canonical import bill_bytes, bill_of
from utility.billing.corrections import billed_month
from utility.billing.run import bills_of
from utility.billing.stored_run import Computed, EarlierMonth, StoredRun, computed, kept_of, unpack_run


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
