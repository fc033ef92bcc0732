"""Settled quarters beside a plain second implementation, their residuals, and what settlement reads."""

from dataclasses import replace
from functools import partial, reduce
from itertools import pairwise

import numpy as np
import pytest
from sqlalchemy import func, select

from commonwatt.model.blocks import Blocks, Keys, concatenate
from commonwatt.model.records import RecordType
from commonwatt.town.town import Direction, Function, Town
from harness.settlement.compare import differences, hours, settle_day, settled, wrong_slots
from harness.settlement.emulated import EmulatedTown, small_town
from harness.settlement.plain import DAY, MICROGRID, RandomDay, random_day
from harness.surroundings import databases
from harness.surroundings.stored import FIRST, sent, store, town_blocks
from utility.database.database import Database
from utility.energy.quarters import Corrected, Quantity, SettledQuality, applied, no_overlay
from utility.energy.sharing import CONVENTIONS
from utility.readings.store.reads import numbers_of
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted, dead_letter
from utility.registry.layout import layout_of
from utility.settlement.day import SettlementRules
from utility.settlement.residual import Balance, DayResidual, SlotStretch, Tolerance, residual_of, tolerance
from utility.settlement.store import readings
from utility.settlement.store.readings import ReadingsOfQuarters


def corrected_of(day: RandomDay, quarter: int) -> Corrected:
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
                raw = [corrected_of(day, q) for q in range(DAY * 96, DAY * 96 + 2)]
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
        alone[name] = settle_day(
            DAY, layouts[-1:], partial(corrected_of, day), SettlementRules(battery_loss_permille=50)
        )

    def together(quarter: int) -> Corrected:
        raw = [corrected_of(day, quarter) for day in days.values()]
        order = rng.permutation(sum(len(each.keys) for each in raw))
        return Corrected(
            keys=Keys.of([key for each in raw for key in each.keys]).take(order),
            values=np.concatenate([each.values for each in raw])[order],
            quality=np.concatenate([each.quality for each in raw])[order],
        )

    found = settle_day(DAY, layouts[::-1], together, SettlementRules(battery_loss_permille=50))
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
    wrong, inside = wrong_slots(
        town, SettlementRules(resolution=resolution, battery_loss_permille=loss), 5, start_hour=11
    )
    assert wrong == []
    assert inside > 10**7


RULES = SettlementRules(resolution=100, battery_loss_permille=50)


def test_honest_meters_are_within_the_bound_and_a_theft_of_half_a_percent_is_found() -> None:  # req: C4
    town = small_town(50)
    stolen = {
        meter.id: 0.995
        for meter in town.meters
        if meter.direction is Direction.INCOMING
        and meter.function in (Function.APARTMENT, Function.HOSPITAL)
        and meter.location in ("building 1 apartment 2", "hospital")
    }
    honest = hours(EmulatedTown(town, "winter"), RULES, 1, 17)
    assert {name: one.excess for name, one in honest.items() if one.excess > 0} == {}
    found = hours(EmulatedTown(town, "winter", tampered=stolen), RULES, 1, 17)
    assert {name for name, one in found.items() if one.excess > 0} == {"apt", "pub"}


def spans(seed: int) -> tuple[Balance, np.ndarray, Tolerance]:
    rng = np.random.default_rng(seed)
    shape = 1, 60
    balance = Balance(
        residual=rng.integers(-50, 60, shape),
        known=rng.random(shape) < rng.choice([0.8, 0.97, 1.0]),
        averaged=rng.integers(0, 3, shape),
        charging=rng.integers(0, 2, shape),
        turns=rng.integers(0, 2, shape),
        passed=rng.integers(0, 1000, shape),
    )
    return balance, rng.random(60) < 0.05, Tolerance(fixed=20, charging=3, turn=5, loop_permille=10)


def cut(balance: Balance, part: slice) -> Balance:
    return Balance(**{name: values[:, part] for name, values in vars(balance).items()})


