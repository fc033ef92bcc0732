"""A record of another account is a reading like any other: the dated registry says whose, and a table what differs."""

from collections.abc import Callable
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import from_records
from commonwatt.model.effects import Write
from commonwatt.model.records import HistoryRecord, RecordType, Rejection
from commonwatt.model.time.now import Now, Trust
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.batches import Batch
from commonwatt.protocol.dead_letters import LocalReason
from harness.real import databases
from harness.surroundings.records import a_letter, a_record
from utility.database.database import Database
from utility.readings.core import Core
from utility.readings.events import FromGateway
from utility.readings.store import reads
from utility.readings.store.dead_letters import dead_letters
from utility.readings.store.writer import Writer
from utility.registry.accounts import Holding
from utility.registry.store.account_differences import account_differences
from utility.registry.store.accounts import load_dated_registry, save_dated_registry
from utility.registry.store.registry import load_snapshot

QUARTER = 2_000_000
NOW = Now((QUARTER + 1) * QUARTER_S, Trust.NETWORK)

Send = Callable[..., None]


def record(slot: int, account: int, **changes: int) -> HistoryRecord:
    start = QUARTER * QUARTER_S + 15 * slot
    made = a_record(start, 5 + slot, record_id=slot + 1, account=account)
    return made._replace(**changes)


@pytest.fixture
def send(database: Database) -> Send:
    """Send records as dead letters about their account, and blocks, from a gateway."""
    with database.reads.begin() as connection:
        core = Core(1, load_snapshot(connection), 60)
    writer = Writer(database)

    def sends(*records: HistoryRecord, sender: str = "r001", in_blocks: bool = False) -> None:
        letters = [a_letter(one, Rejection.WRONG_ACCOUNT, meter=10001, time=NOW) for one in records]
        blocks = from_records(records if in_blocks else ())
        sent = Batch(
            owner="r001",
            store=1,
            sequence=1,
            time=NOW,
            keys=blocks.keys(),
            payloads=pack(blocks),
            events=[],
            dead_letters=letters,
        )
        step = core.handle(FromGateway(f"cw1/{sender}/u/batch", sent.pack()), NOW)
        writer.commit([effect.change for effect in step.effects if isinstance(effect, Write)])

    return sends


def slots(database: Database) -> dict[int, int]:
    with database.reads.begin() as connection:
        number = reads.meter_number(connection, 10001)
    assert number is not None
    blocks = reads.readings(database, number, RecordType.THROUGH, QUARTER, QUARTER)
    return {int(slot): int(blocks.values[0, slot]) for slot in blocks.quality[0].nonzero()[0]} if len(blocks) else {}


def told(database: Database) -> list[tuple[int | str, int, int]]:
    with database.reads.begin() as connection:
        return [(row.told, row.registered, row.reports) for row in account_differences(connection, 9)]


@databases.on_both_kinds
def test_records_that_an_earlier_gateway_rejected_are_readings(send: Send, database: Database) -> None:
    send(record(0, 9), record(1, 9), record(2, 1))
    assert slots(database) == {0: 5, 1: 6, 2: 7}
    assert told(database) == [(9, 1, 2)], "account 1 has the meter, so nothing differs there"
    with database.reads.begin() as connection:
        assert dead_letters(connection, 9) == []


def test_a_record_that_its_gateway_accepted_and_told_counts_once(send: Send, database: Database) -> None:
    send(record(0, 9), in_blocks=True)
    send(record(0, 9), in_blocks=True)
    assert slots(database) == {0: 5}
    assert told(database) == [(9, 1, 2)]


def test_the_account_of_the_records_time_is_compared(database: Database) -> None:
    with database.writes.begin() as connection:
        before = load_dated_registry(connection)
        holdings = (Holding(account=1, start=0, end=QUARTER), Holding(account=9, start=QUARTER))
        moved = replace(before.meters[10001], holdings=holdings)
        after = replace(before, meters={**before.meters, 10001: moved})
        save_dated_registry(connection, before, after, "anna", 1, ZoneInfo("UTC"))
        registry = load_snapshot(connection)
    assert registry.meters[10001].account_at(NOW) == 9
    assert registry.meters[10001].account_at(QUARTER * QUARTER_S - 1) == 1


@pytest.mark.parametrize(
    ("wrong", "sender", "reason"),
    [
        ({"reading": 250_001}, "r001", Rejection.IMPLAUSIBLE),
        ({"reading": -1}, "r001", Rejection.NEGATIVE),
        ({"meter_id": 10002}, "r001", Rejection.WRONG_METER),
        ({}, "r002", LocalReason.NOT_ASSIGNED),
    ],
)
def test_a_record_with_another_fault_too_stays_apart(
    send: Send, database: Database, wrong: dict[str, int], sender: str, reason: int
) -> None:
    send(record(0, 9, **wrong), sender=sender)
    assert (slots(database), told(database)) == ({}, [])
    with database.reads.begin() as connection:
        (kept,) = dead_letters(connection, 9)
    assert kept.dead_letter.reason == reason
