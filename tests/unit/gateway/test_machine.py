"""A gateway's machine: threads for disks, room for records (row 6 of the faults), and when a person is warned."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

import gateway.loop.machine as module
from commonwatt.config.files import load_settings
from commonwatt.config.settings import GatewaySettings
from commonwatt.demo.layout import prepare
from commonwatt.model.records import Log
from commonwatt.model.units import ENOUGH_BYTES, LOW_BYTES
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.heartbeats import LineMonth
from commonwatt.protocol.meter_messages import Refusal
from commonwatt.runtime.clock import load_clock
from gateway.line.line import INTERFACE, UTILITY
from gateway.loop.machine import BALLAST_BYTES, Ballast, LineWatch, StoreDisk, StoreThreads
from gateway.shell import Shell
from gateway.store.changes import AddDeadLetters
from harness.network.waiting import become
from harness.surroundings.gateway import START, World, batches, commands, readings


def test_calls_that_hang_leave_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG_S", 0.01)
    answers = threading.Event()

    async def play() -> None:
        threads = StoreThreads()
        hanging = [asyncio.create_task(threads.run(answers.wait)) for _ in range(2 * module.AT_ONCE)]
        assert await asyncio.wait_for(threads.run(lambda: "done"), 60) == "done"
        assert not any(each.done() for each in hanging)
        answers.set()
        assert all(await asyncio.gather(*hanging))

    asyncio.run(play())


def test_a_failure_reaches_the_caller_and_the_thread_is_used_again() -> None:
    async def play() -> None:
        threads = StoreThreads()
        with pytest.raises(OSError, match="no disk"):
            await threads.run(_fails)
        first = await threads.run(threading.current_thread)
        assert await threads.run(threading.current_thread) is first

    asyncio.run(play())


def _fails() -> None:
    raise OSError("no disk")


def test_a_call_whose_caller_is_cancelled_ends() -> None:
    begun, answers, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        answers.wait()
        ended.set()

    async def play() -> None:
        task = asyncio.create_task(StoreThreads().run(call))
        await become(begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answers.set()
        await become(ended.is_set)

    asyncio.run(play())


PLENTY = 10 * ENOUGH_BYTES


def test_row_06_without_room_records_are_refused_and_commands_are_kept(world: World) -> None:
    for meter in (1, 2):
        world.introduce(meter)
    assert world.core.disk_space(LOW_BYTES // 2)
    before = world.store._db.execute("SELECT count(*) FROM part").fetchone()
    ack = world.put(1, 1, readings(1, 1, 4))
    assert (ack.status, ack.accepted) == (Refusal.BUSY, ())
    assert world.store.coverage(1, Log.HISTORY, 1) == [], "nothing of it is covered"
    assert world.store._db.execute("SELECT count(*) FROM part").fetchone() == before
    world.level(2, 20)
    (command,) = [c for c in world.level(1, 80) if c.cmd == "share_power_on"]
    world.answer(command, 1)
    (desired,) = [d for d in world.store.desired() if d.kind is Kind.SHARING]
    assert (desired.value, desired.confirmed) == ("on", True)
    assert world.core.disk_space(PLENTY), "recovers by itself"
    assert world.put(1, 1, readings(1, 1, 4)).status == Refusal.NONE


def test_row_06_between_low_and_enough_nothing_changes(world: World) -> None:
    assert not world.core.disk_space(LOW_BYTES * 5 // 4)
    assert world.core.disk_space(LOW_BYTES - 1)
    assert not world.core.disk_space(LOW_BYTES * 5 // 4)
    assert world.core.upkeep.short


def test_row_06_acknowledged_data_makes_room_and_what_is_not_acknowledged_stays(world: World) -> None:
    world.now += 21 * 900
    for n in range(20):
        world.put(1, n * 30 + 1, readings(1, n * 30 + 1, 30, start=START + n * 900))
    for batch in batches(world.tick("relay_s")):
        world.acknowledge(batch)
    world.put(1, 1001, readings(1, 1001, 4, start=START))
    world.core.disk_space(0)
    world.tick("retry")
    assert world.core.upkeep.dropped == 20
    assert [part.key[2] for part in world.store.all_parts(unsent_only=True)] == [START // 900]
    assert commands(world.sent) is not None


def test_row_06_what_was_deleted_within_the_file_counts_as_room(world: World) -> None:
    world.store._db.execute("CREATE TABLE filler (data BLOB)")
    world.store._db.execute("INSERT INTO filler VALUES (zeroblob(?))", (2 * LOW_BYTES,))
    world.core.disk_space(0)
    assert world.core.upkeep.short
    world.store._db.execute("DROP TABLE filler")
    assert world.core.disk_space(ENOUGH_BYTES - LOW_BYTES)
    assert not world.core.upkeep.short


def test_the_ballast_is_made_when_there_is_plenty_and_given_up_once(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "gateway.db")
    ballast.space()
    file = tmp_path / "gateway.db.ballast"
    assert file.stat().st_blocks * 512 >= BALLAST_BYTES, "of real blocks"
    ballast.give_up()
    assert not file.exists()
    ballast.give_up()


def test_row_06_the_log_says_once_that_there_is_no_room_and_once_that_there_is_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk_space = iter([0, LOW_BYTES - 1, PLENTY, PLENTY])
    monkeypatch.setattr(Ballast, "space", lambda _: (next(disk_space), PLENTY))
    disk = StoreDisk(tmp_path / "gateway.db")
    said = []
    for free in (0, LOW_BYTES - 1, PLENTY, PLENTY):
        caplog.clear()
        disk.look({tmp_path / "gateway.db": world.core})
        assert disk.free_bytes == free
        said.append([(record.levelname, record.message.split(" for ")[0]) for record in caplog.records])
    assert said == [[("ERROR", "low disk space")], [], [("WARNING", "enough disk space again")], []]


def test_row_06_when_not_another_page_can_be_had_the_ballast_goes_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.loop.work.REOPEN_AFTER_S", 0)
    town = tmp_path / "town.toml"
    town.write_text('[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n')
    (tmp_path / "town").mkdir()
    layout = prepare(tmp_path / "town", town, 60, None, plain_text=True)
    settings = load_settings(layout.part("r001 gateway").config, "gateway", GatewaySettings)
    work = Shell.open(settings, load_clock(None))._work
    ballast = settings.store.with_name(settings.store.name + ".ballast")
    assert ballast.exists()
    db = work.own.store._db
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    dead_letters = [
        DeadLetter(meter=1, log=1, reason=1, generation=1, record_id=n, time=START, content=bytes(1000))
        for n in range(200)
    ]
    with pytest.raises(sqlite3.OperationalError, match="full") as failed:
        asyncio.run(work.own.commit([AddDeadLetters(tuple(dead_letters))]))
    assert ballast.exists()
    asyncio.run(work.reopen("r001", failed.value))
    assert not ballast.exists()
    assert work.controller.own.upkeep.short, "what was given up is for commands"
    assert list(work.own.store.dead_letters()) == []
    work.own.store.close()


FINE = LineMonth(used=(1, 1), expected=(2, 2), allowance=1_000_000_000)
AT_RISK = LineMonth(used=(1, 1), expected=(2_000_000_000, 2), allowance=1_000_000_000)
EXCEEDED = LineMonth(used=(1_500_000_000, 1), expected=(2_000_000_000, 2), allowance=1_000_000_000)


def test_a_person_is_warned_once_each_time_the_allowance_will_not_do(caplog: pytest.LogCaptureFixture) -> None:
    watch = LineWatch(None)
    for month in (None, FINE, AT_RISK, AT_RISK, EXCEEDED, EXCEEDED, FINE, AT_RISK):
        watch.judge(month)
        assert watch.month is month
    levels = [record.message.split(":")[0] for record in caplog.records]
    assert levels == [f"the LTE line is {level}" for level in ("at risk", "exceeded", "at risk")]


def test_it_reads_the_interface_if_there_is_one_to_read_and_else_its_own_connections() -> None:
    own = LineWatch(None)
    assert own.look() == (UTILITY, str(own.tally.run), own.tally.total())
    found = LineWatch("lo").look()
    assert found is not None
    assert found[0] == INTERFACE
    assert LineWatch("wwan-none").look() is None
