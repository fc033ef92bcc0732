"""From stored quarter-hours to what the checks find, and estimates beside what the emulator's physics moved."""

from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from numpy.typing import NDArray

from commonwatt.device.commands import Commanded
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.records import EventRecord, RecordType, State
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS
from commonwatt.town.loading import load_town
from commonwatt.town.town import Direction, Function, Microgrid, Town
from harness.energy.worlds import Alone
from utility.corrections.checked_days import (
    DayOf,
    JudgedDay,
    Series,
    SeriesLayout,
    SeriesMeter,
    days_in,
    judged,
    layout_of,
    off_grid_times,
    outages_of,
    slots_in,
)
from utility.corrections.estimates import Method, RegisterDifference, SeriesRole, estimated
from utility.corrections.evidence import MAX_QUARTERS, KnownWindow, as_blocks, proposals, spans, window_of
from utility.corrections.validation import CheckLimits, ReadingCheck
from utility.readings.flows import measured_of
from utility.readings.gaps import ALL_SLOTS

FIRST_CHECKED = 96_000
LIMITS = CheckLimits(reference_days=3, least_days=2)
_Array = NDArray[np.int64]


def a_member(no: int, direction: Direction, types: set[int], function: Function = Function.HOUSE) -> SeriesMeter:
    return SeriesMeter(no=no, id=100 + no, location="house 1", function=function, direction=direction,
                  record_types=frozenset(types), capacity=None)  # fmt: skip


HOUSE = [a_member(1, Direction.OUTGOING, {1, 2, 3}), a_member(2, Direction.INCOMING, {3})]
FOREIGN = [a_member(3, Direction.INCOMING, {3, 4}, Function.FOREIGN)]


def rows(series: Series, totals: _Array, last: _Array | None = None, *, noise: int = 1) -> _Array:
    """Return a day's rows of a series, with the quarter before it; slots differ by ``noise``."""
    count = len(totals)
    columns = [
        np.full(count, series[0]),
        np.full(count, series[1]),
        FIRST_CHECKED - 1 + np.arange(count),
        totals,
        np.full(count, SLOTS),
        totals // SLOTS,
        totals // SLOTS + noise,
        totals if last is None else last,
    ]
    return np.stack(columns, axis=1).astype(np.int64)


def flat(energy: int) -> _Array:
    return np.full(97, energy, np.int64)


def found(members: list[SeriesMeter], tables: list[_Array], **known: object) -> JudgedDay:
    began = {(m.no, kind): FIRST_CHECKED for m in members for kind in m.record_types}
    measured = measured_of(np.concatenate(tables), FIRST_CHECKED - 1, 97)
    fields: dict[str, object] = {"first": FIRST_CHECKED, "measured": measured, "began": began} | known
    return judged(members, layout_of(members), DayOf(**fields), LIMITS)  # type: ignore[arg-type]


def checks(result: JudgedDay) -> set[tuple[int, ReadingCheck]]:
    return {(one.meter, one.check) for one in result.findings}


def house(incoming: int = 900, charge: int = 300) -> list[_Array]:
    level = 10_000 + charge * np.arange(97)
    return [
        rows((1, 1), flat(600)),
        rows((1, 2), flat(0), level),
        rows((1, 3), flat(100)),
        rows((2, 3), flat(incoming)),
    ]


def test_use_of_a_house_is_judged_under_its_incoming_meter() -> None:
    result = found(HOUSE, house())
    assert result.ordinary == {(1, 1): 96 * 600, (2, 3): 96 * (900 + 600 - 100 - 300)}
    usual = {(2, 3): [96 * 1_100] * 3}
    assert checks(found(HOUSE, house(), before=usual)) == set()
    assert checks(found(HOUSE, house(incoming=5_000), before=usual)) == {(102, ReadingCheck.HIGH)}
    # A battery that discharges what its level does not show makes the use too low.
    assert checks(found(HOUSE, house(charge=1_190), before=usual)) == {(102, ReadingCheck.LOW)}


