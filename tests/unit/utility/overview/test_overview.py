"""What the town's pages show, from what the utility has stored; on both databases."""

import numpy as np
import pytest

from commonwatt.model.blocks import concatenate, make_blocks
from commonwatt.model.records import EventRecord, RecordType, State
from commonwatt.model.units import QUARTER_S, SLOTS, quarter_of
from commonwatt.protocol.heartbeats import Month
from commonwatt.settlement.settled import Quantity
from commonwatt.town.town import Direction, Function, Town
from harness.real import databases
from harness.settlement.stored import FIRST, SOON, remove_meter, sent, store, town_blocks
from harness.surroundings.sent import append
from harness.surroundings.utility import a_heartbeat, exchange
from tests.unit.utility.settlement.test_settlement import run as settle
from utility.database.database import Database
from utility.outbox.changes import SawGateway
from utility.overview.batteries import BatteryFacts, battery_lines, helping
from utility.overview.microgrids import Condition, Facts, cell, count
from utility.overview.power import town_power
from utility.overview.store.finding import find
from utility.overview.store.microgrid import day_of_microgrid, is_there, meters_of
from utility.overview.store.series import WHOLE_QUARTERS, settled_series, slot_series
from utility.overview.store.town import microgrids, town_energy
from utility.readings.store.reads import meter_number
from utility.readings.store.retention import newest_quarter
from utility.readings.store.writer import Writer
from utility.settlement.store.settled import load_settled
from utility.takeover.history import GRANTED, Handover
from utility.takeover.store import save

METER = 10001


def seen(at: int = SOON, name: str = "r001", **said: object) -> SawGateway:
    return SawGateway(controller=name, time=at, heartbeat=a_heartbeat(**({"trust": 3} | said)))


def a_power(end: int) -> dict[str, int]:
    return {"end": end, "sun_w": 5_000, "use_w": 3_000, "import_w": 0, "export_w": 400}


def facts_of(
    database: Database, refused: dict[str, tuple[int, str]] | None = None, now: int = SOON
) -> dict[str, Facts]:
    with database.reads.begin() as connection:
        return {each.microgrid: each for each in microgrids(connection, now, refused)}


def test_a_microgrid_whose_meters_were_all_removed_is_not_silent(database: Database, town: Town) -> None:
    Writer(database).commit([seen(SOON - 9_000), seen(SOON - 9_000, "r002")])
    last, *others = [meter.id for meter in town.microgrids["r001"].meters]
    for meter in others:
        remove_meter(database, meter, quarter_of(SOON))
    assert [cell(each, SOON).condition for each in facts_of(database).values()] == ["alarm", "alarm"]
    remove_meter(database, last, quarter_of(SOON) + 1)
    assert [cell(each, SOON).condition for each in facts_of(database).values()] == ["alarm", "alarm"]
    later = SOON + 900
    assert [cell(each, later).words for each in facts_of(database, now=later).values()] == [
        "r001, well",
        "r002, alarm: its gateway has been silent for 165 min",
    ]


def test_the_state_of_a_microgrid_is_the_gravest_of_what_was_received(database: Database, town: Town) -> None:
    boundary = [m.id for m in town.microgrids["r001"].meters if m.function is Function.BOUNDARY]
    off = State.INITIALIZED | State.DEAD_FEEDER | State.OFF_GRID
    dark = EventRecord(previous_state=1, new_state=off, record_id=1, meter_id=boundary[0], time=SOON - 60)
    Writer(database).commit([append(events=[(1, dark)]), seen(), seen(SOON - 200, "r002")])
    facts = facts_of(database)
    cells = [cell(each, SOON) for each in facts.values()]
    assert [each.words for each in cells] == [
        "r001, islanded: its feeder has no voltage",
        "r002, late: no message for 200 s",
    ]
    assert count(cells) == {"alarm": 0, "islanded": 1, "late": 1, "fresh": 0}
    assert cell(facts["r002"], SOON + 200).condition is Condition.ALARM
    back = EventRecord(previous_state=off, new_state=1, record_id=2, meter_id=boundary[0], time=SOON - 10)
    over = Month(used=(3, 1), allowance=2)
    Writer(database).commit([append(events=[(1, back)]), seen(lte=over, backlog_age_s=3600)])
    facts = facts_of(database, {"r001": (2 * SOON, "meter 5 is not registered"), "r002": (0, "old")})
    found = cell(facts["r001"], SOON)
    assert found.condition is Condition.ALARM
    assert "refused: meter 5" in found.why, "the feeder is back, the refusal is newer than the last batch"
    assert found.why.endswith("readings have waited for 60 min at its gateway"), "the gravest reason comes first"
    assert facts["r002"].refused is None or facts["r002"].last_batch is None


