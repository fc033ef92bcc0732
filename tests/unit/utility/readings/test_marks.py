"""A database that went back is noticed, whatever the cause, and nothing that it does not have is acknowledged."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import select

from commonwatt.model.effects import Publish
from commonwatt.protocol.batches import BatchAck, BatchFlag, Mark, unpack_batch_ack
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.topics import ACKS
from commonwatt.runtime.clock import Clock
from harness.real import databases
from harness.surroundings.sent import batch, blocks
from harness.surroundings.utility import ingest_of
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database, new_store_id, read_setting
from utility.database.tables import setting
from utility.readings.store.reads import all_blocks

kind = databases.both_kinds

CLOCK = Clock(origin=1_800_000_000, monotonic_origin=0, speed=0)
HEARTBEAT = Heartbeat(
    time=1_800_000_000, store=7, backlog_parts=0, backlog_events=0, backlog_letters=0, aggregation="none"
)
Kept = list[dict[str, object]]


class Service:
    """A running service's ingest, without its loop."""

    def __init__(self, database: Database) -> None:
        self.database, self.sent = database, list[Publish]()
        self.metrics = UtilityMetrics()
        self.ingest = ingest_of(database, CLOCK, self.sent.append, metrics=self.metrics)

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
        self.take("stat", HEARTBEAT.model_copy(update={"mark": mark}).pack())

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
