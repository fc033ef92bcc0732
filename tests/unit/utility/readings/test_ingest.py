"""The ingest of messages: stored, acknowledged, asked for again; a database that went back is noticed."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from sqlalchemy import select, text
from sqlalchemy.event import listen
from sqlalchemy.exc import DatabaseError, OperationalError

from commonwatt.model.blocks import concatenate
from commonwatt.model.effects import Publish
from commonwatt.model.time import Trust
from commonwatt.model.units import quarter_of
from commonwatt.protocol.batches import SLOW_S, BatchAck, BatchFlag, Mark, unpack_batch_ack
from commonwatt.protocol.controller_commands import Action
from commonwatt.protocol.dead_letters import DeadLetter
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.topics import ACKS
from commonwatt.runtime.clock import Clock
from commonwatt.sqlite import DamagedError
from commonwatt.town.loading import load_town
from harness.network.waiting import cancelled
from harness.surroundings import databases
from harness.surroundings.messages import append, batch, blocks, ingest_of
from harness.surroundings.stored import remove_meter
from utility.access.people import on_machine
from utility.assembly.metrics import UtilityMetrics
from utility.control.changes import AskedChange
from utility.control.decisions import make_change, send_due
from utility.database.base import setting
from utility.database.database import Database, new_store_id, read_setting
from utility.database.health import Health
from utility.outbox.changes import Append, CommittedCounts, OpenCommand, UtilityChange
from utility.outbox.store import add_command
from utility.readings import ingest as module
from utility.readings.ingest import DEAD_LETTER_WORK, MAX_QUEUED, MESSAGE_WORK, Ingest, work_of
from utility.readings.store import reads
from utility.readings.store.reads import all_blocks
from utility.readings.store.writer import Writer
from utility.readings.tables import batch as batch_table
from utility.readings.tables import gateway_seen
from utility.registry.store.registration import fill_registry
from utility.registry.store.registry import load_snapshot, registry_changed

kind = databases.both_kinds

STARTED = 1_800_000_000
CLOCK = Clock(origin=STARTED, monotonic_origin=0, speed=0)
TOPIC = "cw1/r001/u/batch"
HEARTBEAT = Heartbeat(
    time=1_800_000_000, store=7, backlog_parts=0, backlog_events=0, backlog_letters=0, aggregation="none"
).pack()


def sample(metrics: UtilityMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"commonwatt_utility_{name}_total", labels)


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until ``condition`` holds; the end is for a test that hangs."""
    async with asyncio.timeout(300):
        while not condition():  # noqa: ASYNC110 - another process, or thread, makes it true
            await asyncio.sleep(0.005)


def running(database: Database, scenario: Callable[[Ingest, UtilityMetrics, list[Publish]], Awaitable[None]]) -> None:
    """Play ``scenario`` on an ingest whose messages are collected."""

    async def play() -> None:
        metrics, sent = UtilityMetrics(), list[Publish]()
        ingest = ingest_of(database, CLOCK, sent.append, metrics=metrics)
        task = asyncio.create_task(ingest.run())
        try:
            await scenario(ingest, metrics, sent)
        finally:
            await cancelled(task)
            ingest.close()

    asyncio.run(play())


def test_batches_of_a_group_are_all_committed_before_any_is_acknowledged(database: Database) -> None:
    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        for slot in range(20):
            ingest.offer(TOPIC, batch(blocks({slot: slot})).pack())
        await until(lambda: len(sent) == 20)
        assert sample(metrics, "slots") == 20
        assert sample(metrics, "messages", result="stored") == 20
        assert ingest.silent_since == {"r001": 1_800_000_000, "r002": 1_800_000_000}

    running(database, scenario)
    (joined,) = reads.all_blocks(database, 0, 2**31 - 1)
    assert int((joined.quality > 0).sum()) == 20