def test_batteries_and_power_are_those_that_the_manager_says_while_the_own_controller_is_dead(
    database: Database,
) -> None:
    energy = {"sharing": {"77": "helps"}, "levels": [634], "stored": [634_000, 9], "power": a_power(SOON)}
    Writer(database).commit([seen(SOON - 600, time=SOON - 600), seen(SOON, "r002", time=SOON, hosted={"r001": energy})])
    assert facts_of(database)["r001"].heartbeat == a_heartbeat(trust=3, time=SOON - 600), "r002 does not manage it"
    taken = Handover(microgrid="r001", epoch=(2, 2), controller="r002", before="r001", how=GRANTED, why="it is silent")
    with database.writes.begin() as connection:
        save(connection, {}, [taken], SOON)
    found = facts_of(database)["r001"].heartbeat
    assert found is not None
    assert (found.levels, found.time) == ((634,), SOON)
    assert (found.store, found.backlog_age_s) == (a_heartbeat().store, 0), "its own store's"
    assert town_power(facts_of(database).values(), SOON).said == 1


def test_a_microgrid_that_never_reported_is_late(database: Database) -> None:
    assert {cell(each, SOON).words for each in facts_of(database).values()} == {
        f"{name}, late: its gateway has not reported yet" for name in ("r001", "r002")
    }


def test_a_boundary_meter_that_was_removed_tells_of_no_island(database: Database, town: Town) -> None:
    boundary = next(m.id for m in town.microgrids["r001"].meters if m.function is Function.BOUNDARY)
    dark = EventRecord(previous_state=1, new_state=1 | State.OFF_GRID, record_id=1, meter_id=boundary, time=SOON - 3600)
    Writer(database).commit([append(events=[(1, dark)])])
    gone = SOON // QUARTER_S
    exchange(database, {boundary: 77_001}, gone)
    assert facts_of(database, now=gone * QUARTER_S - 1)["r001"].boundary == State.OFF_GRID
    assert facts_of(database)["r001"].boundary == 0


def test_day_of_a_microgrid_has_its_energy_before_and_after_an_exchange(database: Database, town: Town) -> None:
    blocks = town_blocks(town, range(FIRST, FIRST + 2))["r001"]
    new = {meter.id: meter.id + 10**9 for meter in town.microgrids["r001"].meters}
    exchange(database, new, FIRST + 1)
    come = blocks.take(np.flatnonzero(blocks.quarter > FIRST))
    keys = [(new[meter], kind, quarter) for meter, kind, quarter in come.keys()]  # noqa: SIM118 - no mapping
    store(database, {"r001": concatenate([blocks, make_blocks(keys, come.values, come.quality)])})
    boundary = [m for m in town.microgrids["r001"].meters if m.function is Function.BOUNDARY]
    signs = {m.id: 1 if m.direction is Direction.INCOMING else -1 for m in boundary}
    sums = blocks.values.sum(axis=1) * np.array([signs.get(meter, 0) for meter in blocks.meter.tolist()])
    energies = [int(sums[blocks.quarter == quarter].sum()) for quarter in (FIRST, FIRST + 1)]
    with database.reads.begin() as connection:
        meters = meters_of(connection, "r001")
        found = day_of_microgrid(connection, meters, FIRST, FIRST + 2)
    assert (found.net.tolist(), found.has_net.tolist()) == (energies, [True, True]), "not of the old meters' strays"
    assert {each["id"] for each in meters if is_there(each, FIRST + 1)} == set(new.values())


@databases.on_both_kinds
def test_energy_of_a_quarter_is_what_the_boundaries_show(database: Database, town: Town) -> None:
    blocks = town_blocks(town, range(FIRST, FIRST + 2))
    store(database, blocks)
    with database.reads.begin() as connection:
        assert newest_quarter(connection) == FIRST + 1
        found = town_energy(connection, FIRST)
    signs = {m.id: 1 if m.direction is Direction.INCOMING else -1 for m in town.meters}
    signs |= {m.id: 0 for m in town.meters if m.function is not Function.BOUNDARY}
    whole = concatenate(list(blocks.values()))
    some = whole.take(np.flatnonzero(whole.quarter == FIRST))
    net = int((some.values.sum(axis=1) * np.array([signs[m] for m in some.meter.tolist()])).sum())
    assert (found.net, found.used, found.blocks) == (net, net, len(town.meters))


@pytest.mark.parametrize("without", [1, 2])
def test_microgrids_without_boundary_meters_add_up_their_places(database: Database, town: Town, without: int) -> None:
    blocks = town_blocks(town, range(FIRST, FIRST + 1))
    boundary = {m.id for m in town.meters if m.function is Function.BOUNDARY}
    whole = concatenate(list(blocks.values()))
    signs = {m.id: 1 if m.direction is Direction.INCOMING else -1 for m in town.meters if m.id not in boundary}
    net = int((whole.values.sum(axis=1) * np.array([signs.get(m, 0) for m in whole.meter.tolist()])).sum())
    for name, some in list(blocks.items())[:without]:
        blocks[name] = some.take([n for n, m in enumerate(some.meter.tolist()) if m not in boundary])
    store(database, blocks)
    with database.reads.begin() as connection:
        found = town_energy(connection, FIRST)
    assert found.net == net != 0, "as the places have it, at the boundary or in sum"
    assert found.blocks == len(town.meters) - 2 * without


