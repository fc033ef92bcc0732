"""A running utility: its jobs, its two head-ends, and the time that it reports."""

import asyncio
import errno
import math
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from commonwatt.model.effects import Publish
from commonwatt.model.time import MachineClocks, Trust
from commonwatt.model.units import LOW_BYTES
from commonwatt.protocol.topics import ACKS, BATCHES, PLANT, STATUS, gateway_down, gateway_up
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.systemd import Notifier
from commonwatt.runtime.watchdog import Watchdog
from harness.billing.worlds import published, tariff
from harness.network.waiting import become
from harness.surroundings.messages import append, blocks, ingest_of
from utility.assembly import jobs as table
from utility.assembly.head_ends import LINK_SILENT_S, LONGEST_SILENCE_S, WATCH_EVERY_S, HeadEnds
from utility.assembly.jobs import ServiceJobs
from utility.assembly.metrics import UtilityMetrics
from utility.assembly.service import ClockKeeper, UtilityService
from utility.database.database import Database
from utility.database.health import Health
from utility.jobs.plans import LocalDay
from utility.jobs.tables import period
from utility.outbox.store import open_commands
from utility.readings.ingest import Ingest
from utility.readings.store import gaps
from utility.readings.store.compactor import Compactor
from utility.readings.store.writer import Writer
from utility.readings.tables import compacted
from utility.settings import UtilitySettings

QUARTER = 2_000_000
NOW = (QUARTER + 4) * 900
HOUSEKEEPING = period.c.job != "bills"  # jobs that run for the present period only
TODAY = LocalDay().period_at(NOW).start
CLOCK = Clock(origin=NOW, monotonic_origin=0, speed=0)


def tick(
    database: Database,
    times: int = 1,
    trust: Trust = Trust.NETWORK,
    settings: UtilitySettings | None = None,
    health: Health | None = None,
) -> UtilityMetrics:
    async def play() -> UtilityMetrics:
        metrics = UtilityMetrics()
        ingest = ingest_of(database, CLOCK, metrics=metrics, health=health, trust=trust)
        jobs = ServiceJobs(settings or UtilitySettings(), database, CLOCK, ingest, metrics)
        try:
            for _ in range(times):
                await jobs.tick()
        finally:
            jobs.close()
            ingest.close()
        return metrics

    return asyncio.run(play())


PERIODS = {
    "balance": NOW,
    "completeness": NOW - NOW % 3600,
    "compact": NOW,
    "gaps": NOW,
    "projection": TODAY,
    "rates": NOW,
    "retention": NOW - NOW % 3600,
    "rollout": NOW,
    "settlement": NOW,
    "sharing": NOW,
    "spared": NOW,
    "statistics": NOW - NOW % 3600,
    "validation": NOW - NOW % 3600,
    "weights": NOW,
    "witnesses": NOW,
}
"""The start of each job's period at ``NOW``."""


def done(database: Database) -> dict[str, int]:
    """Return the start of the last period that is done, by job of housekeeping."""
    with database.reads.begin() as connection:
        statement = select(period.c.job, func.max(period.c.start)).where(period.c.done.is_not(None), HOUSEKEEPING)
        return {row.job: row[1] for row in connection.execute(statement.group_by(period.c.job))}


