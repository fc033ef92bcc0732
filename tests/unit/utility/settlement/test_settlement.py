"""Settled days in the store: versions, late readings, deadlines, kills; on both databases."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from sqlalchemy import event, func, select
from typer.testing import CliRunner

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.exceptions import StoreError
from commonwatt.model.records import EventRecord, RecordType, State
from commonwatt.model.text import moment
from commonwatt.model.units import SLOTS
from commonwatt.town.loading import load_town
from commonwatt.town.town import Direction, Function, Town
from harness.billing.worlds import tariff
from harness.commands import shown
from harness.surroundings import databases
from harness.surroundings.messages import append
from harness.surroundings.stored import DAY, FIRST, SOON, store, town_blocks, without
from utility.assembly.metrics import UtilityMetrics
from utility.corrections.correction import Review
from utility.corrections.estimates import Method
from utility.corrections.store.corrections import ChosenCorrections, Corrections, StepBy, decide, propose
from utility.database.database import Database
from utility.energy.quarters import Corrected, Overlay, Quantity, SettledQuality, SettledQuarters, applied
from utility.energy.sharing import CONVENTIONS
from utility.jobs.plans import HERE, Period, Why
from utility.jobs.store import Turn, mark
from utility.jobs.tables import settled_day, settlement_due
from utility.outbox.changes import Append
from utility.readings.store.reads import numbers_of
from utility.readings.store.retention import Retention
from utility.readings.store.writer import Writer
from utility.registry.store.accounts import load_for_change, mark_changed, save_dated_registry
from utility.registry.store.registration import fill_registry
from utility.registry.tables import controller
from utility.settings import SettlementSettings
from utility.settlement.cli import app
from utility.settlement.day import deadline
from utility.settlement.jobs import FINISHED_S, SILENT_DAYS, SettlementJob, settled_so_far
from utility.settlement.store.readings import due_days
from utility.settlement.store.settled import load_settled, newest, residuals, versions_of
from utility.settlement.tables import settled
from utility.tariffs import store as tariffs

"""What follows does not depend on the database, and is tested on one."""

NEW_YORK = ZoneInfo("America/New_York")


class CrashError(Exception):
    """A kill."""


def run(
    database: Database,
    now: int = SOON,
    metrics: UtilityMetrics | None = None,
    settings: SettlementSettings | None = None,
) -> None:
    job = SettlementJob(
        settings or SettlementSettings(),
        database,
        (metrics or UtilityMetrics()).settlement,
        HERE,
        is_trusted=lambda: True,
    )
    period = Period(start=now, end=now + 900, name="now")
    asyncio.run(job.run(Turn(job="settlement", period=period, attempt=1, now=now)))


def loaded(database: Database, as_of: int | None = None) -> SettledQuarters:
    with database.reads.begin() as connection:
        return load_settled(connection, None, FIRST, FIRST + 96, as_of)


def rows_of(database: Database) -> list[tuple[int, ...]]:
    with database.reads.begin() as connection:
        c = settled.c
        return [tuple(row) for row in connection.execute(select(c.no, c.meter_no, c.version, c.why).order_by(c.no))]


def same(one: SettledQuarters, other: SettledQuarters) -> bool:
    arrays: list[tuple[Any, Any]] = [(one.quality, other.quality), *((one.of(q), other.of(q)) for q in Quantity)]
    return one.meters.tolist() == other.meters.tolist() and all(np.array_equal(a, b) for a, b in arrays)


def test_a_day_as_it_is_settled_so_far_is_what_its_end_settles(database: Database, town: Town) -> None:
    store(database, town_blocks(town))
    found = settled_so_far(database, SettlementSettings(), DAY, {"r001"}, FIRST + 96)
    assert rows_of(database) == [], "it is only shown"
    run(database)
    end = loaded(database)
    rows = np.flatnonzero(np.isin(end.meters, found.meters))
    assert len(rows)
    assert all(
        np.array_equal(end.of(quantity)[rows], found.energies[quantity][np.isin(found.meters, end.meters)])
        for quantity in Quantity
    )


@databases.on_both_kinds
def test_a_day_is_settled_once_its_readings_are_there(database: Database, town: Town) -> None:  # req: C4 U2
    blocks = town_blocks(town)
    store(database, blocks)
    metrics = UtilityMetrics()
    run(database, now=(DAY + 1) * 86_400, metrics=metrics)
    assert rows_of(database) == [], "its last readings may still come"
    run(database, metrics=metrics)
    found = loaded(database)
    members = sorted(meter.id for meter in town.meters if meter.function is not Function.BOUNDARY)
    assert found.meters.tolist() == members
    assert (found.quality == SettledQuality.MEASURED).all()
    assert (found.version == 1).all()
    assert not found.provisional.any()
    assert (found.of(Quantity.SHARED_IN).sum(axis=0) == found.of(Quantity.SHARED_OUT).sum(axis=0)).all()
    for name, microgrid in town.microgrids.items():
        ids = [meter.id for meter in microgrid.meters]
        ours = np.flatnonzero(np.isin(found.meters, ids))
        for quantity, direction in ((Quantity.IMPORTED, "incoming"), (Quantity.EXPORTED, "outgoing")):
            boundary = next(
                m.id for m in microgrid.meters if m.function is Function.BOUNDARY and m.direction == direction
            )
            through = blocks[name].values[blocks[name].meter == boundary].sum()
            assert found.of(quantity)[ours].sum() == through
    with database.reads.begin() as connection:
        assert all(one.excess <= 0 and one.cumulated == 0 for one in residuals(connection, DAY, DAY))
    before = rows_of(database)
    run(database, SOON + 900)
    store(database, blocks)
    run(database, SOON + 1800)
    assert rows_of(database) == before, "the same readings again make no version"


def test_days_before_the_first_settled_one_wait_for_nothing_unless_they_are_marked(
    database: Database, town: Town
) -> None:
    store(database, town_blocks(town))
    run(database)

    def provisional() -> dict[int, list[bool]]:
        with database.reads.begin() as connection:
            found = load_settled(connection, None, FIRST - 96, FIRST + 192)
        return dict(zip(found.meters.tolist(), found.provisional[:, ::96].tolist(), strict=True))

    assert set(map(tuple, provisional().values())) == {(False, False, True)}
    with database.reads.begin() as connection:
        assert not load_settled(connection, list(provisional()), FIRST - 288, FIRST - 96).provisional.any()
    with database.writes.begin() as connection:  # Of readings that a meter made when its clock began in 1970.
        days = connection.execute(select(settled_day)).mappings().all()
        connection.execute(settled_day.insert(), [{**day, "day": 164} for day in days])
    assert set(map(tuple, provisional().values())) == {(False, False, True)}, "it is no beginning"
    name, *_ = town.microgrids
    ours = {meter.id for meter in town.microgrids[name].meters}
    with database.writes.begin() as connection:
        number = connection.execute(select(controller.c.number).where(controller.c.id == name)).scalar_one()
        mark(connection, settlement_due, [(DAY - 1, number)], Why.PERSON)
    assert all(first == (meter in ours) for meter, (first, *_) in provisional().items())


@databases.on_both_kinds
def test_late_readings_make_new_versions_of_exactly_the_days_they_touch(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    (name, whole), (other, theirs) = blocks.items()
    late = next(m for m in town.microgrids[name].meters if m.direction is Direction.INCOMING)
    part = without(whole, late.id, range(FIRST + 40, FIRST + 42))
    store(database, {name: part, other: theirs})
    run(database)
    first = loaded(database)
    pin = newest_of(database)
    row = first.meters.tolist().index(late.id)
    assert (first.quality[row, 40:42] == SettledQuality.MISSING).all()
    assert first.provisional[row].all()
    assert not first.provisional[-1].any(), "the other microgrid's day is final"
    store(database, {name: whole})
    run(database, SOON + 900)
    found = loaded(database)
    assert (found.quality == SettledQuality.MEASURED).all()
    assert not found.provisional.any()
    changed = {meter for meter, version in zip(found.meters.tolist(), found.version[:, 0], strict=True) if version == 2}
    assert late.id in changed
    assert changed <= {meter.id for meter in town.microgrids[name].meters}
    with database.reads.begin() as connection:
        history = versions_of(connection, late.id, DAY, DAY)
    assert [(each["version"], each["why"]) for each in history] == [(2, "late readings"), (1, "first settlement")]
    assert same(loaded(database, as_of=pin), first), "what a run of bills pinned stays"


def newest_of(database: Database) -> int:
    with database.reads.begin() as connection:
        return newest(connection)


def test_order_and_lateness_of_readings_do_not_matter(database: Database, town: Town) -> None:
    blocks = town_blocks(town, seed=3)
    halves = [
        {n: b.take(np.flatnonzero((b.quarter % 2 == odd) ^ (b.meter % 2 == 0))) for n, b in blocks.items()}
        for odd in (1, 0)
    ]
    for half in halves:
        store(database, half)
        run(database)
    late = loaded(database)
    with database.writes.begin() as connection:
        connection.execute(settled.delete())
        of_day = select(func.count()).select_from(settlement_due).where(settlement_due.c.day == DAY)
        assert connection.execute(of_day).scalar() == 0
        mark(connection, settlement_due, [(DAY, 1), (DAY, 2)], Why.PERSON)
    run(database)
    assert same(loaded(database), late)


def test_a_day_without_all_readings_is_final_after_the_deadline(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    name = next(iter(blocks))
    store(database, {name: without(blocks[name], town.microgrids[name].meters[0].id, range(FIRST, FIRST + 1))})
    run(database)
    end = deadline(DAY, NEW_YORK)
    run(database, end - 900)
    assert loaded(database).provisional.all()
    found = loaded(database)
    silent = next(iter(m.id for n, grid in town.microgrids.items() if n != name for m in grid.meters))
    row = found.meters.tolist().index(silent)
    assert (found.quality[row] == SettledQuality.MISSING).all(), "of the other microgrid nothing came at all"
    assert (found.version[row] == 1).all()
    run(database, end)
    assert not loaded(database).provisional.any()


def test_the_deadline_is_the_end_of_a_working_day_of_the_next_local_month() -> None:
    def text(at: str, *holidays: str) -> str:
        day = int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()) // 86_400
        free = frozenset(map(date.fromisoformat, holidays))
        return datetime.fromtimestamp(deadline(day, NEW_YORK, free), NEW_YORK).strftime("%a %Y-%m-%d %H:%M")

    assert text("2026-10-12") == "Sat 2026-11-07 00:00", "2 to 6 November; the 1st is a Sunday"
    assert text("2026-12-31") == "Fri 2027-01-08 00:00", "1 January counts, as no holidays are known"
    assert text("2026-12-31", "2027-01-01") == "Sat 2027-01-09 00:00"
    assert text("2026-12-31", "2027-01-02") == "Fri 2027-01-08 00:00", "a Saturday is none anyway"
    assert text("2026-10-31") == "Sat 2026-11-07 00:00"
    # It begins on 31 October at 20:00 in New York: October's bills need it.
    assert text("2026-11-01") == "Sat 2026-11-07 00:00"
    assert text("2026-11-02") == "Tue 2026-12-08 00:00"


def test_holidays_of_a_published_tariff_are_no_working_days(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    name = next(iter(blocks))
    store(database, {name: without(blocks[name], town.microgrids[name].meters[0].id, range(FIRST, FIRST + 1))})
    end = deadline(DAY, NEW_YORK)
    holiday = datetime.fromtimestamp(end - 3_600, NEW_YORK).date()
    with database.writes.begin() as connection:
        new = tariff(holiday=[{"date": holiday.isoformat(), "name": "Founders' Day"}])
        stored = tariffs.propose(connection, new, "", "anna", SOON)
        tariffs.publish(connection, stored.name, stored.version, "ben", SOON)
    run(database)
    run(database, end)
    assert loaded(database).provisional.all()
    run(database, deadline(DAY, NEW_YORK, frozenset({holiday})))
    assert not loaded(database).provisional.any()


def test_a_day_without_any_reading_of_the_town_is_settled_as_missing(database: Database, town: Town) -> None:
    store(database, town_blocks(town))
    run(database)
    silent = DAY + 1

    def meters(now: int) -> int:
        run(database, now)
        with database.reads.begin() as connection:
            statement = select(func.count()).select_from(settled).where(settled.c.day == silent)
            return int(connection.execute(statement).scalar_one())

    back = DAY + 2
    with database.writes.begin() as connection:
        mark(connection, settlement_due, [(back, 1)], Why.LATE)  # the town reports again
    over = (back + 1) * 86_400 + FINISHED_S
    assert meters(over) == 0, "its readings may still come"
    later = over + SILENT_DAYS * 86_400
    assert meters(later) == len(loaded(database).meters)
    with database.reads.begin() as connection:
        c = settled_day.c
        found = connection.execute(select(c.missing, c.final).where(c.day == silent)).all()
    assert len(found) == len(town.microgrids)
    assert all(missing and not final for missing, final in found)
    assert meters(later + 86_400) == len(loaded(database).meters), "once"


@databases.on_both_kinds
@pytest.mark.parametrize("after", [2, 3, 4])
def test_a_job_that_is_killed_at_a_commit_leaves_nothing_half_and_nothing_twice(
    database: Database, town: Town, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = town_blocks(town)
    store(database, blocks)
    monkeypatch.setattr("utility.settlement.jobs.OWNERS_AT_A_TIME", 1)
    done = 0

    def crash(_: object) -> None:
        nonlocal done
        done += 1
        if done > after:
            raise CrashError

    event.listen(database.writes, "commit", crash)
    if after < 4:
        with pytest.raises(CrashError):
            run(database)
    else:
        run(database)
    event.remove(database.writes, "commit", crash)
    settled_now = {row[1] for row in rows_of(database)}
    assert len(settled_now) == 4 * max(0, after - 2), "each microgrid whole, or not at all"
    run(database, SOON + 900)
    rows = rows_of(database)
    assert len({row[1] for row in rows}) == len(rows) == 8
    assert {row[2] for row in rows} == {1}
    with database.reads.begin() as connection:
        assert connection.execute(select(func.count()).select_from(settlement_due)).scalar() == 0


def test_a_whole_town_is_settled_a_few_microgrids_at_a_time(
    database: Database, town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(database, town_blocks(town))
    monkeypatch.setattr("utility.settlement.jobs.OWNERS_AT_A_TIME", 1)
    monkeypatch.setattr("utility.settlement.store.readings.MAX_IN", 1)
    read: list[int] = []

    def noted(blocks: Blocks, overlay: Overlay) -> Corrected:
        read.append(len(blocks))
        return applied(blocks, overlay)

    monkeypatch.setattr("utility.settlement.jobs.applied", noted)
    run(database)
    one = max(sum(len(m.record_types) for m in each.meters) for each in town.microgrids.values())
    assert 0 < max(read) <= one, "blocks of a quarter-hour in memory"
    assert {row[2] for row in rows_of(database)} == {1}
    assert len(rows_of(database)) == 8


def test_a_mark_of_a_microgrid_without_meters_does_not_stay(database: Database, town: Town) -> None:
    store(database, town_blocks(town))
    with database.writes.begin() as connection:
        connection.execute(controller.insert(), {"id": "empty", "number": 99, "kind": "public", "address": ""})
    for _ in ("beside others", "alone"):
        with database.writes.begin() as connection:
            mark(connection, settlement_due, [(DAY, 99)], Why.LATE)
        run(database)
        assert len(rows_of(database)) == 8
        with database.reads.begin() as connection:
            assert connection.execute(select(func.count()).select_from(settlement_due)).scalar() == 0


def test_a_theft_is_found_and_counted(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    name = next(iter(blocks))
    thief = next(m.id for m in town.microgrids[name].meters if m.direction is Direction.INCOMING)
    tampered = blocks[name]
    rows = tampered.meter == thief
    tampered.values[rows] = tampered.values[rows] * 995 // 1000
    store(database, blocks)
    metrics = UtilityMetrics()
    run(database, metrics=metrics)
    with database.reads.begin() as connection:
        worst, other = residuals(connection, DAY, DAY)
    assert (worst.microgrid, worst.excess > 0, other.excess <= 0) == (name, True, True)
    assert metrics.settlement.residuals_beyond._value.get() == 1


def test_a_damaged_row_is_named_until_its_day_is_settled_again(database: Database, town: Town) -> None:
    store(database, town_blocks(town))
    run(database)
    sound = loaded(database)
    with database.writes.begin() as connection:
        payload = connection.execute(select(settled.c.payload).where(settled.c.no == 1)).scalar_one()
        connection.execute(settled.update().where(settled.c.no == 1).values(payload=payload[:-1] + b"?"))
    with pytest.raises(StoreError, match=rf"settled day {DAY} of meter \d+: its checksum"):
        loaded(database)
    with database.writes.begin() as connection:
        mark(connection, settlement_due, [(DAY, 1)], Why.LATE)
    run(database, SOON + 900)
    healed = loaded(database)
    assert same(healed, sound)
    assert sorted(healed.version[:, 0].tolist()) == [1] * (len(healed.meters) - 1) + [2]


def test_by_sharing_first_a_battery_that_is_helped_pays_nothing_for_it(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "three.toml"
    more = '{id = "r", kind = "residential", count = 2, houses = 2}, {id = "three", kind = "residential", houses = 3}'
    path.write_text(f"microgrid = [{more}]\n")
    town = load_town(path)
    with database.writes.begin() as connection:
        fill_registry(connection, town)
    meters = [meter for meter in town.microgrids["three"].meters if meter.function is not Function.BOUNDARY]
    giver, helped, load = (
        next(m for m in meters if (m.location, m.direction) == (f"house {n}", d))
        for n, d in ((1, Direction.OUTGOING), (2, Direction.INCOMING), (3, Direction.INCOMING))
    )
    # In each slot house 1 gives 60 to the battery of house 2, and house 3, whose battery is empty, takes 140.
    values = {giver.id: 60, helped.id: 60, load.id: 140}
    rows = []
    for quarter in range(FIRST - 1, FIRST + 4):
        for meter in meters:
            rows.append(((meter.id, int(RecordType.THROUGH), quarter), [values.get(meter.id, 0)] * SLOTS))
            if meter.battery is not None:
                rows.append(((meter.id, int(RecordType.GENERATION), quarter), [0] * SLOTS))
                rows.append(
                    (
                        (meter.id, int(RecordType.STORED), quarter),
                        [0 if meter.location == load.location else 10**6] * SLOTS,
                    )
                )
    blocks = make_blocks([key for key, _ in rows], [each for _, each in rows], np.full((len(rows), SLOTS), 2))
    began = EventRecord(
        previous_state=State.INITIALIZED,
        new_state=State.INITIALIZED | State.SHARING,
        record_id=1,
        meter_id=giver.id,
        time=FIRST * 900,
    )
    sending = append(blocks, sender="three", events=[(1, began)], received=SOON)
    Writer(database).commit([Append(**{**vars(sending), "owner": "three", "payloads": pack(blocks)})])
    store(database, {})
    imported = {}
    for convention in CONVENTIONS:
        with database.writes.begin() as connection:
            connection.execute(settled_day.delete())
            mark(connection, settlement_due, [(DAY, 3)], Why.PERSON)
        run(database, settings=SettlementSettings(convention=convention))
        found = loaded(database)
        sums = dict(zip(found.meters.tolist(), found.of(Quantity.IMPORTED)[:, :4].sum(axis=1).tolist(), strict=True))
        imported[convention] = sums[helped.id], sums[load.id]
    slots = 4 * SLOTS
    assert imported == {"pro_rata": (42 * slots, 98 * slots), "sharing_first": (0, 140 * slots)}
    # What is kept begins with the day: without the levels before it the day stays as it is.
    before = rows_of(database)
    Retention(database, keep_months=1).apply(FIRST)
    with database.writes.begin() as connection:
        mark(connection, settlement_due, [(DAY, 3)], Why.LATE)
    run(database)
    assert rows_of(database) == before
    with database.reads.begin() as connection:
        assert due_days(connection, DAY + 1) == {}


def test_a_clerk_settles_and_looks(database: Database, town: Town, url: str, tmp_path: Path) -> None:
    store(database, town_blocks(town))
    config = tmp_path / "utility.toml"
    config.write_text(f'[utility]\ndatabase = "{url}"\n')
    meter = town.meters[0]

    def clerk(*words: str, code: int = 0) -> str:
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "--config", str(config)])
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    assert clerk() == "8 new versions of meters' days"
    day = moment(DAY * 86_400)[:10]
    assert clerk("--from", day, "--to", day) == "0 new versions of meters' days"
    state = shown(config, "settlement")
    assert (state["last"], state["days"], state["provisional"], state["versions"]) == (day, 2, 0, 8)
    assert state["residuals"] == [], "none in the last 31 days of this clock"
    (version,) = shown(config, "settlement", "versions", f"meter={meter.id}")["versions"]
    assert (version["day"], version["version"], version["why"]) == (day, 1, "first settlement")
    assert "no day; such as" in clerk("--from", "2026-13-01", code=2)


def test_an_approved_estimate_is_settled_and_its_withdrawal_too(database: Database, town: Town) -> None:
    blocks = town_blocks(town)
    (name, whole), (other, theirs) = blocks.items()
    late = next(m for m in town.microgrids[name].meters if m.direction is Direction.INCOMING)
    store(database, {name: without(whole, late.id, range(FIRST + 40, FIRST + 42)), other: theirs})
    run(database)
    row = loaded(database).meters.tolist().index(late.id)
    values = np.full((2, SLOTS), 7, np.int64)
    estimates = make_blocks(
        [(late.id, int(RecordType.THROUGH), FIRST + at) for at in (40, 41)], values, np.full_like(values, 2, np.uint8)
    )
    with database.writes.begin() as connection:
        number = numbers_of(connection, [late.id])[late.id]
        owner = connection.execute(select(controller.c.number).where(controller.c.id == name)).scalar_one()
        new = Corrections(
            blocks=estimates,
            number=np.full(2, number),
            owner=np.full(2, owner),
            method=np.full(2, int(Method.BALANCE), np.uint8),
        )
        propose(connection, new, SOON)
    run(database, SOON + 900)
    assert (loaded(database).quality[row, 40:42] == SettledQuality.MISSING).all(), "a proposal changes nothing"
    with database.writes.begin() as connection:
        decide(connection, ChosenCorrections(meters=[number]), Review.APPROVE, StepBy(person="anna", time=SOON))
    run(database, SOON + 1800)
    found = loaded(database)
    assert (found.quality[row, 40:42] == SettledQuality.ESTIMATED).all()
    taken = found.of(Quantity.IMPORTED)[row] + found.of(Quantity.SHARED_IN)[row]
    assert taken[40:42].tolist() == [7 * SLOTS, 7 * SLOTS]
    assert {why for *_, why in rows_of(database)} == {Why.FIRST, Why.CORRECTION}
    with database.writes.begin() as connection:
        decide(connection, ChosenCorrections(meters=[number]), Review.REVERT, StepBy(person="ben", time=SOON))
    run(database, SOON + 2700)
    assert (loaded(database).quality[row, 40:42] == SettledQuality.MISSING).all()


def test_a_meter_that_came_later_than_was_known_is_settled_again(database: Database, town: Town) -> None:
    store(database, town_blocks(town))
    run(database)
    before = loaded(database)
    microgrid = next(iter(town.microgrids.values()))
    moved = next(m for m in microgrid.meters if m.direction is Direction.INCOMING and m.function is Function.HOUSE)
    with database.writes.begin() as connection:
        known = load_for_change(connection)
        meters = dict(known.meters) | {moved.id: replace(known.meters[moved.id], start=FIRST + 48, holdings=())}
        save_dated_registry(connection, known, replace(known, meters=meters), "anna", SOON, NEW_YORK)
    run(database, SOON + 900)
    after = loaded(database)
    row = after.meters.tolist().index(moved.id)
    assert not after.of(Quantity.IMPORTED)[row, :48].any()
    assert not after.of(Quantity.SHARED_IN)[row, :48].any()
    others = ~np.isin(after.meters, [m.id for m in microgrid.meters])
    assert (after.version[others] == before.version[others]).all()
    assert {why for *_, why in rows_of(database)} == {Why.FIRST, Why.REGISTRY}


def test_a_meter_that_was_not_there_on_a_settled_day_has_nothing_of_it(database: Database, town: Town) -> None:
    store(database, town_blocks(town))
    run(database)
    microgrid = next(iter(town.microgrids.values()))
    gone = next(m for m in microgrid.meters if m.direction is Direction.INCOMING and m.function is Function.HOUSE)
    with database.writes.begin() as connection:
        known = load_for_change(connection)
        meters = dict(known.meters) | {gone.id: replace(known.meters[gone.id], end=FIRST, holdings=())}
        save_dated_registry(connection, known, replace(known, meters=meters), "anna", SOON, NEW_YORK)
    run(database, SOON + 900)
    after = loaded(database)
    row = after.meters.tolist().index(gone.id)
    assert not any(after.of(quantity)[row].any() for quantity in Quantity)
    with database.writes.begin() as connection:
        owner = connection.execute(select(controller.c.number).where(controller.c.id == microgrid.id)).scalar_one()
        mark(connection, settlement_due, [(DAY, owner)], Why.LATE)
    run(database, SOON + 1800)
    assert (loaded(database).version == after.version).all(), "nothing changed, so there is no further version"


@pytest.mark.parametrize(
    ("was", "now", "first_day"),
    [
        ({}, {"start": FIRST + 96}, DAY),
        ({"start": FIRST + 96}, {}, DAY),
        ({"start": FIRST + 96}, {"start": FIRST + 96, "end": FIRST + 192, "place": "barn"}, DAY + 1),
        ({"end": FIRST + 192}, {"end": FIRST + 96}, DAY + 1),
        ({}, {"end": FIRST + 192, "last_register": 5}, DAY + 2),
    ],
)
def test_changed_dates_of_a_meter_mark_all_days_that_they_touch(
    database: Database, town: Town, was: dict[str, Any], now: dict[str, Any], first_day: int
) -> None:
    meter = town.meters[0].id
    row = {"convention": "pro_rata", "computed": SOON, "missing": 0, "final": True, "residual": "{}"}
    with database.writes.begin() as connection:
        known = load_for_change(connection)
        numbers = dict(connection.execute(select(controller.c.id, controller.c.number)).all())
        row |= {"owner_no": numbers[known.meters[meter].microgrid]}
        connection.execute(settled_day.insert(), [row | {"day": DAY + number} for number in range(3)])
        before = replace(known.meters[meter], **was)
        one, other = (replace(known, meters={meter: m}) for m in (before, replace(known.meters[meter], **now)))
        mark_changed(connection, one, other)
        marked = connection.execute(select(settlement_due.c.day).order_by(settlement_due.c.day)).scalars().all()
    assert marked == list(range(first_day, DAY + 3))