@pytest.mark.parametrize("seed", range(20))
def test_spans_in_sequence_have_the_residual_of_the_whole(seed: int) -> None:
    balance, begins, allowed = spans(seed)
    whole = residual_of(balance, 0, allowed, begins)
    edges = [0, *sorted(np.random.default_rng(seed).integers(1, 59, 3).tolist()), 60]
    parts = [slice(a, b) for a, b in pairwise(edges) if b > a]
    found = [residual_of(cut(balance, part), 0, allowed, begins[part]) for part in parts]
    assert reduce(DayResidual.then, found) == whole
    assert reduce(lambda later, earlier: earlier.then(later), reversed(found)) == whole, "in any grouping"


@pytest.mark.parametrize("place", ["head", "tail", "worst"])
def test_the_excess_is_that_of_the_worst_stretch(place: str) -> None:
    stretches: dict[str, SlotStretch] = {"head": SlotStretch(residual=-10), "tail": SlotStretch()}
    stretches |= {place: SlotStretch(residual=-35)} if place != "worst" else {}
    found = DayResidual(**stretches, worst=15 if place == "worst" else None, fixed=20)
    assert found.excess == 15


def test_batteries_without_loss_and_a_loop_without_loss_have_no_tolerance() -> None:
    assert tolerance(3, 1, 100, 0, 0) == Tolerance(fixed=500, charging=0, turn=0, loop_permille=0)


def test_a_loop_adds_its_share_of_what_passed_to_the_bound() -> None:
    none, unknown = np.zeros((1, 1), np.int64), np.zeros((1, 1), np.bool_)
    passed = Balance(residual=none, known=unknown, averaged=none, charging=none, turns=none, passed=none + 100_000)
    assert passed.halves(Tolerance(fixed=0, charging=0, turn=0, loop_permille=10)) == 2 * 1000


QUARTERS = range(FIRST, FIRST + 4)

kind = databases.both_kinds


def read(database: Database, town: Town) -> list[Blocks]:
    with database.reads.begin() as connection:
        numbers = numbers_of(connection, [meter.id for meter in town.meters])
    return list(ReadingsOfQuarters(database, numbers, []).over(QUARTERS))


def are_same(found: list[Blocks], expected: dict[str, Blocks]) -> bool:
    whole = concatenate(list(expected.values()))
    for quarter, one in zip(QUARTERS, found, strict=True):
        theirs = whole.take(np.flatnonzero(whole.quarter == quarter))
        theirs = theirs.take(np.argsort(theirs.meter))
        if not (np.array_equal(one.meter, theirs.meter) and np.array_equal(one.values, theirs.values)):
            return False
    return True


@pytest.mark.parametrize("rows", [1, 20_000])
@pytest.mark.parametrize("most_in", [2, 500])
def test_readings_are_complete_in_parts_joined_and_beside_a_damaged_block(
    database: Database, town: Town, monkeypatch: pytest.MonkeyPatch, rows: int, most_in: int
) -> None:
    monkeypatch.setattr(readings, "ROWS_AT_A_TIME", rows)
    monkeypatch.setattr(readings, "MAX_IN", most_in)
    blocks = town_blocks(town, QUARTERS)
    Writer(database).commit([sent(name, some) for name, some in blocks.items()])
    assert are_same(read(database, town), blocks), "in parts"
    store(database, blocks)
    assert are_same(read(database, town), blocks), "joined"
    c = compacted.c
    with database.writes.begin() as connection:
        number = connection.execute(select(func.min(c.meter_no))).scalar_one()
        which = (c.meter_no == number) & (c.quarter == FIRST + 2) & (c.record_type == int(RecordType.THROUGH))
        payload = connection.execute(select(c.payload).where(which)).scalar_one()
        connection.execute(compacted.update().where(which).values(payload=payload[:-1] + bytes([payload[-1] ^ 1])))
    found = read(database, town)
    assert [len(one) for one in found] == [len(town.meters) - (n == 2) for n in range(4)]
    with database.reads.begin() as connection:
        assert connection.execute(select(func.count()).select_from(dead_letter)).scalar_one() == 1