def test_gateways_heard_before_a_restart_are_remembered(database: Database) -> None:
    async def heard(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        ingest.offer("cw1/r001/u/stat", HEARTBEAT)
        await until(lambda: sample(metrics, "messages", result="seen") == 1)

    async def restarted(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        assert ingest.silent_since == {"r001": 1_800_000_000, "r002": 9}, "one that is gone is still reported as silent"
        assert ingest.said == {"r001": unpack_json(Heartbeat, HEARTBEAT)}

    running(database, heard)
    with database.writes.begin() as connection:
        of_another_release = {"controller": "r002", "time": 9, "heartbeat": '{"of":"another release"}'}
        connection.execute(gateway_seen.insert().values(of_another_release))
    running(database, restarted)


def test_a_gateway_is_not_awaited_from_the_removal_of_its_last_meter_on(database: Database) -> None:
    end = quarter_of(STARTED) + 8

    def remove(meters: list[int]) -> None:
        for one in meters:
            remove_meter(database, one, end)
        with database.writes.begin() as connection:
            registry_changed(connection)

    with database.reads.begin() as connection:
        meters = load_snapshot(connection).meters
        last, *others = [one for one, entry in meters.items() if entry.microgrid == "r001"]

    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        ingest.offer("cw1/r001/u/stat", HEARTBEAT)
        await until(lambda: "r001" in ingest.said)
        remove(others)
        ingest._clock = replace(CLOCK, origin=end * 900)
        await ingest.poll()
        assert ingest.silent_since.keys() == {"r001", "r002"}, "it has a meter"
        remove([last])
        ingest._clock = replace(CLOCK, origin=end * 900 - 1)
        await ingest.poll()
        assert ingest.silent_since.keys() == {"r001", "r002"}, "it has its meters until then"
        ingest._clock = replace(CLOCK, origin=end * 900)
        await ingest.poll()
        assert ingest.silent_since.keys() == {"r002"}
        assert not ingest.said

    running(database, scenario)


def test_a_gateway_is_silent_from_the_time_to_which_the_clock_was_set_back(database: Database) -> None:
    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        ingest._clock = replace(CLOCK, origin=STARTED - 86_400)
        await ingest.poll()
        ingest._clock = replace(CLOCK, origin=STARTED - 86_000)
        await ingest.poll()
        assert set(ingest.silent_since.values()) == {STARTED - 86_400}

    running(database, scenario)


def broken(monkeypatch: pytest.MonkeyPatch, error: Exception) -> Callable[[], None]:
    """Have every commit fail; return what mends that."""
    whole = Writer.commit

    def commit(self: Writer, changes: list[UtilityChange]) -> CommittedCounts:
        raise error

    monkeypatch.setattr(Writer, "commit", commit)
    return lambda: monkeypatch.setattr(Writer, "commit", whole)


def test_gateway_that_was_never_heard_is_silent_since_the_start_or_its_registration(
    database: Database, tmp_path: Path
) -> None:
    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        assert ingest.silent_since == {"r001": STARTED, "r002": STARTED}
        ingest._clock = replace(CLOCK, origin=STARTED + 50)
        ingest.offer("cw1/r001/u/stat", HEARTBEAT)
        await until(lambda: sample(metrics, "messages", result="seen") == 1)
        (tmp_path / "town.toml").write_text('microgrid = [{id = "r", kind = "residential", count = 3, houses = 2}]\n')
        with database.writes.begin() as connection:
            fill_registry(connection, load_town(tmp_path / "town.toml"))
        await ingest.poll()
        assert ingest.silent_since == {"r001": STARTED + 50, "r002": STARTED, "r003": STARTED + 50}

    running(database, scenario)


def test_store_that_fails_acknowledges_nothing_and_goes_on(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    mend = broken(monkeypatch, OperationalError("INSERT", {}, Exception("database or disk is full")))

    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        message = batch(blocks({0: 1})).pack()
        ingest.offer(TOPIC, message)
        await until(lambda: sample(metrics, "messages", result="store_error") == 1)
        assert sent == []
        mend()
        ingest.offer(TOPIC, message)
        await until(lambda: len(sent) == 1)
        assert unpack_batch_ack(sent[0].payload).blocks == 1

    running(database, scenario)


@pytest.mark.parametrize("kind", ["sqlite"])  # a server's disk is its own
def test_disk_that_is_full_acknowledges_nothing_until_there_is_room(database: Database) -> None:
    pages = [1_000_000]
    limit = "PRAGMA max_page_count = {}"
    listen(database.reads, "checkout", lambda connection, *_: connection.execute(limit.format(pages[0])))
    with database.reads.begin() as connection:
        pages[0] = connection.execute(text("PRAGMA page_count")).scalar_one()
    database.close()
    message = batch(concatenate([blocks({0: 1}, quarter=2_000_000 + n) for n in range(500)])).pack()

    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        ingest.offer(TOPIC, message)
        await until(lambda: sample(metrics, "store_errors") == 1)
        assert sent == []
        assert ingest.health.alarms() == ["disk_full"]
        pages[0] = 1_000_000
        ingest.offer(TOPIC, message)
        await until(lambda: len(sent) == 1)
        assert ingest.health.alarms() == []

    running(database, scenario)
    assert sum(len(some) for some in reads.all_blocks(database, 0, 2**31 - 1)) == 500


def test_damage_stops_all_acknowledgements_until_the_service_is_started_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    mend = broken(monkeypatch, DatabaseError("INSERT", {}, DamagedError("database disk image is malformed")))

    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        message = batch(blocks({0: 1})).pack()
        ingest.offer(TOPIC, message)
        ingest.offer(TOPIC, message)
        await until(lambda: sample(metrics, "messages", result="store_error") == 2)
        assert ingest.health.alarms() == ["store_damaged"]
        mend()
        ingest.offer(TOPIC, message)
        await until(lambda: sample(metrics, "messages", result="store_damaged") == 1)
        assert sent == []

    running(database, scenario)


def test_message_the_database_will_not_take_does_not_stop_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Writer.commit

    def commit(self: Writer, changes: list[UtilityChange]) -> CommittedCounts:
        if any(isinstance(c, Append) and c.blocks.values[0, 0] == 13 for c in changes):
            raise OverflowError("too large")
        return real(self, changes)

    monkeypatch.setattr(Writer, "commit", commit)

    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        for value in (12, 13, 14):
            ingest.offer(TOPIC, batch(blocks({0: value})).pack())
        await until(lambda: len(sent) == 2 and sample(metrics, "messages", result="store_error") == 1)

    running(database, scenario)


def test_refusals_are_counted_by_reason_and_the_last_is_kept(database: Database) -> None:
    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        for meter in (555, 556):
            ingest.offer(TOPIC, batch(blocks({0: 1}, meter=meter)).pack())
        ingest.offer(TOPIC, batch(blocks({0: 1})).pack())
        await until(lambda: sample(metrics, "messages", result="stored") == 1)
        assert sample(metrics, "refusals", reason="unknown_meter") == 2
        assert "meter 556" in ingest.refused["r001"].text

    running(database, scenario)


def test_messages_that_wait_are_bounded_in_bytes_too(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED_BYTES", 2 * len(HEARTBEAT))

    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        del sent
        for _ in range(3):
            ingest.offer("cw1/r001/u/stat", HEARTBEAT)
        assert sample(metrics, "messages", result="dropped") == 1
        await until(lambda: sample(metrics, "messages", result="seen") == 2)
        for _ in range(2):
            ingest.offer("cw1/r001/u/stat", HEARTBEAT)
        await until(lambda: sample(metrics, "messages", result="seen") == 4)
        assert sample(metrics, "messages", result="dropped") == 1

    running(database, scenario)


def test_message_that_finds_the_queue_full_is_dropped_and_counted(database: Database) -> None:
    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        # The loop gets no turn in between, so nothing is taken out.
        for _ in range(MAX_QUEUED + 3):
            ingest.offer("cw1/r001/u/stat", HEARTBEAT)
        assert sample(metrics, "messages", result="dropped") == 3
        await until(lambda: sample(metrics, "messages", result="seen") == MAX_QUEUED)

    running(database, scenario)


def flood(turn: int) -> bytes:
    """Return a batch of 200 dead letters: small, valid, and much work."""
    dead_letters = [
        DeadLetter(meter=10001, log=1, reason=7, generation=turn, record_id=n, time=STARTED, content=bytes(36))
        for n in range(200)
    ]
    return batch(dead_letters=dead_letters).pack()


def test_a_gateway_that_floods_waits_behind_itself_and_others_are_served(database: Database) -> None:  # req: P7
    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        # The loop gets no turn in between, so all of it waits when the other gateway's batch comes.
        for turn in range(200):
            ingest.offer(TOPIC, flood(turn))
        ingest.offer("cw1/r002/u/batch", batch(blocks({0: 1}, meter=10201), owner="r002").pack())
        await until(lambda: any(message.topic == "cw1/r002/d/ack" for message in sent))
        assert len(sent) <= 4, "a transaction has one turn of the flooder, about one of its batches"

    running(database, scenario)


def test_dead_letters_over_the_rate_are_stored_later_and_what_is_too_much_is_dropped(database: Database) -> None:
    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        with patch.object(ingest._pace, "wait_s", side_effect=[0.0, 0.01, None]):
            for turn in range(3):
                ingest.offer(TOPIC, flood(turn))
        assert sample(metrics, "messages", result="dropped") == 1
        await until(lambda: len(sent) == 2)

    running(database, scenario)


def test_a_message_is_as_much_work_as_its_head_says() -> None:
    assert work_of(flood(0)) == MESSAGE_WORK + 200 * DEAD_LETTER_WORK
    assert work_of(batch(blocks({0: 1})).pack()) == MESSAGE_WORK + 1
    assert work_of(HEARTBEAT) == work_of(b"") == MESSAGE_WORK


def test_poll_sends_commands_given_out_by_another_process(database: Database) -> None:
    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        await ingest.poll()
        assert sent == []
        with database.writes.begin() as connection:
            add_command(connection, OpenCommand(id="c", controller="r001", message="{}", until=2_000_000_000), 1)
        await ingest.poll()
        await ingest.poll()
        assert sent == [Publish("cw1/r001/d/cmd", b"{}")]

    running(database, scenario)


def test_poll_sends_a_planned_change_once_when_its_clock_can_be_trusted(database: Database) -> None:
    due = int(CLOCK.now())
    planned = AskedChange(action=Action.DEAGGREGATE, fields={}, everyone=True, at=due)
    make_change(database, on_machine("anna"), planned, due - 60)

    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        await ingest.poll(send_due)
        await ingest.poll(send_due)
        assert sent == [], "an unsynchronized clock may be ahead"
        ingest.trust = Trust.NETWORK
        for _ in range(3):
            await ingest.poll(send_due)
        assert sorted(message.topic for message in sent) == ["cw1/r001/d/cmd", "cw1/r002/d/cmd"]

    running(database, scenario)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_room_within_the_file_is_room(
    kind: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: used)
    monkeypatch.setattr("utility.database.health.ENOUGH_BYTES", 8192)

    async def short() -> bool:
        ingest = ingest_of(database, CLOCK, health=Health(tmp_path / "utility.db"))
        ingest.health.look(0)
        await ingest.poll()
        ingest.close()
        return ingest.health.short

    Writer(database).commit([append(blocks({0: 1}, quarter=2_000_000 + n)) for n in range(300)])
    assert asyncio.run(short())
    with database.writes.begin() as connection:
        connection.execute(batch_table.delete())
    assert not asyncio.run(short())


def test_an_owner_has_one_turn_whoever_sends_for_it_and_invented_owners_none(database: Database) -> None:
    """Turns go by the owner that a batch names, where the sender may relay for it; else the message is its sender's."""

    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        mine = batch(blocks({0: 1}))
        for owner in ("r001", "r002", "nowhere", "r001x"):
            named = replace(mine, owner=owner).pack()
            assert ingest._owner("cw1/r001/u", TOPIC, named) == "r001", f"r001 may relay for itself alone: {owner}"
        ingest._core.registry = replace(
            ingest._core.registry,
            meters={
                number: replace(entry, backups=frozenset({"r001"})) if entry.microgrid == "r002" else entry
                for number, entry in ingest._core.registry.meters.items()
            },
        )
        assert ingest._owner("cw1/r001/u", TOPIC, replace(mine, owner="r002").pack()) == "r002"
        assert ingest._owner("cw1/r002/u", "cw1/r002/u/batch", mine.pack()) == "r002"
        assert ingest._owner("cw1/r001/u", "cw1/r001/u/stat", HEARTBEAT) == "r001"
        assert ingest._owner("cw1/r001/u", TOPIC, b"CWB1") == "r001"
        ingest._core.registry = replace(ingest._core.registry, public=frozenset({"r002"}))
        assert ingest._weight("r002") == 2 * ingest._weight("r001")

    running(database, scenario)


def _has(sent: list[Publish], number: int) -> bool:
    return len(sent) == number


def test_messages_that_wait_for_minutes_slow_their_gateways_down(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:  # req: C6
    time = [float(STARTED)]
    monkeypatch.setattr(Clock, "now", lambda _: time[0])

    async def scenario(ingest: Ingest, metrics: UtilityMetrics, sent: list[Publish]) -> None:
        for number in range(1, 5):
            ingest.offer(TOPIC, batch(blocks({number: 1})).pack())
            time[0] += 400
            await until(partial(_has, sent, number))
        assert [unpack_batch_ack(one.payload).slow_s for one in sent] == [0, SLOW_S, SLOW_S, SLOW_S]
        assert metrics.registry.get_sample_value("commonwatt_utility_lags") == 1

    running(database, scenario)


MARKS_CLOCK = Clock(origin=1_800_000_000, monotonic_origin=0, speed=0)
MARKS_HEARTBEAT = Heartbeat(
    time=1_800_000_000, store=7, backlog_parts=0, backlog_events=0, backlog_letters=0, aggregation="none"
)
Kept = list[dict[str, object]]


class Service:
    """A running service's ingest, without its loop."""

    def __init__(self, database: Database) -> None:
        self.database, self.sent = database, list[Publish]()
        self.metrics = UtilityMetrics()
        self.ingest = ingest_of(database, MARKS_CLOCK, self.sent.append, metrics=self.metrics)

    def take(self, leaf: str, *payloads: bytes) -> list[BatchAck]:
        """Take in messages of a gateway in one transaction; return the acknowledgements."""
        self.sent.clear()
        asyncio.run(self.ingest.take_in([(f"cw1/r001/u/{leaf}", payload) for payload in payloads]))
        return [unpack_batch_ack(one.payload) for one in self.sent if one.topic.endswith(ACKS)]

    def relay(self, *slots: int, flags: BatchFlag = BatchFlag.MARK) -> list[BatchAck]:
        """Take in a batch for each slot."""
        return self.take("batch", *(replace(batch(blocks({slot: slot})), flags=flags).pack() for slot in slots))

    def history(self) -> dict[int, int]:
        """Return what a gateway that asks is told."""
        (ack,) = self.relay(0, flags=BatchFlag.MARK | BatchFlag.HISTORY)
        return dict(ack.marks[1:])

    def heartbeat(self, mark: Mark) -> None:
        """Take in a heartbeat of a gateway that saw a mark."""
        self.take("stat", MARKS_HEARTBEAT.model_copy(update={"mark": mark}).pack())

    @property
    def went_back(self) -> float | None:
        """How often it noticed."""
        return self.metrics.registry.get_sample_value("commonwatt_utility_database_went_back_total")


@pytest.fixture
def service(database: Database) -> Iterator[Service]:
    made = Service(database)
    yield made
    made.ingest.close()


def snapshot(database: Database) -> Kept:
    """Return the settings, for ``put_back``."""
    with database.reads.begin() as connection:
        return [dict(row._mapping) for row in connection.execute(select(setting))]


def put_back(database: Database, kept: Kept) -> None:
    """Let the database have the settings of a snapshot, as if all of it went back."""
    with database.writes.begin() as connection:
        connection.execute(setting.delete())
        connection.execute(setting.insert(), kept)


def slots(database: Database) -> int:
    return sum(int((each.quality > 0).sum()) for each in all_blocks(database, 0, 2**31 - 1))


def test_each_commit_has_a_mark_of_its_own_and_its_batches_share_it(service: Service) -> None:
    first, second = service.relay(1, 2)
    (third,) = service.relay(3)
    run = first.marks[0][0]
    assert first.marks == second.marks == ((run, 1),)
    assert third.marks == ((run, 2),)


def test_an_older_gateway_is_answered_without_a_mark(service: Service) -> None:
    (ack,) = service.relay(1, flags=BatchFlag(0))
    assert len(ack.pack()) == 52


def test_a_service_that_starts_again_tells_its_past_and_what_gateways_saw_is_in_it(service: Service) -> None:
    (ack,) = service.relay(1)
    again = Service(service.database)
    history = again.history()
    assert history[ack.marks[0][0]] == ack.marks[0][1]
    again.heartbeat(ack.marks[0])
    assert again.went_back == 0
    again.ingest.close()


def test_a_database_that_goes_back_under_the_service_is_noticed_at_the_next_commit(service: Service) -> None:
    (before,) = service.relay(1)
    kept = snapshot(service.database)
    (lost,) = service.relay(2)
    put_back(service.database, kept)
    (after,) = service.relay(3)
    assert after.utility_store != lost.utility_store, "older gateways send their backups"
    run, counter = before.marks[0]
    assert after.marks[0][0] != run
    assert service.history()[run] == counter < lost.marks[0][1]
    assert service.went_back == 1


def test_a_restored_database_is_noticed_by_what_a_gateway_saw_and_once(service: Service) -> None:
    (before,) = service.relay(1)
    kept = snapshot(service.database)
    (lost,) = service.relay(2)
    put_back(service.database, kept)
    again = Service(service.database)
    (after,) = again.relay(3)
    assert after.utility_store == before.utility_store, "nothing shows it yet"
    for _ in range(2):
        again.heartbeat(lost.marks[0])
        again.heartbeat((before.marks[0][0], 99))
    (told,) = again.relay(4)
    assert told.utility_store != before.utility_store
    assert again.went_back == 1
    assert again.history()[before.marks[0][0]] == before.marks[0][1]
    again.ingest.close()


def test_two_services_on_one_database_lose_nothing_and_cry_no_loss(service: Service) -> None:
    other = Service(service.database)
    for slot in range(6):
        assert len((service, other)[slot % 2].relay(slot)) == 1
    assert service.went_back == other.went_back == 0
    assert slots(service.database) == 6
    other.ingest.close()


def test_a_store_made_anew_by_a_person_has_no_past(service: Service) -> None:
    (ack,) = service.relay(1)
    again = Service(service.database)
    again.relay(2)
    with service.database.writes.begin() as connection:
        new_store_id(connection)
    third = Service(service.database)
    assert ack.marks[0][0] not in third.history()
    for each in (again, third):
        each.ingest.close()


def test_a_message_that_the_database_refuses_does_not_give_the_others_a_false_mark(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = service.ingest._writer.commit

    def refusing(changes: list[object]) -> object:
        if len(changes) > 1:
            raise ValueError("one of them is bad")
        return commit(changes)  # type: ignore[arg-type]

    monkeypatch.setattr(service.ingest._writer, "commit", refusing)
    assert [ack.marks[0][1] for ack in service.relay(1, 2, 3)] == [1, 2, 3]
    with service.database.reads.begin() as connection:
        assert (read_setting(connection, "run") or "").endswith(" 3")
