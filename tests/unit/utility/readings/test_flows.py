"""One quarter-hour has one figure: the town's is the sum of its microgrids', a microgrid's the sum of its homes'."""

from pathlib import Path

import numpy as np
import pytest

from commonwatt.model.blocks import Blocks, concatenate, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOTS
from commonwatt.town.loading import load_town
from commonwatt.town.town import Direction, Function, Meter, Microgrid, Town
from harness.surroundings import databases
from harness.surroundings.messages import exchange
from harness.surroundings.stored import FIRST, store
from utility.database.database import Database
from utility.households.store import home_of, read_course
from utility.overview.town import QuarterEnergy
from utility.readings.flows import LINES, EnergyLine, Flows, by_source
from utility.readings.store.flows import flows

QUARTERS = range(FIRST, FIRST + 6)
NEW = 10**9


@pytest.fixture(params=range(5))
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def town(tmp_path: Path, seed: int) -> Town:
    count, houses, apartments = np.random.default_rng(seed).integers(1, 4, 3).tolist()
    path = tmp_path / "town.toml"
    path.write_text(
        f'microgrid = [{{id = "r", kind = "residential", count = {count}, houses = {houses}}}, '
        f'{{id = "a", kind = "apartment", count = 1, apartments = {apartments}}}, {{id = "p", kind = "public"}}]\n'
    )
    return load_town(path)


def readings(town: Town, seed: int, exchanged: dict[int, int]) -> dict[str, Blocks]:
    """Readings of every meter that agree with each other: the boundary shows what the places do."""
    rng = np.random.default_rng(seed)
    quarters = [QUARTERS.start - 1, *QUARTERS]

    def rows(meter: Meter) -> list[tuple[tuple[int, int, int], np.ndarray]]:
        return [
            ((exchanged.get(meter.id, meter.id) if quarter >= FIRST + 3 else meter.id, int(kind), quarter),
             rng.integers(0, 9_000, SLOTS) * (rng.random() < 0.8))
            for kind in meter.record_types for quarter in quarters
        ]  # fmt: skip

    found = {}
    for name, microgrid in town.microgrids.items():
        net, keyed = {quarter: np.zeros(SLOTS, np.int64) for quarter in quarters}, []
        for meter in microgrid.meters:
            if meter.function is not Function.BOUNDARY:
                keyed += (its := rows(meter))
                for (_, kind, quarter), values in its:
                    if kind == RecordType.THROUGH:
                        net[quarter] += values if meter.direction is Direction.INCOMING else -values
        for meter in microgrid.meters:
            if meter.function is Function.BOUNDARY:
                sign = 1 if meter.direction is Direction.INCOMING else -1
                keyed += [((meter.id, int(RecordType.THROUGH), q), np.maximum(0, sign * net[q])) for q in quarters]
        values = np.stack([each for _, each in keyed])
        found[name] = make_blocks([key for key, _ in keyed], values, np.full(values.shape, 2))
    return found


def energies(found: Flows, name: str) -> list[int]:
    line = getattr(found, name)
    return [int(each) for each in (line.energy if name in LINES else line)]


def ids_of(microgrid: Microgrid) -> set[int]:
    return {meter.id for meter in microgrid.meters}


def some_exchanged(database: Database, town: Town, seed: int) -> dict[int, int]:
    """Exchange the outgoing meter of a house in every second town."""
    outgoing = [m.id for m in town.meters if m.function is Function.HOUSE and m.direction is Direction.OUTGOING][
        : seed % 2
    ]
    found = {each: each + NEW for each in outgoing}
    if found:
        exchange(database, found, FIRST + 3)
    return found


