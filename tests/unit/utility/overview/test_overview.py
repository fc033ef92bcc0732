"""What the town's pages show of what is stored: power, islands, completeness of days, and what is dropped."""

import asyncio
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from commonwatt.model.blocks import concatenate, make_blocks
from commonwatt.model.records import EventRecord, RecordType, State
from commonwatt.model.units import QUARTER_S, SLOTS, quarter_of
from commonwatt.protocol.heartbeats import LineMonth
from commonwatt.town.town import Direction, Function, Town
from harness.surroundings import databases
from harness.surroundings.messages import a_heartbeat, append, blocks, compact, exchange
from harness.surroundings.stored import DAY, FIRST, SOON, remove_meter, sent, store, town_blocks, without
from tests.unit.utility.settlement.test_settlement import run as settle
from utility.billing.tables import bill, bill_run
from utility.cliques.grants import GRANTED, Handover
from utility.cliques.store import save
from utility.corrections.tables import correction, correction_step, finding
from utility.database.database import Database, save_setting
from utility.energy.quarters import Quantity
from utility.jobs.plans import HERE, Period
from utility.jobs.store import Turn
from utility.jobs.tables import settled_day
from utility.outbox.changes import SawGateway
from utility.overview.jobs import count_days
from utility.overview.microgrids import (
    BatteryFacts,
    MicrogridCondition,
    MicrogridFacts,
    StateChange,
    StateSpan,
    battery_lines,
    cell,
    count,
    helping,
    spans,
)
from utility.overview.store.days import CountedDays, counted_days
from utility.overview.store.devices import find
from utility.overview.store.meters import WHOLE_QUARTERS, settled_series, slot_series
from utility.overview.store.microgrid import is_there, meters_of
from utility.overview.store.old_records import KeptRecords, drop_days, drop_months, kept, oldest_day
from utility.overview.store.town import microgrids
from utility.overview.town import QuarterEnergy, town_power
from utility.readings.store.completeness import Completeness, by_microgrid, completeness
from utility.readings.store.flows import flows
from utility.readings.store.reads import meter_number
from utility.readings.store.retention import KEPT_FROM, newest_quarter
from utility.readings.store.writer import Writer
from utility.registry.store.accounts import load_for_change, save_dated_registry
from utility.settlement.store.settled import load_settled
from utility.settlement.tables import settled, sharing, sharing_quarter
from utility.statistics.tables import usage_batteries

METER = 10001


def seen(at: int = SOON, name: str = "r001", **said: object) -> SawGateway:
    return SawGateway(controller=name, time=at, heartbeat=a_heartbeat(**({"trust": 3} | said)))


def a_power(end: int) -> dict[str, int]:
    return {"end": end, "sun_w": 5_000, "use_w": 3_000, "import_w": 0, "export_w": 400}


def facts_of(
    database: Database, refused: dict[str, tuple[int, str]] | None = None, now: int = SOON
) -> dict[str, MicrogridFacts]:
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
    assert cell(facts["r002"], SOON + 200).condition is MicrogridCondition.ALARM
    back = EventRecord(previous_state=off, new_state=1, record_id=2, meter_id=boundary[0], time=SOON - 10)
    over = LineMonth(used=(3, 1), allowance=2)
    Writer(database).commit([append(events=[(1, back)]), seen(lte=over, backlog_age_s=3600)])
    facts = facts_of(database, {"r001": (2 * SOON, "meter 5 is not registered"), "r002": (0, "old")})
    found = cell(facts["r001"], SOON)
    assert found.condition is MicrogridCondition.ALARM
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
        found = flows(connection, range(FIRST, FIRST + 2), "r001").net
    assert (found.energy.tolist(), found.is_whole.tolist()) == (energies, [True, True]), "not of the old meters' strays"
    assert {each["id"] for each in meters if is_there(each, FIRST + 1)} == set(new.values())


