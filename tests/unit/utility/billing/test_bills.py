"""Bills of random towns agree with a plain calculation: one quarter-hour at a time, in fractions (U2, C4, A9, P5)."""

import os
from fractions import Fraction

import numpy as np
import pytest

from commonwatt.settlement.settled import Quantity
from commonwatt.town.town import Direction, Function
from harness.billing.plain import Plain, energy_of
from harness.billing.worlds import ZONE, World, exact_world, random_world, tariff
from utility.billing.bill import Bill, LineKind
from utility.billing.inputs import RunInputs
from utility.billing.policies import aces
from utility.billing.run import bills_of
from utility.registry.accounts import DatedRegistry, Holding, Installed

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
            base = aces.next_base(rates, base, cents)
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