def test_missing_slots_are_searched_but_not_requested_while_messages_wait_for_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing may be among them; when they are through, it is requested."""
    Writer(database).commit([append(blocks({0: 1}))])
    for queue_s, commands in ((61.0, 0), (60.0, 1)):
        monkeypatch.setattr(Ingest, "queue_s", queue_s)
        shift(database, -900)
        metrics = tick(database)
        assert metrics.registry.get_sample_value("commonwatt_utility_gaps_open_blocks") == 2
        with database.reads.begin() as connection:
            assert len(open_commands(connection)) == commands


def test_a_job_tells_controllers_what_a_room_wants_told(database: Database) -> None:
    published(database, tariff())
    for _ in range(2):
        shift(database, -900)
        tick(database)
        found = [(one.controller, one.id.partition("-")[0]) for one in database.read(open_commands)]
        assert sorted(found) == [("r001", "rates"), ("r002", "rates")]


def shift(database: Database, by_s: int) -> None:
    """Have the periods that are there be others."""
    with database.writes.begin() as connection:
        shifted = period.update().where(HOUSEKEEPING)
        connection.execute(shifted.values(start=period.c.start + by_s, until=period.c.until + by_s))


def test_tick_does_each_job_once_in_its_period(database: Database) -> None:
    Writer(database).commit([append(blocks({0: 1})), append(blocks({1: 1}))])
    metrics = tick(database, times=3)
    assert metrics.registry.get_sample_value("commonwatt_utility_compacted_blocks_total") == 1
    assert metrics.registry.get_sample_value("commonwatt_utility_gaps_open_blocks") == 2
    with database.reads.begin() as connection:
        assert connection.execute(select(func.count()).select_from(compacted)).scalar() == 1
        assert len(open_commands(connection)) == 1
    assert done(database) == PERIODS


def test_a_utility_that_was_off_for_a_week_keeps_house_once(database: Database) -> None:
    tick(database)
    shift(database, -7 * 86_400)
    Writer(database).commit([append(blocks({0: 1}))])
    metrics = tick(database, times=3)
    with database.reads.begin() as connection:
        rows = connection.execute(select(period.c.job, period.c.start, period.c.attempts).where(HOUSEKEEPING)).all()
    assert set(map(tuple, rows)) == {*((job, start, 1) for job, start in PERIODS.items()), ("reminders", TODAY, 0)}
    assert len(rows) == len(PERIODS) + 1
    assert metrics.registry.get_sample_value("commonwatt_utility_compacted_blocks_total") == 1
    assert metrics.registry.get_sample_value("commonwatt_utility_job_periods_overdue", {"task": "compact"}) == 0


def test_a_long_search_for_gaps_lets_other_jobs_come_between(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps, "MAX_SCANNED", 5)
    monkeypatch.setattr(table, "MAX_SEARCHES", 3)
    Writer(database).commit([append(blocks({0: 1}, quarter=QUARTER - 98))])
    for searched in (15, 30, 45):
        metrics = tick(database)
        assert metrics.registry.get_sample_value("commonwatt_utility_gaps_open_blocks") == searched
        shift(database, -900)


def test_what_the_database_holds_is_counted_soon_after_a_start_though_the_jobs_are_done(database: Database) -> None:
    Writer(database).commit([append(blocks({0: 1, 1: 5})), append(blocks({0: 2}))])
    names = ("conflicting_slots", "gaps_open_blocks", "quarantined_open_dead_letters")
    first = [tick(database).registry.get_sample_value(f"commonwatt_utility_{name}") for name in names]
    assert first == [1, 2, 0]
    assert [tick(database).registry.get_sample_value(f"commonwatt_utility_{name}") for name in names] == first
    unknown = UtilityMetrics().registry.get_sample_value("commonwatt_utility_conflicting_slots")
    assert unknown is not None
    assert math.isnan(unknown), "0 would be a lie, and its end an alarm"


def test_jobs_go_on_after_the_clock_was_once_ahead(database: Database) -> None:
    tick(database)
    shift(database, 960 * 900)
    Writer(database).commit([append(blocks({0: 1}))])
    metrics = tick(database, times=2)
    assert metrics.registry.get_sample_value("commonwatt_utility_compacted_blocks_total") == 1
    assert done(database) == PERIODS


def test_job_that_failed_is_done_by_the_next_tick(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    Writer(database).commit([append(blocks({0: 1}))])
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise OperationalError("SELECT", {}, Exception("disk I/O error"))

        patched.setattr(Compactor, "plan", fail)
        metrics = tick(database)
        for name in ("job_failures_total", "job_periods_overdue", "job_periods_failed"):
            assert metrics.registry.get_sample_value(f"commonwatt_utility_{name}", {"task": "compact"}) == 1
    assert tick(database).registry.get_sample_value("commonwatt_utility_compacted_blocks_total") == 1


def test_a_job_that_hangs_is_seen_by_a_watchdog(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def hang(*_: object) -> None:
        assert answers.wait(60)

    async def play() -> None:
        ingest = ingest_of(database, CLOCK)
        jobs = ServiceJobs(UtilitySettings(), database, CLOCK, ingest, UtilityMetrics())
        watchdog = Watchdog(Notifier({}), look_every_s=0.01, stuck_after_s=0.1, end_after_s=3600)
        watchdog.watch("jobs", jobs.reading.mark)
        async with watchdog.watching():
            ticking = asyncio.create_task(jobs.tick())
            await become(lambda: watchdog.stuck["jobs"])
            answers.set()
            await ticking
        assert jobs.reading.mark() is None
        jobs.close()
        ingest.close()

    monkeypatch.setattr(Compactor, "plan", hang)
    asyncio.run(play())


def test_old_months_are_dropped_only_by_a_clock_that_is_trusted(database: Database) -> None:
    Writer(database).commit([append(blocks({0: 1}, quarter=quarter)) for quarter in (QUARTER - 96 * 62, QUARTER)])
    left = []
    for trust in (Trust.NONE, Trust.NETWORK):
        shift(database, -86_400)
        tick(database, trust=trust, settings=UtilitySettings(keep_months=1))
        with database.reads.begin() as connection:
            left.append(connection.execute(select(func.count()).select_from(compacted)).scalar_one())
    assert left == [2, 1]


def test_on_a_full_disk_only_that_is_done_which_makes_room(database: Database, tmp_path: Path) -> None:
    writer = Writer(database)
    writer.commit([append(blocks({0: 1}, quarter=quarter)) for quarter in (QUARTER - 96 * 62, QUARTER - 1)])
    tick(database)
    writer.commit([append(blocks({0: 1}))])
    full = Health(tmp_path / "utility.db")
    full.look(LOW_BYTES - 1 - shutil.disk_usage(tmp_path).free)
    assert full.alarms() == ["disk_full"]
    shift(database, -86_400)
    tick(database, settings=UtilitySettings(keep_months=1), health=full)
    with database.reads.begin() as connection:
        assert connection.execute(select(compacted.c.quarter)).scalars().all() == [QUARTER - 1]
    assert [done(database)[job] for job in ("compact", "gaps")] == [NOW - 86_400] * 2


A, B = "127.0.0.1:1", "127.0.0.1:2"


class Ends:
    """Two head-ends, or one, on a virtual clock; what is sent is noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.heard: list[str] = []
        self.now = 1_000.0
        self.ends = HeadEnds(UtilitySettings(head_end=addresses), "token", lambda topic, _: self.heard.append(topic))
        self.sent: dict[str, list[str]] = {address: [] for address in addresses}
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self)
        for address, link in self.ends.links.items():
            link.connected = True
            publish: Any = lambda message, at=address: self.sent[at].append(message.topic)  # noqa: E731
            monkeypatch.setattr(link, "publish", publish)

    def time(self) -> float:
        return self.now

    def says(self, controller: str, at: str) -> None:
        self.ends._message(at, gateway_up(controller, BATCHES), b"")

    def receives(self, controller: str) -> set[str]:
        """Return the head-ends over which it is sent a message."""
        before = {at: len(sent) for at, sent in self.sent.items()}
        self.ends.publish(Publish(gateway_down(controller, ACKS), b""))
        return {at for at, sent in self.sent.items() if len(sent) > before[at]}

    def watch(self, for_s: float, **speaking: str) -> None:
        for _ in range(int(for_s / WATCH_EVERY_S)):
            self.now += WATCH_EVERY_S
            for controller, at in speaking.items():
                self.says(controller, at)
            self.ends.look(self.now)

    def restarts(self, at: str) -> int:
        return self.ends.links[at].restarts["silent"]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Ends:
    return Ends(monkeypatch, A, B)