@databases.on_both_kinds
def test_energy_of_a_quarter_is_what_the_boundaries_show(database: Database, town: Town) -> None:
    blocks = town_blocks(town, range(FIRST, FIRST + 2))
    store(database, blocks)
    with database.reads.begin() as connection:
        assert newest_quarter(connection) == FIRST + 1
        found = QuarterEnergy.of(flows(connection, range(FIRST, FIRST + 1)), 0)
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
        found = QuarterEnergy.of(flows(connection, range(FIRST, FIRST + 1)), 0)
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
        MicrogridFacts(
            microgrid=name, number=1, kind="residential", heartbeat=a_heartbeat(sharing=dict(enumerate(codes)))
        )
        for name, codes in said.items()
    ]
    assert helping(facts) == [("r001", 2, 1), ("r002", 0, 1)]
    assert helping([MicrogridFacts(microgrid="r004", number=4, kind="residential")]) == []


SHARES = int(State.SHARING)


def change(meter: int, time: int, bits: int) -> StateChange:
    return StateChange(meter=meter, time=time, bits=bits)


def test_a_span_lasts_while_any_meter_has_the_state() -> None:
    events = [change(1, 10, SHARES), change(2, 20, SHARES), change(1, 30, 0), change(2, 40, 0), change(1, 90, SHARES)]
    assert spans(events, SHARES, 0, 100) == [StateSpan(begin=10, end=40, most=2), StateSpan(begin=90, end=100, most=1)]


def test_what_began_before_begins_with_the_timeline() -> None:
    events = [change(1, -500, SHARES), change(1, 5, 0)]
    assert spans(events, SHARES, 0, 100) == [StateSpan(begin=0, end=5, most=1)]
    assert spans([change(1, 100, SHARES)], SHARES, 0, 100) == [], "after its end"


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-20, 120), st.sampled_from([0, SHARES]))))
def test_at_each_second_the_spans_say_what_the_events_say(events: list[tuple[int, int, int]]) -> None:
    found = spans([change(*each) for each in events], SHARES, 0, 100)
    for second in range(100):
        until_now = sorted((each for each in events if each[1] <= second), key=lambda each: each[1])
        state = {meter: bits for meter, _, bits in until_now}
        assert any(each.begin <= second < each.end for each in found) == any(state.values())


SERIES_A_DAY = 96 * 60


def run(database: Database, now: int = SOON) -> CountedDays:
    turn = Turn(job="completeness", period=Period(start=now, end=now, name="now"), attempt=1, now=now)
    asyncio.run(count_days(database, HERE, lambda: True, turn))
    with database.reads.begin() as connection:
        return counted_days(connection, DAY - 5, DAY + 5)


def directly(database: Database, first: int = FIRST, end: int = FIRST + 96) -> dict[str, Completeness]:
    return by_microgrid(completeness(database, first, end))


def enter_removal(database: Database, meter: int, end: int) -> None:
    with database.writes.begin() as connection:
        before = load_for_change(connection)
        after = replace(before, meters={**before.meters, meter: replace(before.meters[meter], end=end)})
        assert save_dated_registry(connection, before, after, "ben", SOON, ZoneInfo("UTC")) == 1