def test_use_goes_on_under_the_meter_that_replaces_another_one() -> None:
    outgoing, old = HOUSE
    new = replace(old, no=4, id=104, since=FIRST_CHECKED + 40)
    members = [outgoing, replace(old, until=FIRST_CHECKED + 40), new]
    until, since = np.arange(97) < 41, np.arange(97) >= 41
    tables = [*house()[:3], house()[3][until], rows((4, 3), flat(900))[since]]
    result = found(members, tables)
    assert checks(result) == set(), "neither has a gap"
    assert result.ordinary[4, 3] == 96 * (900 + 600 - 100 - 300)
    late = found(members, [*tables[:3], house()[3][np.arange(97) < 39], tables[4]])
    assert checks(late) == {(102, ReadingCheck.GAP)}, "a gap before the exchange is one"


def test_gap_of_one_series_leaves_the_day_out() -> None:
    tables = house()
    tables[1] = tables[1][np.arange(97) != 40]
    result = found(HOUSE, tables, before={(2, 3): [1] * 3})
    assert set(result.ordinary) == {(1, 1)}
    assert checks(result) == set(), "a level is no energy; its gap is requested all the same"


def test_gap_is_found_unless_the_meter_was_off_or_not_there_yet() -> None:
    tables = [rows((3, 3), flat(60))[np.arange(97) != 50], rows((3, 4), flat(0), 60 * np.arange(97))]
    assert checks(found(FOREIGN, tables)) == {(103, ReadingCheck.GAP)}
    off = [((FIRST_CHECKED + 49) * QUARTER_S, (FIRST_CHECKED + 50) * QUARTER_S)]
    assert checks(found(FOREIGN, tables, off={3: off})) == set()
    assert checks(found(FOREIGN, tables, began={(3, 3): FIRST_CHECKED + 60})) == set()


def test_register_is_compared_over_the_day() -> None:
    steps = np.arange(97)
    tables = [rows((3, 3), flat(60_000)), rows((3, 4), flat(0), 60_000 * steps)]
    assert checks(found(FOREIGN, tables)) == set()
    tables[1] = rows((3, 4), flat(0), 70_000 * steps)
    [one] = found(FOREIGN, tables).findings
    assert (one.check, one.figure, one.threshold) == (ReadingCheck.REGISTER, -960_000, 100_000)
    tables[1] = rows((3, 4), flat(0), -steps)
    assert checks(found(FOREIGN, tables)) == set(), "a register that was exchanged tells nothing"


def test_stuck_reading_is_found_in_what_the_meter_sent() -> None:
    tables = [rows((3, 3), flat(60_000), noise=0)]
    [one] = found(FOREIGN, tables).findings
    assert (one.check, one.figure, one.first, one.until) == (ReadingCheck.STUCK, 96, FIRST_CHECKED, FIRST_CHECKED + 96)


def test_day_of_an_outage_is_not_kept_as_ordinary() -> None:
    outages = {0: [(FIRST_CHECKED * QUARTER_S, FIRST_CHECKED * QUARTER_S + 60)]}
    assert found(HOUSE, house(), outages=outages).ordinary == {}
    assert found(HOUSE, [np.zeros((0, 8), np.int64)], began={}).findings == []


FIRST = 1_988_900  # midday of a day in September, with sun

QUARTERS = 5
GAP = range(FIRST + 2, FIRST + 4)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    path = tmp_path / "town.toml"
    path.write_text(
        '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 4\n'
        '[[microgrid]]\nid = "apt"\nkind = "apartment"\nbuildings = 2\napartments = 2\n'
        '[[microgrid]]\nid = "pub"\nkind = "public"\n'
    )
    return load_town(path)


def members_of(microgrid: Microgrid) -> list[SeriesMeter]:
    return [
        SeriesMeter(
            no=number,
            id=meter.id,
            location=meter.location,
            function=meter.function,
            direction=meter.direction,
            record_types=frozenset(map(int, meter.record_types)),
            capacity=meter.battery.capacity if meter.battery else None,
        )
        for number, meter in enumerate(microgrid.meters, 1)
    ]


