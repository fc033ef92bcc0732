"""The utility buys for the town's plant: once a quarter-hour, by what it knows, whatever is killed; and it rations."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy import Connection, select

from commonwatt.model.control import SupplyState
from commonwatt.model.effects import Write
from commonwatt.model.records import RecordType
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.protocol.plant_messages import PlantCommand, PlantOutcome, PlantQuarter, PlantReport
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Direction, Function, Town
from harness.console import local_headers, standing_api
from harness.surroundings import databases
from harness.surroundings.fleet import CAPACITY, PlantHost
from harness.surroundings.messages import ingest_of
from meter_sim.plant_core import PlantState
from utility.assembly.application import make_app
from utility.assembly.jobs import ServiceJobs
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database, read_setting, save_setting
from utility.database.town_zone import TOWN
from utility.outbox.changes import OpenCommand
from utility.outbox.store import add_command, open_commands, write_plant
from utility.outbox.tables import command, purchase
from utility.readings.core import from_plant
from utility.readings.store import reads
from utility.readings.store.retention import register_replacement
from utility.readings.tables import compacted
from utility.registry.accounts import exchanged
from utility.registry.store.accounts import load_dated_registry, save_dated_registry
from utility.registry.tables import meter
from utility.settings import SupplySettings, UtilitySettings
from utility.supply.deciding import HISTORY_QUARTERS, PlantFacts, unknown
from utility.supply.metrics import plant_metrics
from utility.supply.planner import Planner
from utility.supply.rationing import RATION_S, STEPS, Ration, ToldRation, changes
from utility.supply.store import announced_storm, members, quarters_between, rations, tell_rations
from utility.webkit import cli as options

QUARTER = 1_988_892
START = QUARTER * QUARTER_S  # 11:00 in New York, on a day in September


_BOUNDARY = select(meter.c.no).where(
    meter.c.microgrid == "r001", meter.c.function == "boundary", meter.c.direction == "incoming"
)


class Killed(BaseException):
    """The utility's process was killed at a commit."""


class Writes:
    """A database's writes, of which the Nth transaction kills the process before or after its commit."""

    def __init__(self, database: Database) -> None:
        self._writes = database.writes
        self.dialect = database.writes.dialect
        self.done = 0
        self.kill: tuple[int, str] | None = None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        self.done += 1
        kills = self.kill is not None and self.kill[0] == self.done
        with self._writes.begin() as connection:
            yield connection
            if kills and self.kill is not None and self.kill[1] == "before":
                raise Killed
        if kills:
            raise Killed