def test_an_answer_goes_where_its_receiver_was_last_heard_and_else_everywhere(two: Ends) -> None:
    assert two.receives("r001") == {A, B}, "it was not heard yet"
    two.says("r001", A)
    two.says("r002", B)
    two.ends._message(B, gateway_up(PLANT, STATUS), b"")
    assert (two.receives("r001"), two.receives("r002"), two.receives(PLANT)) == ({A}, {B}, {B})
    two.says("r001", B)
    assert two.receives("r001") == {B}
    two.ends.links[B].connected = False
    assert two.receives("r001") == {A, B}, "it may come back over any; what is not connected drops it"
    assert two.heard == [gateway_up(name, leaf) for name, leaf in (
        ("r001", BATCHES), ("r002", BATCHES), (PLANT, STATUS), ("r001", BATCHES))]  # fmt: skip


def test_a_head_end_without_gateways_is_silent_by_right(two: Ends) -> None:
    two.says("r002", B)
    two.watch(3_600, r001=A, r002=B)
    assert (two.restarts(A), two.restarts(B)) == (0, 0)
    two.watch(3_600, r001=A, r002=A)
    assert (two.restarts(A), two.restarts(B)) == (0, 0)
    for _ in range(10):
        two.says(PLANT, B)
        two.watch(60, r001=A)
    assert (two.restarts(A), two.restarts(B)) == (0, 0), "the plant reports once a minute"