def measured(town: Town, microgrid: Microgrid) -> Blocks:
    """Return every reading of some quarter-hours, with batteries that share in the second half."""
    physics = Alone(town, microgrid)
    batteries = [meter for meter in microgrid.meters if meter.battery]
    levels = {m.id: m.battery.capacity * (90, 12, 60)[i % 3] // 100 for i, m in enumerate(batteries) if m.battery}
    donors = {meter.id: Commanded(sharing=True) for meter in batteries[::3]}
    values: dict[tuple[int, int], list[int]] = {}
    for slot in range(QUARTERS * SLOTS):
        step = physics.step(levels, FIRST * QUARTER_S + slot * SLOT_S, donors if slot > 150 else {})
        levels = step.levels
        for meter, readings in step.readings.items():
            for kind, value in readings.items():
                values.setdefault((meter, int(kind)), []).append(value)
    keys = [(meter, kind, FIRST + n) for meter, kind in values for n in range(QUARTERS)]
    of = [values[meter, kind][(q - FIRST) * SLOTS : (q - FIRST + 1) * SLOTS] for meter, kind, q in keys]
    return make_blocks(keys, of, np.full((len(keys), SLOTS), 2))


def without(blocks: Blocks, meters: set[int]) -> Blocks:
    """Return the blocks without those of some meters in the gap."""
    return blocks.take(
        [row for row, (meter, _, quarter) in enumerate(blocks.keys()) if meter not in meters or quarter not in GAP]
    )


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("r001", Function.HOUSE),
        ("apt", Function.APARTMENT),
        ("apt", Function.BUILDING),
        ("pub", Function.HOSPITAL),
        ("pub", Function.SOLAR_FARM),
    ],
)
def test_missing_place_of_every_kind_is_found_by_balance(town: Town, name: str, function: Function) -> None:
    members = members_of(town.microgrids[name])
    layout = layout_of(members)
    blocks = measured(town, town.microgrids[name])
    gone = next(place for place in layout.places if place[0].function is function)
    gaps = {
        (number, kind, q): ALL_SLOTS for number, kind in layout.series for q in GAP if number in {m.no for m in gone}
    }
    known = KnownWindow(blocks=without(blocks, {m.id for m in gone}))
    draft = estimated(window_of(layout, (FIRST, FIRST + QUARTERS), gaps, known))
    nets, there = draft.net()
    assert there[:, 1:].all()
    assert (nets.sum(axis=0)[1:] == draft.window.boundary[1:]).all(), "places and boundary agree in each slot"
    made = proposals(layout, draft)
    assert {method for _, method, _, _, _ in made} == {Method.BALANCE}
    assert {(number, kind, quarter) for (number, kind), _, quarter, _, _ in made} == set(gaps)
    true = {key: blocks.values[row] for row, key in enumerate(blocks.keys())}
    through = as_blocks({m.no: m for m in members}, made)
    for row, key in enumerate(through.keys()):
        if key[1] == RecordType.THROUGH:
            assert np.abs(through.values[row] - true[key]).sum() <= 0.02 * true[key].sum() + SLOTS, key


@pytest.mark.parametrize("missing", ["house 1", "house 2"])
def test_both_meters_of_an_exchange_count_in_the_balance(town: Town, missing: str) -> None:
    members, blocks = members_of(town.microgrids["r001"]), measured(town, town.microgrids["r001"])
    gone = [member for member in members if member.location == missing]

    def proposed(members: list[SeriesMeter], blocks: Blocks) -> list[tuple[int, Method, int, int]]:
        layout = layout_of(members)
        gaps = {(one.no, int(RecordType.THROUGH), quarter): ALL_SLOTS for one in gone for quarter in GAP}
        known = KnownWindow(blocks=without(blocks, {one.id for one in gone}))
        made = proposals(layout, estimated(window_of(layout, (FIRST, FIRST + QUARTERS), gaps, known)))
        return [(number, method, quarter, int(values.sum())) for (number, _), method, quarter, values, _ in made]

    old = next(m for m in members if m.location == "house 2" and m.direction is Direction.INCOMING)
    new = replace(old, no=99, id=99, since=GAP.stop)
    every = [blocks.key(row) for row in range(len(blocks))]
    keys = [(new.id if meter == old.id and q >= GAP.stop else meter, kind, q) for meter, kind, q in every]
    exchanged = [*(replace(one, until=GAP.stop) if one is old else one for one in members), new]
    found = proposed(members, blocks)
    assert sum(energy for _, _, _, energy in found) > 0
    assert sorted(proposed(exchanged, make_blocks(keys, blocks.values, blocks.quality))) == sorted(found)


def test_level_and_generation_are_series_only_where_no_meter_measures_the_intake(town: Town) -> None:
    roles = {name: set(layout_of(members_of(grid)).role) for name, grid in town.microgrids.items()}
    assert roles["r001"] == {SeriesRole.INCOMING, SeriesRole.OUTGOING}
    assert roles["apt"] == roles["pub"] == set(SeriesRole)