class World:
    """The utility's ingest and jobs, a plant, and messages between them that arrive at once."""

    def __init__(self, database: Database, buying: str = "spec", rationing: str = "rangers") -> None:
        supply = SupplySettings.model_validate({"buying": buying, "rationing": rationing})
        self.settings = UtilitySettings(supply=supply)
        self.database = database
        self.clock = Clock(origin=START - 900, monotonic_origin=0, speed=0)
        self.plant = PlantHost(dear_from=START + 16 * QUARTER_S, level=CAPACITY * 99 // 100)
        self.loses_outcomes = False
        self.trust = Trust.NETWORK
        self.sent: list[tuple[str, bytes]] = []

    async def start(self) -> None:
        self.metrics = UtilityMetrics()
        self.ingest = ingest_of(
            self.database,
            self.clock,
            lambda message: self.sent.append((message.topic, message.payload)),
            metrics=self.metrics,
            trust=self.trust,
        )
        self.metrics.watch(lambda: plant_metrics(self.ingest.plant, self.clock.now()))
        self.jobs = ServiceJobs(self.settings, self.database, self.clock, self.ingest, self.metrics)

    def stop(self) -> None:
        self.jobs.close()
        self.ingest.close()

    async def step(self, *, plant: bool = True) -> None:
        """Run 15 s."""
        at = int(self.clock.now())
        if plant:
            self.plant.slot(at)
        self.clock.follow(at + SLOT_S)
        await self.deliver()
        await self.jobs.tick_supply()
        await self.ingest.poll()
        for topic, payload in self.sent:
            if plant and topic == "cw1/plant/d/cmd":
                self.plant.do(self.plant.core.receive(payload, at + SLOT_S))
        self.sent.clear()
        await self.deliver()

    async def deliver(self) -> None:
        arrived, self.plant.sent = self.plant.sent, []
        if self.loses_outcomes:
            arrived = [message for message in arrived if not message.topic.endswith("out")]
        if arrived:
            await self.ingest.take_in([(message.topic, message.payload) for message in arrived])

    async def until(self, end: int, *, plant: bool = True) -> None:
        """Run until ``end``; the utility's jobs rest after the first minutes of each quarter-hour."""
        while (at := int(self.clock.now())) < end:
            if at % QUARTER_S < 240:
                await self.step(plant=plant)
                continue
            if plant:
                self.plant.slot(at)
            self.clock.follow(at + SLOT_S)
            if at % 60 == 0:
                await self.deliver()

    def rows(self) -> list[Any]:
        with self.database.reads.begin() as connection:
            return list(connection.execute(select(purchase).order_by(purchase.c.quarter)).all())

    def bought(self, row: Any) -> bool:
        """Whether the plant bought a purchase, once; a full battery, or its power, may cut the last of a late one."""
        return bool(row.energy * 4 // 5 <= self.plant.bought_in(row.quarter) <= row.energy)

    def words(self) -> str:
        with self.database.reads.begin() as connection:
            return read_setting(connection, "supply") or ""

    def rations(self) -> dict[str, tuple[str, int | None]]:
        found = self.database.read(rations, int(self.clock.now()))
        return {name: (one.supply, one.import_limit_w) for name, one in found.items()}


def play(world: World, story: Callable[[World], Any]) -> None:
    async def run() -> None:
        await world.start()
        try:
            await story(world)
        finally:
            world.stop()

    asyncio.run(run())


@pytest.mark.parametrize("policy", ["spec", "aces", "rangers", "planner"])
def test_each_quarter_hour_has_one_purchase_which_the_plant_buys(database: Database, policy: str) -> None:  # req: U4
    async def story(world: World) -> None:
        await world.until(START + 2 * QUARTER_S)
        before, first, second = world.rows()
        assert [row.quarter for row in (before, first, second)] == [QUARTER - 1, QUARTER, QUARTER + 1]
        for row in (first, second):
            assert (row.state, row.policy, row.price) == ("done", policy, 1000)
            assert row.reason
            assert json.loads(row.outcome)["result"] == "done"
            assert world.bought(row)
            assert (row.energy > 0) == (policy != "rangers"), "above 75 % the battery serves"
        assert json.loads(second.inputs)["expected"] == 60 * 4_000
        assert world.plant.core.state.keep == 12_000_000 // 5
        assert world.metrics.registry.get_sample_value("commonwatt_utility_purchases_total", {"policy": policy}) == 3

    play(World(database, buying=policy), story)


def test_peak_hours_are_those_of_the_registered_town(database: Database) -> None:
    async def story(world: World) -> None:
        await world.until(START + 120)
        assert [row.reason.partition(":")[0] for row in world.rows()] == ["off-peak", "peak hours"]

    with database.writes.begin() as connection:
        figures = json.loads(read_setting(connection, TOWN) or "")
        save_setting(connection, TOWN, json.dumps(figures | {"peak_start_hour": 11, "peak_end_hour": 13}))
    play(World(database), story)


@databases.on_both_kinds
def test_a_lost_outcome_is_sent_again_and_buys_nothing_twice(database: Database) -> None:
    async def story(world: World) -> None:
        world.loses_outcomes = True
        await world.until(START + 300)
        world.loses_outcomes = False
        await world.step()
        await world.until(START + QUARTER_S)
        first = world.rows()[1]
        assert json.loads(first.outcome)["result"] == "repeated"
        assert world.bought(first)

    play(World(database), story)


KILLS = 8  # write transactions from the quarter-hour's start to the closed purchase, with a margin


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_utility_killed_at_any_commit_buys_each_quarter_once(database: Database, when: str) -> None:
    async def story(world: World) -> None:
        writes = Writes(database)
        database.writes = writes  # type: ignore[assignment]
        world.stop()
        await world.start()
        await world.until(START)
        kills = 0
        for number in range(KILLS):
            begin = START + number * QUARTER_S
            writes.done, writes.kill = 0, (number + 1, when)
            while world.clock.now() < begin + 150:
                try:
                    await world.step()
                except Killed:
                    kills += 1
                    writes.kill = None
                    world.stop()
                    world.sent.clear()
                    await world.start()
            # Only the plant goes on to the quarter's end.
            world.plant.slots(begin + 150, begin + QUARTER_S)
            world.clock.follow(begin + QUARTER_S)
        assert kills == KILLS
        rows = {row.quarter: row for row in world.rows()}
        for quarter in range(QUARTER, QUARTER + KILLS):
            assert rows[quarter].state == "done"
            assert world.bought(rows[quarter])
        assert len(rows) == KILLS + 1

    play(World(database), story)


def test_a_plant_that_was_replaced_by_an_older_database_is_not_bought_for_twice(database: Database) -> None:
    async def story(world: World) -> None:
        await world.until(START + 120)
        bought = world.rows()[-1]
        with database.writes.begin() as connection:
            connection.execute(purchase.delete())
        await world.until(START + QUARTER_S)
        (again,) = world.rows()
        assert again.state == "refused"
        assert json.loads(again.outcome)["held"] == bought.id
        assert world.bought(bought)

    play(World(database), story)


def test_without_a_present_report_nothing_is_bought_and_the_reason_is_said(database: Database) -> None:
    async def story(world: World) -> None:
        await world.step(plant=False)
        assert (world.words(), world.rows()) == ("no plant has reported yet", [])
        await world.until(START)
        await world.until(START + 600, plant=False)
        assert [row.quarter for row in world.rows()] == [QUARTER - 1]
        assert re.fullmatch("the plant's last report came at .*", world.words())
        # The plant is back late in the quarter-hour: only what is left of it is bought.
        for _ in range(8):
            await world.step()
        last = world.rows()[-1]
        assert (last.quarter, world.words()) == (QUARTER, "")
        assert "for the last " in last.reason

    play(World(database), story)


def test_with_a_clock_that_is_not_trusted_nothing_is_bought(database: Database) -> None:
    async def story(world: World) -> None:
        await world.until(START - 800)
        assert (world.words(), world.rows()) == ("the utility's clock is not synchronised", [])

    world = World(database)
    world.trust = Trust.NONE
    play(world, story)


def test_a_level_that_cannot_be_is_not_bought_for(database: Database) -> None:
    async def story(world: World) -> None:
        world.plant.core.state = PlantState(level=99_000_000)
        await world.until(START - 800)
        assert "can't be" in world.words()
        assert world.rows() == []

    play(World(database), story)


@databases.on_both_kinds
@pytest.mark.parametrize("trust", [Trust.NONE, Trust.NETWORK])
@pytest.mark.parametrize("ahead", [6 * 366 * 96, 2**32 - 1 - QUARTER])
def test_a_plant_whose_clock_is_years_ahead_deletes_no_quarter(database: Database, trust: Trust, ahead: int) -> None:
    now = Now(START, trust)

    def take(*quarters: int) -> list[int]:
        rows = tuple(PlantQuarter(quarter, 60, 1, 1, 0, 1, 1) for quarter in quarters)
        outcome = PlantOutcome(id="buy-1", cmd="purchase", result="done", time=START, quarters=rows)
        step = from_plant("out", outcome.pack(), now, START + 8 * 86_400)
        with database.writes.begin() as connection:
            write_plant(connection, [effect.change for effect in step.effects if isinstance(effect, Write)])
            return [row.quarter for row in quarters_between(connection, 0, QUARTER)]

    good = [QUARTER - 5 * 366 * 96, QUARTER - 1]
    assert take(*good) == good
    # The present quarter is not over by the utility's clock, if that is trusted.
    assert take(QUARTER, QUARTER + ahead) == (good if trust else [*good, QUARTER])
    assert take(good[0] - 1) == (good if trust else [good[0] - 1, *good, QUARTER])


def test_quarters_that_the_utility_missed_come_with_the_next_outcome(database: Database) -> None:
    async def story(world: World) -> None:
        # The plant ran for two days before the utility saw it.
        world.plant.slots(START - 900 - 200 * QUARTER_S, START - 900)
        world.plant.sent.clear()
        await world.until(START + QUARTER_S + 120)
        asked = [PlantCommand.model_validate_json(row.message).first_quarter for row in world.rows()]
        assert asked == [QUARTER - 1 - HISTORY_QUARTERS, QUARTER - 51, None], "150 rows at a time"
        with database.reads.begin() as connection:
            found = [row.quarter for row in quarters_between(connection, 0, QUARTER)]
        assert found == list(range(QUARTER - 201, QUARTER + 1))

    play(World(database), story)


@databases.on_both_kinds
def test_a_short_supply_is_told_to_each_controller_and_ends_by_itself(database: Database) -> None:  # req: A8, P5
    async def story(world: World) -> None:
        await world.until(START)
        assert world.rations() == {}
        world.plant.supply = SupplyState.CRITICAL
        await world.until(START + 120)
        assert world.rations() == {"r001": ("CRITICAL", 0), "r002": ("CRITICAL", 0)}
        with database.reads.begin() as connection:
            waiting = [json.loads(one.message) for one in open_commands(connection)]
        told = [(one["cmd"], one["supply"], one["import_limit_w"], one["for_s"]) for one in waiting]
        assert told == [("supply", "CRITICAL", 0, 1800)] * 2
        assert world.metrics.registry.get_sample_value("commonwatt_utility_limited_microgrids") == 2
        # It is renewed each quarter-hour, and what waits is replaced.
        await world.until(START + QUARTER_S + 120)
        with database.reads.begin() as connection:
            assert len(open_commands(connection)) == 2
            assert len(connection.execute(select(command.c.id).where(command.c.state == "superseded")).all()) == 2
        world.plant.supply = SupplyState.NORMAL
        await world.until(START + QUARTER_S + 240)
        assert world.rations() == {}
        await world.until(START + 3 * QUARTER_S)
        with database.reads.begin() as connection:
            sent = connection.execute(select(command.c.message, command.c.created).order_by(command.c.created)).all()
        assert [json.loads(row.message)["supply"] for row in sent[-3:]] == ["CRITICAL", "NORMAL", "NORMAL"]
        assert sent[-1].created < START + 2 * QUARTER_S, "NORMAL is sent once"

    play(World(database, rationing="aces"), story)


def test_limits_of_an_empty_supply_come_down_step_by_step_from_what_was_told(database: Database) -> None:
    """# req: U5, P5"""

    async def story(world: World) -> None:
        await world.until(START)
        world.plant.supply = SupplyState.EMPTY
        limits = []
        for quarter in range(5):
            await world.until(START + quarter * QUARTER_S + 120)
            limits.append(world.rations()["r001"][1] or 0)
        # Two microgrids ask for 2,400 W each; the battery delivers 3,000 W.
        assert limits[:2] == [1_500, 1_500 - 2_400 // STEPS]
        assert 400 > limits[2] > limits[4] > 300, "the battery lasts"

    play(World(database), story)


class LateWorld(World):
    """A world on a loaded machine: the plant's messages arrive ``late_s`` after they were made."""

    late_s = 400

    async def deliver(self) -> None:
        self.waiting = [*getattr(self, "waiting", ()), *((int(self.clock.now()), one) for one in self.plant.sent)]
        due = self.clock.now() - self.late_s
        self.plant.sent = [one for made, one in self.waiting if made <= due]
        self.waiting = [(made, one) for made, one in self.waiting if made > due]
        await super().deliver()


def test_a_short_supply_is_told_although_the_plants_reports_come_late(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """# req: U5, A8"""

    async def story(world: World) -> None:
        world.plant.supply = SupplyState.LOW
        await world.until(START + 2 * QUARTER_S)
        assert world.rations() == {"r001": ("LOW", None), "r002": ("LOW", None)}
        assert len(world.rows()) == 0, "nothing is bought on a report that old"

    caplog.set_level("INFO")
    play(LateWorld(database, rationing="aces"), story)
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("rations: ")]
    assert json.loads(line.removeprefix("rations: ")) == {
        "supply": "LOW",
        "was": "NORMAL",
        "limit_w": None,
        "was_limit_w": None,
        "reduce": True,
        "why": "regional supply is LOW; all reduce",
        "microgrids": 2,
        "names": ["r001", "r002"],
    }


def test_a_report_that_came_while_the_job_waited_is_of_the_present() -> None:
    report = PlantReport(
        time=START + 100,
        level_mwh=1,
        capacity_mwh=2,
        battery_limit_w=1,
        line_w=1,
        supply=SupplyState.LOW,
        prices=((START, 1_000),),
        prices_until=START + QUARTER_S,
    )
    facts = PlantFacts(
        now=START,
        is_trusted=True,
        seen=(START + 110, report),
        quarters=(),
        zone=ZoneInfo("UTC"),
        peak_hours=(),
        reserve_permille=0,
    )
    assert unknown(facts) is None
    assert unknown(replace(facts, seen=(START + 1_900, report))) is not None, "the clock was set back"
    assert "ahead" in (unknown(replace(facts, seen=(START, report))) or "")


def test_a_change_of_all_microgrids_is_one_line_that_names_ten() -> None:
    names = [f"r{number:03}" for number in range(1, 803)]
    short = Ration(import_limit_w=6_000, reduce=True, reason="short")
    before = {
        name: ToldRation(
            quarter=QUARTER, supply=SupplyState.LOW, import_limit_w=limit_w, reason="", until=START, command=""
        )
        for limit_w, name in enumerate(names, 9_000)
    }
    new = dict.fromkeys(names, short)
    (line,) = changes(new, SupplyState.EMPTY, before)
    assert (line["microgrids"], line["names"]) == (802, names[:10])
    assert (line["was"], line["was_limit_w"], line["limit_w"]) == ("LOW", [9_000, 9_801], [6_000, 6_000])
    again = {name: replace(one, supply=SupplyState.EMPTY, import_limit_w=6_000) for name, one in before.items()}
    assert list(changes(new, SupplyState.EMPTY, again)) == [], "a renewal is no change"


@databases.on_both_kinds
def test_commands_of_a_short_supply_are_forgotten_three_weeks_after_their_end(database: Database) -> None:
    def tell_at(now: int) -> None:
        ration = Ration(import_limit_w=5, reduce=True, reason="")
        database.write(tell_rations, {"r001": ration}, SupplyState.LOW, now)

    def listed() -> list[int]:
        with database.reads.begin() as connection:
            return list(connection.execute(select(command.c.created).order_by(command.c.created)).scalars())

    tell_at(START)
    with database.writes.begin() as connection:
        connection.execute(command.update().values(state="done"))
        add_command(connection, OpenCommand(id="op-1", controller="r002", message='{"cmd":"get"}', until=START), START)
        connection.execute(command.update().values(state="done"))
    second, third = START + 20 * 86_400, START + 22 * 86_400
    tell_at(second)
    assert listed() == [START, START, second]
    tell_at(third)
    assert listed() == [START, second, third], "the other is a person's"


def test_what_a_microgrid_asks_for_is_scaled_from_parts_of_quarters(database: Database) -> None:
    like, earlier = QUARTER - 96, QUARTER - 2 * 96
    with database.writes.begin() as connection:
        boundary = connection.execute(_BOUNDARY).scalar_one()

        def put(quarter: int, slots: int, each: int) -> None:
            row = dict.fromkeys((c.name for c in compacted.c if not c.nullable), 0)
            row |= {"meter_no": boundary, "record_type": RecordType.THROUGH, "quarter": quarter, "exact": slots}
            connection.execute(compacted.insert(), row | {"total": slots * each if slots else None, "payload": b""})

        def asked() -> tuple[int, int | None]:
            one = members(connection, QUARTER, [like * QUARTER_S, earlier * QUARTER_S], frozenset())[0]
            return one.demand_w, one.like_hour_w

        put(QUARTER - 3, 60, 40_000)
        put(QUARTER - 2, 10, 50_000)
        put(QUARTER - 1, 0, 0)
        assert asked() == (12_000, None)
        # A like day without the whole hour gives way to the one before.
        for place in range(4):
            put(like + place, 60 if place else 59, 20_000)
            put(earlier + place, 60, 10_000)
        assert asked() == (12_000, 2_400)


def test_on_the_second_day_of_a_shortage_the_first_days_limit_is_no_like_day(database: Database) -> None:
    """# req: U5, A8"""
    yesterday, before = QUARTER - 96, QUARTER - 2 * 96
    hours = [yesterday * QUARTER_S, before * QUARTER_S]

    def limit(created: int) -> dict[str, object]:
        told = ControllerCommand(
            id=f"supply-{created}",
            cmd=Action.SUPPLY,
            until=created + RATION_S,
            for_s=RATION_S,
            supply=SupplyState.CRITICAL,
            import_limit_w=480,
        )
        row: dict[str, object] = {"id": told.id, "controller": "r001", "message": told.pack().decode()}
        row |= {"state": "done", "limits_import": True}
        return row | {"created": created, "until": created + RATION_S}

    with database.writes.begin() as connection:
        boundary = connection.execute(_BOUNDARY).scalar_one()
        empty = dict.fromkeys((c.name for c in compacted.c if not c.nullable), 0) | {"meter_no": boundary}
        empty |= {"record_type": RecordType.THROUGH, "exact": 60, "payload": b""}
        for first, total in ((yesterday, 120_000), (before, 2_400_000), (QUARTER - 4, 120_000)):
            rows = [empty | {"quarter": first + place, "total": total} for place in range(4)]
            connection.execute(compacted.insert(), rows)
        connection.execute(command.insert(), limit(yesterday * QUARTER_S - RATION_S // 2))
        one = members(connection, QUARTER, hours, frozenset({"r001"}))[0]
        assert (one.microgrid, one.demand_w, one.like_hour_w) == ("r001", 9_600, 9_600)
        # A limit that ended before the hour changes nothing; without any free hour the average use stands.
        connection.execute(command.delete())
        connection.execute(command.insert(), limit(yesterday * QUARTER_S - RATION_S - 1))
        assert members(connection, QUARTER, hours, frozenset({"r001"}))[0].like_hour_w == 480
        connection.execute(command.insert(), [limit(yesterday * QUARTER_S), limit(before * QUARTER_S)])
        last = members(connection, QUARTER, hours, frozenset({"r001"}))[0]
        assert (last.demand_w, last.like_hour_w) == (last.average_w, None)


def test_a_microgrid_of_which_nothing_recent_is_known_asks_for_what_it_usually_takes(database: Database) -> None:
    """# req: U5"""
    yesterday = QUARTER - 96
    with database.writes.begin() as connection:
        unknown = members(connection, QUARTER, [yesterday * QUARTER_S], frozenset())
        assert [one.demand_w for one in unknown] == [one.average_w for one in unknown]
        assert min(one.demand_w for one in unknown) > 0
        boundary = connection.execute(_BOUNDARY).scalar_one()
        empty = dict.fromkeys((c.name for c in compacted.c if not c.nullable), 0) | {"meter_no": boundary}
        row = empty | {"record_type": RecordType.THROUGH, "exact": 60, "total": 2_400_000, "payload": b""}
        connection.execute(compacted.insert(), [row | {"quarter": yesterday + place} for place in range(4)])
        assert members(connection, QUARTER, [yesterday * QUARTER_S], frozenset())[0].demand_w == 9_600
        connection.execute(compacted.insert(), row | {"quarter": QUARTER - 4, "total": 0})
        assert members(connection, QUARTER, [yesterday * QUARTER_S], frozenset())[0].demand_w == 0, "it took nothing"


def test_a_house_whose_meter_was_exchanged_asks_once(database: Database, town: Town) -> None:
    def asked() -> dict[str, tuple[int, int]]:
        with database.reads.begin() as connection:
            return {m.microgrid: (m.customers, m.average_w) for m in members(connection, QUARTER, [], frozenset())}

    before = asked()
    old = next(m.id for m in town.meters if m.function is Function.HOUSE and m.direction is Direction.INCOMING)
    with database.writes.begin() as connection:
        known = load_dated_registry(connection)
        register_replacement(connection, old, 77_001)
        after = exchanged(known, old, 77_001, QUARTER - 10, None, None)
        save_dated_registry(connection, known, after, "anna", START, ZoneInfo("America/New_York"))
    assert asked() == before


def test_a_restart_tells_nobody_again(database: Database) -> None:
    async def story(world: World) -> None:
        world.plant.supply = SupplyState.LOW
        await world.until(START + 120)
        with database.reads.begin() as connection:
            before = connection.execute(select(command.c.id)).scalars().all()
        world.stop()
        await world.start()
        await world.until(START + 300)
        with database.reads.begin() as connection:
            assert connection.execute(select(command.c.id)).scalars().all() == before

    play(World(database, rationing="aces"), story)


def test_people_and_programs_see_what_is_bought_and_why(
    database: Database, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        app = make_app(
            standing_api(database, START, clock=world.clock, metrics=world.metrics, refused=world.ingest.refused)
        )

        async def asked() -> dict[str, Any]:
            transport = httpx.ASGITransport(app=app)
            options: dict[str, Any] = {"transport": transport, "headers": local_headers(app)}
            async with httpx.AsyncClient(base_url="http://localhost", **options) as client:
                found: dict[str, Any] = (await client.get("/supply")).json()
                return found

        nothing = await asked()
        assert (nothing["plant"], nothing["purchases"], nothing["no_purchase"]) == (None, [], "not looked at yet")
        await world.step(plant=False)
        assert (await asked())["plant"] is None
        world.plant.supply = SupplyState.EMPTY
        await world.until(START + 120)
        found = await asked()
        assert (found["plant"]["supply"], found["plant"]["line_w"], found["plant"]["price_permille"]) == (
            "EMPTY",
            0,
            1000,
        )
        assert found["plant"]["next_price"] == [START + 16 * QUARTER_S, 1500]
        assert found["no_purchase"] is None
        present, before = found["purchases"]
        assert (present["start"], present["energy"], present["ordered"]) == (START, 0, None)
        assert present["reason"].endswith("cut to the line's limit")
        assert (before["state"], before["ordered"]) == ("done", 0)
        assert {row["controller"]: row["import_limit_w"] for row in found["rations"]} == {"r001": 0, "r002": 0}
        assert found["plant"]["capacity_mwh"] == CAPACITY
        states = {
            state.value: world.metrics.registry.get_sample_value("commonwatt_utility_supply_state", {"state": state})
            for state in SupplyState
        }
        assert states == {"NORMAL": 0, "LOW": 0, "CRITICAL": 0, "EMPTY": 1}
        assert world.metrics.registry.get_sample_value("commonwatt_utility_plant_capacity_joules") == CAPACITY * 3.6
        assert world.metrics.registry.get_sample_value("commonwatt_utility_plant_last_seen_seconds") == 30

    world = World(database, rationing="aces")
    monkeypatch.setattr(options, "load_clock", lambda _: world.clock)
    play(world, story)


def test_a_purchase_does_not_wait_for_the_housekeeping(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World) -> None:
        answers = asyncio.Event()

        async def compact(**_: object) -> None:
            await answers.wait()

        monkeypatch.setattr(world.jobs._schedule, "tick", compact)
        housekeeping = asyncio.create_task(world.jobs.tick())
        await world.until(START + 120)
        assert [row.state for row in world.rows()] == ["done", "done"]
        answers.set()
        await housekeeping

    play(World(database), story)


def test_a_storm_that_is_over_is_refused(command: Callable[..., str], database: Database) -> None:
    said = command("storm", "--start", "2026-01-05T10:00Z", "--for", "3600", code=2)
    assert "this storm ended at 2026-01-05 11:00:00Z; nothing was changed" in said
    with database.reads.begin() as connection:
        assert announced_storm(connection, 0) is None


def test_a_storm_that_an_operator_announces_fills_the_battery(
    database: Database, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        await world.until(START)
        said = command("storm", "--for", "7200")
        assert said.startswith("change 1 tells all gateways")
        assert "storm from 2026-09-21 15:00:00Z to 2026-09-21 17:00:00Z" in said
        await world.until(START + 120)
        row = world.rows()[-1]
        assert row.reason.startswith("storm: ")
        assert json.loads(row.inputs)["storm"] == [START, START + 7200]
        assert command("storm", "--off").endswith("no storm")
        with world.database.reads.begin() as connection:
            told = [cast("dict[str, Any]", row["message"]) for row in reads.commands(connection, 100)]
        held = [(each["state"], each.get("for_s"), each["until"]) for each in told if each["cmd"] == "hold"]
        ends = START + 7200
        assert set(held) == {("off", None, ends), ("on", 7200, ends)}, "a gateway that is away hears of it"
        await world.until(START + QUARTER_S + 120)
        assert not world.rows()[-1].reason.startswith("storm: ")

    # A busy machine may need more than the planner's own limit.
    monkeypatch.setattr(Planner.__init__, "__defaults__", (*(Planner.__init__.__defaults__ or ())[:-1], 600.0))
    world = World(database, buying="planner")
    monkeypatch.setattr(options, "load_clock", lambda _: world.clock)
    play(world, story)