def readings_of(meter: int, values: np.ndarray, first: int, kind: int = RecordType.THROUGH) -> dict[str, object]:
    keys = [(meter, int(kind), first + n) for n in range(len(values))]
    return {"r001": make_blocks(keys, values, np.full(values.shape, 2))}


@databases.on_both_kinds
def test_a_long_series_has_the_extremes_of_each_quarter_and_a_short_one_each_slot(database: Database) -> None:
    length = WHOLE_QUARTERS + 20
    values = np.random.default_rng(1).integers(0, 9_000, (length, SLOTS))
    values[5, 7] = 90_000
    keys = [(METER, 3, FIRST + n) for n in range(length) if n not in (40, 41)]
    quality = np.full((length, SLOTS), 2)
    quality[9, 3], quality[length - 2, 3] = 0, 0
    kept = [n for n in range(length) if n not in (40, 41)]
    blocks = make_blocks(keys, np.where(quality, values, 0)[kept], quality[kept])
    early = blocks.take(list(range(len(kept) - 3)))
    store(database, {"r001": early}, (FIRST + length) * QUARTER_S)
    # The last quarters are not compacted yet.
    Writer(database).commit([sent("r001", blocks.take([len(kept) - 3 + n for n in range(3)]))])
    with database.reads.begin() as connection:
        number = meter_number(connection, METER)
    assert number is not None
    found = slot_series(database, number, 3, FIRST, FIRST + length)
    assert len(found) == length
    assert found.high[5] == 90_000
    assert np.flatnonzero(found.quality == 0).tolist() == [40, 41]
    assert np.flatnonzero(found.lacking).tolist() == [9, length - 2]
    whole = [n for n in kept if n not in (9, length - 2)]
    assert (found.low[whole] == values[whole].min(axis=1)).all()
    short = slot_series(database, number, 3, FIRST + 39, FIRST + 44)
    assert (short.step_s, len(short)) == (15, 5 * SLOTS)
    assert (short.quality.reshape(-1, SLOTS).min(axis=1) > 0).tolist() == [True, False, False, True, True]


def test_settled_quarters_of_years_are_those_of_bills(database: Database, town: Town) -> None:
    store(database, town_blocks(town))
    settle(database)
    first, until = FIRST - 5 * 366 * 96, FIRST + 96
    found = settled_series(database, METER, first, until)
    with database.reads.begin() as connection:
        billed = load_settled(connection, [METER], FIRST, until)
    for quantity, series in found.quantities.items():
        assert (series.high[-96:] == billed.energies[quantity][0]).all()
        assert not series.quality[:-96].any(), "before the first settled day there is a gap"
    assert set(found.quantities) <= set(Quantity)
    assert found.quantities


def test_a_meter_is_found_by_a_few_characters(database: Database, town: Town) -> None:
    def names(text: str) -> list[str]:
        with database.reads.begin() as connection:
            return [found.name for found in find(connection, text, SOON)]

    first = next(iter(town.microgrids["r002"].meters))
    assert names(str(first.id))[0] == str(first.id)
    assert names("r002")[0] == "r002"
    ids = {str(meter.id) for meter in town.microgrids["r002"].meters}
    assert names("2")[0] == "r002", "the number of its controller"
    assert ids <= set(names("2")), "and all of its meters are listed"
    account = next(meter for meter in town.meters if meter.account)
    assert str(account.id) in names(f"account {account.account}")
    assert str(first.id) in names(f"R002 {first.location.upper()}")
    last = max((meter for meter in town.meters if meter.location.startswith("house ")), key=lambda each: each.id)
    exact = {str(meter.id) for meter in town.meters if meter.location == last.location}
    assert set(names(last.location.title())[: len(exact)]) == exact, (
        "a place's whole name comes before what has parts of it"
    )
    assert names("%") == names("_") == names("  ") == names("no such place") == []


def test_the_battery_nearest_to_its_minimum_comes_first_and_one_of_unknown_level_last() -> None:
    def battery(meter: int, level: int | None, minimum_percent: int | None = 20) -> BatteryFacts:
        return BatteryFacts(meter=meter, place="", capacity=1_000, minimum_percent=minimum_percent, level=level)

    found = battery_lines(
        [battery(1, 900), battery(2, None), battery(3, 210), battery(4, 500, None), battery(5, 90)], None
    )
    assert [line.facts.meter for line in found] == [5, 3, 1, 2, 4]


def test_the_town_says_where_neighbours_help_and_where_none_can() -> None:
    said = {"r001": ["helps", "helps?", "low", "no-need"], "r002": ["alone", "at-minimum"], "r003": ["no-need"]}
    facts = [
        Facts(microgrid=name, number=1, kind="residential", heartbeat=a_heartbeat(sharing=dict(enumerate(codes))))
        for name, codes in said.items()
    ]
    assert helping(facts) == [("r001", 2, 1), ("r002", 0, 1)]
    assert helping([Facts(microgrid="r004", number=4, kind="residential")]) == []