def test_a_head_end_at_which_all_gateways_fell_silent_is_connected_to_again_and_then_left_alone(two: Ends) -> None:
    two.watch(60, r001=A, r002=B)
    two.watch(LINK_SILENT_S + WATCH_EVERY_S, r001=A)
    assert (two.restarts(A), two.restarts(B)) == (0, 1)
    two.watch(3_600, r001=A)
    assert (two.restarts(A), two.restarts(B)) == (0, 1), "r002 is dead, or will be heard where it goes"
    assert two.receives("r002") == {A, B}
    two.watch(60, r001=A, r002=B)
    two.watch(LINK_SILENT_S + WATCH_EVERY_S, r001=A)
    assert two.restarts(B) == 2


def test_a_town_without_a_word_is_connected_to_again_at_both_later_and_later(two: Ends) -> None:
    two.watch(60, r001=A)
    two.watch(10 * LONGEST_SILENCE_S)
    assert 10 < two.restarts(A) < 20
    assert 10 < two.restarts(B) < 20


def test_a_connection_that_is_away_is_not_judged(two: Ends) -> None:
    two.watch(60, r001=A)
    two.ends.links[A].connected = False
    two.watch(600, r002=B)
    assert two.restarts(A) == 0
    assert two.ends.connected == {A: False, B: True}


def test_one_head_end_is_watched_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Ends(monkeypatch, A)
    one.watch(LINK_SILENT_S + WATCH_EVERY_S)
    assert one.restarts(A) == 1
    one.watch(3 * LINK_SILENT_S)
    assert one.restarts(A) == 2
    one.ends.links[A].complaint = "refused"
    assert one.ends.complaint == "refused"


def test_reasons_of_two_have_their_address(two: Ends) -> None:
    two.ends.links[B].complaint = "refused"
    assert two.ends.complaint == f"{B}: refused"
    two.ends.links[A].complaint = "no answer in time"
    assert two.ends.complaint == f"{A}: no answer in time; {B}: refused"


MACHINE_NOW = 1_790_000_000
HOUR = 3600
MACHINE = MachineClocks(
    raw=MACHINE_NOW, wall=MACHINE_NOW, since_boot_s=9.0, boot="this", synchronised=True, has_hardware_clock=False
)


class Followed(Clock):
    """A clock that only tells how it is set."""

    def follow(self, wall: float) -> None:
        self.origin = wall


def test_a_full_disk_is_on_the_board_at_the_next_poll(tmp_path: Path) -> None:
    async def poll(_: object) -> None: ...

    health, looks = Health(tmp_path / "utility.db"), list[str]()
    service = SimpleNamespace(_look_at_clock=list, _expiries={}, _ingest=SimpleNamespace(poll=poll), _health=health)
    service._troubles, service._alarms = [], SimpleNamespace(look=lambda: looks.append("look"))
    for seen in (0, 1, 1):
        asyncio.run(UtilityService._poll(service))  # type: ignore[arg-type] # what it uses
        assert len(looks) == seen
        health.failed(OSError(errno.ENOSPC, ""), "a test")


@pytest.fixture
def clock() -> Clock:
    return Followed(origin=MACHINE_NOW, monotonic_origin=0.0)


@pytest.mark.parametrize("by_s", [HOUR, -HOUR, 2])
def test_the_time_follows_the_machines_clock(clock: Clock, by_s: int) -> None:
    ClockKeeper(clock, is_right=False).look(replace(MACHINE, wall=MACHINE_NOW + by_s))
    assert clock.origin == MACHINE_NOW + by_s


def test_the_time_stays_while_the_machines_clock_agrees(clock: Clock) -> None:
    ClockKeeper(clock, is_right=False).look(replace(MACHINE, wall=MACHINE_NOW + 0.5))
    assert clock.origin == MACHINE_NOW


def test_the_time_is_trusted_while_somebody_keeps_the_machines_clock(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = ClockKeeper(clock, is_right=False)
    alone = replace(MACHINE, synchronised=False)
    assert [keeper.look(each) for each in (alone, alone, MACHINE, alone)] == [
        Trust.NONE,
        Trust.NONE,
        Trust.NETWORK,
        Trust.NONE,
    ]
    assert sum("this machine's clock is not synchronized" in line for line in caplog.messages) == 2, "once each time"
    assert ClockKeeper(clock, is_right=True).look(alone) is Trust.NETWORK
