"""Settled quarters beside a plain second implementation, and beside what flowed in the emulator."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from commonwatt.model.block_keys import Keys
from commonwatt.settlement.conventions import CONVENTIONS
from commonwatt.settlement.overlay import Corrected, applied, no_overlay
from commonwatt.settlement.settled import Quantity, SettledQuality
from harness.settlement.compare import differences, settled
from harness.settlement.emulated import EmulatedTown, small_town
from harness.settlement.random_days import DAY, MICROGRID, RandomDay, random_day
from harness.settlement.truth import wrong_slots
from harness.settlement.whole_day import settle_day
from utility.registry.layout import layout_of
from utility.settlement.day import Rules


def read(day: RandomDay, quarter: int) -> Corrected:
    return applied(day.blocks(quarter), no_overlay())


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_a_plain_implementation_settles_the_same(seed: int, convention: str) -> None:  # req: C4
    assert differences(seed, convention, quarters=2) == []


def test_settled_quarters_balance_whatever_is_missing_averaged_or_negative() -> None:
    for seed in range(20, 24):
        day = random_day(seed, 2)
        found = settled(day, "pro_rata")
        energies = found.energies
        assert energies[Quantity.SHARED_IN].sum() == energies[Quantity.SHARED_OUT].sum()
        for quantity in Quantity:
            assert (energies[quantity] >= 0).all()
            assert not energies[quantity][~found.has[quantity]].any()
        for meter in day.meters:
            row = int(np.searchsorted(found.meters, meter.id))
            if found.has[Quantity.IMPORTED][row] and not found.has[Quantity.EXPORTED][row] and meter.start is None:
                raw = [read(day, q) for q in range(DAY * 96, DAY * 96 + 2)]
                mine = [each.values[(each.keys.meter == meter.id) & (each.quality[:, 0] >= 0)] for each in raw]
                through = sum(int(np.maximum(each, 0).sum()) for each in mine)
                if meter.end is None:
                    assert energies[Quantity.IMPORTED][row].sum() + energies[Quantity.SHARED_IN][row].sum() == through


def test_neither_the_order_of_readings_nor_other_microgrids_change_what_is_settled() -> None:
    days = {f"m{seed}": random_day(seed, 2) for seed in range(3)}
    rng = np.random.default_rng(1)
    layouts, alone = [], {}
    for number, (name, day) in enumerate(days.items()):
        day.loss_permille = 50
        meters = [replace(meter, id=meter.id + 1000 * number) for meter in day.meters]
        day.values = {(meter + 1000 * number, kind): each for (meter, kind), each in day.values.items()}
        day.quality = {(meter + 1000 * number, kind): each for (meter, kind), each in day.quality.items()}
        layouts.append(layout_of(name, meters, DAY))
        alone[name] = settle_day(DAY, layouts[-1:], partial(read, day), Rules(battery_loss_permille=50))

    def together(quarter: int) -> Corrected:
        raw = [read(day, quarter) for day in days.values()]
        order = rng.permutation(sum(len(each.keys) for each in raw))
        return Corrected(
            keys=Keys.of([key for each in raw for key in each.keys]).take(order),
            values=np.concatenate([each.values for each in raw])[order],
            quality=np.concatenate([each.quality for each in raw])[order],
        )

    found = settle_day(DAY, layouts[::-1], together, Rules(battery_loss_permille=50))
    for name, one in alone.items():
        rows = np.searchsorted(found.meters, one.meters)
        for quantity in Quantity:
            assert (found.energies[quantity][rows] == one.energies[quantity]).all()
        assert (found.quality[rows] == one.quality).all()
        assert found.residuals[name] == one.residuals[name]


def test_a_member_without_a_reading_is_marked_and_the_others_share_without_it() -> None:
    day = random_day(3, 1)
    taker = next(meter for meter in day.meters if meter.direction == "incoming")
    whole = settled(day, "pro_rata")
    for (meter, _), quality in day.quality.items():
        if meter == taker.id:
            quality[60:62] = 0
    found = settled(day, "pro_rata")
    row = int(np.searchsorted(found.meters, taker.id))
    assert found.quality[row, 0] == SettledQuality.MISSING
    assert found.missing[MICROGRID] >= whole.missing[MICROGRID]
    assert found.energies[Quantity.SHARED_IN].sum() == found.energies[Quantity.SHARED_OUT].sum()


@pytest.mark.parametrize(("loss", "resolution"), [(0, 1), (50, 100)])
def test_settled_slots_are_what_flowed_in_the_emulator(loss: int, resolution: int) -> None:  # req: C4
    town = EmulatedTown(small_town(loss), "storm", resolution=resolution)
    wrong, inside = wrong_slots(town, Rules(resolution=resolution, battery_loss_permille=loss), 5, start_hour=11)
    assert wrong == []
    assert inside > 10**7