def lost(blocks: dict[str, Blocks], seed: int) -> dict[str, Blocks]:
    """Lose a tenth of the blocks, and some slots of others."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, some in blocks.items():
        quality = some.quality * ((rng.random(len(some)) < 0.9)[:, None] | (rng.random(some.quality.shape) < 0.9))
        kept = np.flatnonzero(rng.random(len(some)) < 0.9)
        found[name] = make_blocks(list(some.keys()), np.where(quality > 0, some.values, 0), quality).take(kept)
    return found


def strays(blocks: dict[str, Blocks], exchanged: dict[int, int]) -> dict[str, Blocks]:
    """Add readings of exchanged meters from when they were elsewhere: they count for no home here."""
    other = exchanged | {new: old for old, new in exchanged.items()}
    found = {}
    for name, some in blocks.items():
        rows = [row for row, (meter, _, _) in enumerate(some.keys()) if meter in other]
        keys = [(other[meter], kind, quarter) for meter, kind, quarter in some.take(rows).keys()]  # noqa: SIM118 - no mapping
        found[name] = concatenate([some, make_blocks(keys, some.values[rows] // 2 + 7, some.quality[rows])])
    return found


@databases.on_both_kinds
@pytest.mark.parametrize("is_lossy", [False, True])
def test_a_quarter_hour_of_the_town_is_the_sum_of_its_microgrids_and_theirs_of_their_homes(
    database: Database, town: Town, seed: int, is_lossy: bool
) -> None:
    exchanged = some_exchanged(database, town, seed)
    blocks = strays(readings(town, seed, exchanged), exchanged)
    store(database, lost(blocks, seed) if is_lossy else blocks)
    with database.reads.begin() as connection:
        whole = flows(connection, QUARTERS)
        alone = [flows(connection, QUARTERS, name) for name in town.microgrids]
    for name in (*LINES, "between", "blocks"):
        assert energies(whole, name) == np.sum([energies(one, name) for one in alone], axis=0).tolist(), name
    for n in range(len(QUARTERS)):
        energy, parts = QuarterEnergy.of(whole, n), [QuarterEnergy.of(one, n) for one in alone]
        for name in ("net", "sun", "charged", "given", "used"):
            assert getattr(energy, name) == sum(getattr(each, name) for each in parts), name
    for microgrid, one in zip(town.microgrids.values(), alone, strict=True):
        assert (one.between >= 0).all()
        if microgrid.kind != "residential":
            assert is_lossy or one.used.is_whole.all()
            assert not one.between.any()
            continue
        homes = [home_of(database, account) for account in sorted({m.account for m in microgrid.meters if m.account})]
        courses = [read_course(database, home, QUARTERS.start, QUARTERS.stop) for home in homes if home is not None]
        for name in ("sun", "charge", "level"):
            lines = [getattr(course, name) for course in courses]
            for part in ("energy", "slots", "expected"):
                figure = np.sum([getattr(line, part) for line in lines], axis=0)
                assert figure.tolist() == getattr(getattr(one, name), part).tolist(), f"{part} of {name}"
        there = np.all([course.used.is_whole for course in courses], axis=0)
        # What a boundary lacks is unknown, though homes have all.
        there &= one.net.is_whole
        assert (there <= one.used.is_whole).all()
        assert is_lossy or (there == one.used.is_whole).all()
        assert is_lossy or there.sum() == len(QUARTERS) - any(each in exchanged for each in ids_of(microgrid))
        for name in ("net", "used"):
            figure = np.sum([getattr(course, name).energy for course in courses], axis=0)
            assert (figure[there] == getattr(one, name).energy[there]).all(), name


@databases.on_both_kinds
def test_a_boundary_of_which_one_meter_is_silent_tells_nothing(database: Database, town: Town, seed: int) -> None:
    blocks, gone = readings(town, seed, {}), set()
    for name, microgrid in town.microgrids.items():
        way = list(Direction)[seed % 2]
        gone |= {m.id for m in microgrid.meters if m.function is Function.BOUNDARY and m.direction is way}
        blocks[name] = blocks[name].take([n for n, m in enumerate(blocks[name].meter.tolist()) if m not in gone])
    store(database, blocks)
    with database.reads.begin() as connection:
        silent, found = flows(connection, QUARTERS), [flows(connection, QUARTERS, name) for name in town.microgrids]
    assert not silent.between.any()
    assert all(one.net.is_whole.all() for one in found), "its places do"
    inside = [m for m in town.meters if m.function is not Function.BOUNDARY]
    signs = {m.id: 1 if m.direction is Direction.INCOMING else -1 for m in inside}
    whole = concatenate(list(blocks.values()))
    through = whole.take(np.flatnonzero((whole.record_type == RecordType.THROUGH) & (whole.quarter >= FIRST)))
    net = int((through.values.sum(axis=1) * np.array([signs.get(m, 0) for m in through.meter.tolist()])).sum())
    assert (silent.taken.energy - silent.given.energy).sum() == net


def test_use_without_battery_and_panels_is_what_was_taken() -> None:
    there, nothing = (EnergyLine(energy=np.array([n]), slots=np.array([n]), expected=np.array([n])) for n in (60, 0))
    used = Flows(first=FIRST, taken=there, given=nothing, sun=nothing, charge=nothing, level=nothing).used
    assert (used.energy.tolist(), used.is_whole.tolist()) == ([60], [True])


@pytest.mark.parametrize("number", range(20))
def test_sources_add_up_to_what_was_used(number: int) -> None:
    used, sun, charge, between = np.random.default_rng(number).integers(-5_000, 9_000, (4, 50))
    found = by_source(used, np.maximum(0, sun), charge, np.maximum(0, between))
    assert (sum(found.values()) == np.maximum(0, used)).all()
    assert all((each >= 0).all() for each in found.values())