@databases.on_both_kinds
def test_days_counted_by_the_job_are_what_a_count_of_each_slot_finds(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    lacking = without(blocks["r001"], 10001, range(FIRST + 3, FIRST + 9))
    store(database, blocks | {"r001": lacking})
    found = run(database)
    assert found.by_microgrid == directly(database)
    assert found.by_microgrid["r001"].missing == 6 * 60
    assert found.by_microgrid["r002"].missing == 0, "a whole microgrid was counted from its sums"
    assert found.by_day[DAY].expected == len(town.meters) * SERIES_A_DAY
    assert (found.pending, found.computed) == (0, SOON)


def test_removed_meter_is_not_missing(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    lacking = without(blocks["r001"], 10001, range(FIRST + 40, FIRST + 96))
    remove_meter(database, 10001, FIRST + 40)
    store(database, blocks | {"r001": lacking})
    found = run(database)
    assert found.total.missing == 0
    assert found.by_day[DAY].expected == len(town.meters) * SERIES_A_DAY - 56 * 60


def test_a_removal_that_is_entered_late_counts_its_days_again(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    store(database, blocks | {"r001": without(blocks["r001"], 10001, range(FIRST + 40, FIRST + 96))})
    lacking = run(database)
    assert lacking.total.missing == 56 * 60
    enter_removal(database, 10001, FIRST + 40)
    found = run(database, SOON + 3600)
    assert found.by_day[DAY].missing == 0
    assert found.by_microgrid == directly(database)
    enter_removal(database, 10001, FIRST + 96)
    assert run(database, SOON + 7200).by_microgrid == lacking.by_microgrid, "it was removed later than that"


def test_readings_of_a_removed_meter_hide_no_missing_ones(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    first, second = sorted({int(each) for each in blocks["r001"].meter})[:2]
    lacking = without(blocks["r001"], first, range(FIRST + 40, FIRST + 96))
    remove_meter(database, second, FIRST + 40)
    store(database, blocks | {"r001": lacking})
    found = run(database)
    assert found.by_microgrid == directly(database)
    assert found.total.missing == 56 * 60 * len(set(lacking.record_type[lacking.meter == first].tolist()))


def test_late_readings_and_silent_days_are_counted_again(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    lost = np.isin(blocks["r001"].meter, [10001]) & (blocks["r001"].quarter == FIRST + 4)
    store(database, blocks | {"r001": without(blocks["r001"], 10001, range(FIRST + 4, FIRST + 5))})
    assert run(database).total.missing == 60
    store(database, {"r001": blocks["r001"].take(np.flatnonzero(lost))}, SOON + 900)
    assert run(database, SOON + 3600).total.missing == 0, "the late reading marked its day"
    found = run(database, SOON + 86_400)
    assert found.by_day[DAY + 1].missing == len(town.meters) * SERIES_A_DAY, "a day without any reading counts"
    assert found.by_day[DAY].missing == 0


def test_nothing_waits_to_be_counted_of_days_whose_readings_are_no_longer_kept(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    store(database, blocks)
    before = run(database)
    with database.writes.begin() as connection:
        save_setting(connection, KEPT_FROM, str(FIRST + 96))
    store(database, blocks, SOON + 900)
    after = run(database, SOON + 3600)
    assert (after.pending, after.by_day[DAY]) == (0, before.by_day[DAY])


NEW_YORK = ZoneInfo("America/New_York")
TABLES = (settled, settled_day, sharing_quarter, sharing, correction, correction_step, finding)


def at(*when: int) -> int:
    return int(datetime(*when, tzinfo=NEW_YORK).timestamp())  # type: ignore[arg-type,misc]


NOW = at(2034, 3, 10)


def day_of(*when: int) -> int:
    return at(*when) // 86_400


def add_run(database: Database, month: str, state: str, previous: int = 0) -> int:
    row = {"month": month, "state": state, "policy": "", "code": "", "settled_no": 1, "previous_no": previous}
    row |= {"inputs_digest": state, "digest": "", "figures": "{}", "inputs": b"", "made_by": "", "made": 0}
    with database.writes.begin() as connection:
        number = connection.execute(bill_run.insert().values(row).returning(bill_run.c.no)).scalar_one()
        connection.execute(bill.insert().values(run_no=number, account=1, cents=1, content="{}"))
    return int(number)


def add_day(database: Database, day: int) -> None:
    """Have a row of each table for a day."""
    quarter = day * 96 + 95
    version = {"quarter": quarter, "owner_no": 1, "version": 1}
    with database.writes.begin() as connection:
        row = {"day": day, "meter_no": 1, "computed_minute": 0, "version": 1, "why": 1, "payload": b""}
        connection.execute(settled.insert().values(row))
        row = {"day": day, "owner_no": 1, "convention": "", "computed": 0, "missing": 0, "final": True, "residual": ""}
        connection.execute(settled_day.insert().values(row))
        connection.execute(sharing_quarter.insert().values(version | {"computed": 0, "complete": True, "shared": 1}))
        connection.execute(sharing.insert().values(version | {"meter_no": 1, "given": 1, "received": 0}))
        row = {"quarter": quarter, "meter_no": 1, "record_type": 1, "version": 1, "owner_no": 1, "method": 1}
        row |= {"mask": 1, "energy": 1, "state": "approved", "payload": b""}
        number = connection.execute(correction.insert().values(row).returning(correction.c.no)).scalar_one()
        step = {"correction_no": number, "time": 0, "person": "", "state_before": "", "state_after": "", "why": ""}
        connection.execute(correction_step.insert().values(step))
        found = {"meter_no": 1, "record_type": 1, "check_name": "gap", "figure": 1, "threshold": 1, "found": 0}
        connection.execute(finding.insert().values(found | {"first_quarter": quarter, "until_quarter": quarter + 1}))


def drop(database: Database) -> KeptRecords:
    with database.reads.begin() as connection:
        keep = kept(connection, NOW, 7)
    drop_months(database, keep)
    while drop_days(database, keep):
        pass
    return keep


def counts(database: Database) -> set[int]:
    """Return how many rows the tables have."""
    with database.reads.begin() as connection:
        return {connection.execute(select(func.count()).select_from(table)).scalar_one() for table in TABLES}


@databases.on_both_kinds
def test_without_bills_what_is_older_than_seven_years_goes(database: Database) -> None:
    keep = drop(database)
    assert (keep.month, keep.day) == ("2027-03", day_of(2027, 3, 1))
    for day in (keep.day - 4_000, keep.day - 20, keep.day - 1, keep.day, keep.day + 1):
        add_day(database, day)
    drop(database)
    assert counts(database) == {2}
    with database.reads.begin() as connection:
        assert oldest_day(connection) == keep.day
    drop(database)
    assert counts(database) == {2}


def test_a_clock_that_is_years_ahead_drops_no_bills_and_settled_days(database: Database) -> None:
    Writer(database).commit([append(blocks({0: 5}, quarter=at(2027, 3, 9) // 900))])
    compact(database, NOW)
    add_run(database, "2027-02", "issued")
    add_day(database, day_of(2021, 3, 1))
    assert drop(database).month == "2020-03"
    assert counts(database) == {1}
    with database.reads.begin() as connection:
        assert connection.execute(select(bill_run.c.month)).scalars().all() == ["2027-02"]


def test_days_that_an_issued_bill_corrects_are_kept_with_it(database: Database) -> None:
    add_run(database, "2027-03", "issued")
    first = day_of(2026, 3, 1)
    for day in (first - 1, first, day_of(2027, 3, 1)):
        add_day(database, day)
    assert drop(database).day == first
    assert counts(database) == {2}


def test_usage_of_months_goes_after_seven_years(database: Database) -> None:
    with database.writes.begin() as connection:
        for month in (2027 * 12 + 1, 2027 * 12 + 2):
            connection.execute(usage_batteries.insert().values(month=month, owner_no=1, payload=b""))
    drop(database)
    with database.reads.begin() as connection:
        assert connection.execute(select(usage_batteries.c.month)).scalars().all() == [2027 * 12 + 2]


@pytest.mark.parametrize("state", ["issued", "draft"])
def test_runs_of_months_older_than_seven_years_go_but_for_the_one_that_a_kept_run_names(
    database: Database, state: str
) -> None:
    old = add_run(database, "2027-01", state)
    previous = add_run(database, "2027-02", "issued", old)
    newer = add_run(database, "2027-03", "issued", previous)
    drop(database)
    with database.reads.begin() as connection:
        assert set(connection.execute(select(bill_run.c.no)).scalars()) == {previous, newer}
        assert set(connection.execute(select(bill.c.run_no)).scalars()) == {previous, newer}