def test_meters_of_other_makers_are_places_of_their_own() -> None:
    some = [
        SeriesMeter(no=no, id=no, location="third party", function=Function.FOREIGN, direction=Direction.INCOMING,
               record_types=frozenset({3}), capacity=None)
        for no in (1, 2)
    ]  # fmt: skip
    layout = layout_of(some)
    assert layout.place == (0, 1)
    assert layout.boundary is None


def a_foreign(registers: dict[int, int]) -> tuple[SeriesLayout, KnownWindow]:
    """Return a meter with a register that is known in some slots, and without readings in the gap."""
    one = SeriesMeter(no=1, id=9, location="x", function=Function.FOREIGN, direction=Direction.INCOMING,
                 record_types=frozenset({3, 4}), capacity=None)  # fmt: skip
    values, quality = np.zeros((QUARTERS, SLOTS), np.int64), np.zeros((QUARTERS, SLOTS), np.uint8)
    for slot, value in registers.items():
        values[divmod(slot, SLOTS)], quality[divmod(slot, SLOTS)] = value, 2
    register = make_blocks([(9, 4, FIRST + n) for n in range(QUARTERS)], values, quality)
    there = [FIRST + n for n in range(QUARTERS) if FIRST + n not in GAP]
    through = make_blocks([(9, 3, q) for q in there], np.full((len(there), SLOTS), 7), np.full((len(there), SLOTS), 2))
    joined = make_blocks(
        [*register.keys(), *through.keys()],
        np.concatenate([register.values, through.values]),
        np.concatenate([register.quality, through.quality]),
    )
    return layout_of([one]), KnownWindow(blocks=joined)


def test_register_bounds_each_part_of_a_gap_that_it_measures() -> None:
    layout, known = a_foreign({100: 1_000, 200: 1_700, 250: 2_000})
    gaps = {(1, 3, quarter): ALL_SLOTS for quarter in GAP}
    window = window_of(layout, (FIRST, FIRST + QUARTERS), gaps, known)
    assert window.registers == [
        RegisterDifference(row=0, start=101, end=201, energy=700),
        RegisterDifference(row=0, start=201, end=251, energy=300),
    ]
    made = estimated(window).values[0]
    assert int(made[101:201].sum()) == 700
    assert int(made[201:251].sum()) == 300
    assert (made[:120] == 7).all(), "readings stay"


def test_register_that_fell_tells_nothing() -> None:
    layout, known = a_foreign({100: 1_000, 250: 3})
    assert window_of(layout, (FIRST, FIRST + QUARTERS), {}, known).registers == []


def test_windows_take_near_gaps_together_and_stay_bounded() -> None:
    assert spans([5, 6, 20, 40], 10) == [(4, 8), (19, 22), (39, 42)]
    assert spans([5, 12, 40], 10) == [(4, 14), (39, 42)]
    long = spans(list(range(1_000)), 10)
    assert all(until - first <= MAX_QUARTERS for first, until in long)
    assert [q for first, until in long for q in range(first + 1, until - 1)] == list(range(1_000))


def event(time: int, before: State, after: State) -> tuple[int, EventRecord]:
    return 1, EventRecord(previous_state=before, new_state=after, record_id=time, meter_id=9, time=time)


def test_island_is_an_outage_of_the_whole_microgrid_and_a_meter_off_of_itself() -> None:
    up, island = State.INITIALIZED, State.INITIALIZED | State.OFF_GRID
    events = {
        1: [event(900, up, island), event(1_800, island, up)],
        2: [event(3_000, up, State(0)), event(3_030, State(0), up)],
    }
    outages = outages_of(events, [1])
    assert outages[0] == [(900, 1_800)]
    assert outages[2] == [(3_000, 3_030)]
    assert np.flatnonzero(slots_in(outages[2], 2_985, 10)).tolist() == [1, 2]
    assert off_grid_times([event(50, island, up)]) == [(0, 50)]
    zone = ZoneInfo("America/New_York")
    assert [str(day) for day in days_in([(1_000_000, 1_000_001)], 0, 2_000_000, zone)] == ["1970-01-12"]
    assert days_in([(0, 10)], 1_000, 2_000, zone) == set()
