"""What the utility takes while its clock is not confirmed, and what becomes of the rest."""

import asyncio

import pytest

from commonwatt.model.blocks import concatenate
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import EventRecord, Log, Rejection
from commonwatt.model.time.now import Trust
from commonwatt.model.units import MADE, MAX_EPOCH
from commonwatt.protocol.batches import Batch
from commonwatt.protocol.dead_letters import DeadLetter, LocalReason
from commonwatt.runtime.clock import Clock
from harness.real import databases
from harness.surroundings.records import a_letter, a_record
from harness.surroundings.sent import batch, blocks
from harness.surroundings.utility import ingest_of
from utility.access.actor import on_machine
from utility.database.database import Database
from utility.readings.decisions import decide_letters
from utility.readings.store import confirmed, reads
from utility.readings.store.compactor import Compactor
from utility.readings.store.dead_letters import dead_letters
from utility.readings.store.quarters import newest_of_two
from utility.readings.store.retention import Retention

DAY = 96  # quarters
TODAY = 2_000_000  # quarter; 2027-01-15
NOW = TODAY * 900
METERS = {"r001": 10001, "r002": 20001}
READING = a_record(NOW, 5, account=9)
BOOTED = 1_000  # a machine without a clock battery, epoch seconds


class Utility:
    """The utility's ingest with a clock that stands still."""

    def __init__(self, database: Database, now: int = BOOTED, trust: Trust = Trust.NONE) -> None:
        self.database = database
        self.clock = Clock(origin=now, monotonic_origin=0, speed=0)
        self.trust = trust
        self.sent: list[Publish] = []

    def play(self, *messages: tuple[str, Batch], polls: int = 0) -> None:
        """Start the service, let it take messages one by one, and look around so many times."""

        async def play() -> None:
            ingest = ingest_of(self.database, self.clock, self.sent.append, trust=self.trust)
            try:
                for sender, given in messages:
                    await ingest.take_in([(f"cw1/{sender}/u/batch", given.pack())])
                for _ in range(polls):
                    await ingest.poll()
            finally:
                ingest.close()

        asyncio.run(play())

    def confirm(self, now: int = NOW) -> None:
        self.clock, self.trust = Clock(origin=now, monotonic_origin=0, speed=0), Trust.NETWORK

    def quarters(self, sender: str) -> list[int]:
        keys = concatenate([*reads.all_blocks(self.database, 0, MAX_EPOCH // 900)]).keys()
        return sorted(quarter for meter, _, quarter in keys if meter == METERS[sender])

    def letters(self) -> list[tuple[str, int]]:
        with self.database.reads.begin() as connection:
            return sorted((kept.state, kept.dead_letter.reason) for kept in dead_letters(connection, 10_000))


def of(sender: str, *quarters: int) -> tuple[str, Batch]:
    """Return a batch with a reading in each of some quarters, newest first, as a backlog is sent."""
    made = [blocks({0: 5}, meter=METERS[sender], quarter=quarter) for quarter in sorted(quarters, reverse=True)]
    return sender, batch(concatenate(made), owner=sender)


def events(database: Database) -> list[int]:
    return [record.time for _, record in reads.all_events(database, 0, MAX_EPOCH + 1)]


def test_the_year_2106_is_neither_stored_nor_served(database: Database) -> None:
    utility = Utility(database)
    last = MAX_EPOCH // 900 - 1
    utility.play(of("r001", last, MADE // 900))
    assert utility.quarters("r001") == [MADE // 900]
    assert utility.letters() == [("quarantined", LocalReason.AHEAD)]
    utility.confirm()
    utility.play(polls=1)
    assert utility.quarters("r001") == [MADE // 900]
    assert utility.letters() == [("refused", LocalReason.AHEAD)]


@databases.on_both_kinds
def test_a_refill_after_ten_days_without_network_time_is_whole_once_the_clock_is_confirmed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmed, "AT_ONCE", 7)
    before = TODAY - 10 * DAY
    utility = Utility(database, before * 900, Trust.NETWORK)
    utility.play(of("r001", before), of("r002", before))
    # A power cut; then ten days without a network, and a machine that starts in 1970.
    utility = Utility(database)
    days = [[TODAY - day * DAY - 24 * n for n in range(4)] for day in range(10)]
    utility.play(*(of(sender, *day) for day in days for sender in METERS))
    stored = utility.quarters("r001")
    assert before + 8 * DAY - 24 <= stored[-1] <= before + 8 * DAY
    assert {state for state, _ in utility.letters()} == {"quarantined"}
    sent = len(utility.sent)
    assert sent == 20, "every batch is acknowledged"
    utility.confirm()
    utility.play(polls=8)
    for sender in METERS:
        assert utility.quarters(sender) == sorted({before, *(quarter for day in days for quarter in day)})
    assert set(utility.letters()) == {("released", LocalReason.AHEAD)}


def test_one_sender_does_not_move_the_bound_two_do(database: Database) -> None:
    utility = Utility(database, NOW - 900, Trust.NETWORK)
    utility.play(of("r001", TODAY - 2), of("r002", TODAY - 2))
    utility = Utility(database)
    ratchet = [TODAY - 2 + week * 7 * DAY for week in range(1, 9)]
    utility.play(*(of("r001", quarter) for quarter in ratchet))
    assert utility.quarters("r001") == [TODAY - 2, ratchet[0]], "a week ahead of the second sender, no further"
    # Also after a restart.
    utility.play(of("r001", ratchet[1]))
    assert utility.quarters("r001")[-1] == ratchet[0]
    utility.play(of("r002", ratchet[0]), of("r001", ratchet[2]), of("r001", ratchet[1] - 1))
    assert utility.quarters("r001")[-1] == ratchet[1] - 1


def test_an_event_ahead_of_the_clock_waits_too(database: Database) -> None:
    utility = Utility(database)
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=10001, time=NOW)
    far = EventRecord(previous_state=1, new_state=0, record_id=2, meter_id=10001, time=MAX_EPOCH)
    utility.play(("r001", batch(events=[(1, event), (1, far)])))
    assert utility.letters() == [("quarantined", LocalReason.AHEAD)] * 2
    assert events(database) == []
    with pytest.raises(ConfigError, match="is an event; it is decided on by itself"):
        decide_letters(database, [(1, "released")], on_machine("clerk"), "", NOW)
    utility.confirm()
    # What waits is not dropped with the readings of its time, 1970.
    assert not Retention(database, 1).apply(TODAY)
    utility.play(polls=1)
    assert events(database) == [NOW]
    assert utility.letters() == [("refused", LocalReason.AHEAD), ("released", LocalReason.AHEAD)]


def test_an_implausible_reading_ahead_of_the_clock_waits_for_a_person(database: Database) -> None:
    utility = Utility(database)
    utility.play(("r001", batch(blocks({0: 250_001}, quarter=TODAY))))
    assert [state for state, _ in utility.letters()] == ["quarantined"]
    utility.confirm()
    utility.play(polls=2)
    assert [state for state, _ in utility.letters()] == ["quarantined"]


def test_what_a_sender_calls_ahead_is_neither_stored_nor_stops_what_waits(database: Database) -> None:
    """A stolen gateway relays events of another microgrid, its own implausible readings, and no record at all."""
    utility = Utility(database)
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=20001, time=NOW - 900)
    record = READING._replace(reading=250_001)
    forged = [
        DeadLetter(meter=meter, log=log, reason=LocalReason.AHEAD, generation=1, record_id=1, time=NOW, content=content)
        for meter, log, content in (
            (20001, Log.EVENT, event.pack()),
            (10001, Log.EVENT, b"no event"),
            (10001, Log.HISTORY, record.pack()),
        )
    ]
    utility.play(("r001", batch(dead_letters=forged)), of("r001", TODAY))
    assert utility.letters() == [("", Rejection.FUTURE)] * 3 + [("quarantined", LocalReason.AHEAD)]
    utility.confirm()
    utility.play(polls=2)
    assert events(database) == []
    assert utility.quarters("r001") == [TODAY]
    assert utility.letters() == [("", Rejection.FUTURE)] * 3 + [("released", LocalReason.AHEAD)]


def test_records_of_other_accounts_that_an_earlier_gateway_rejected_wait_too(database: Database) -> None:
    utility = Utility(database)
    rejected = [
        a_letter(READING._replace(record_id=number, reading=reading), Rejection.WRONG_ACCOUNT, time=NOW)
        for number, reading in ((1, 5), (2, 250_001))
    ]
    utility.play(("r001", batch(dead_letters=rejected)))
    assert utility.letters() == [("quarantined", Rejection.IMPLAUSIBLE), ("quarantined", LocalReason.AHEAD)]
    utility.confirm()
    utility.play(polls=1)
    assert utility.quarters("r001") == [TODAY]
    assert utility.letters() == [("quarantined", Rejection.IMPLAUSIBLE), ("released", LocalReason.AHEAD)]


@databases.on_both_kinds
def test_the_two_newest_senders_are_found_among_parts_and_blocks(database: Database) -> None:
    with database.reads.begin() as connection:
        assert newest_of_two(connection) == {}
    utility = Utility(database, NOW, Trust.NETWORK)
    utility.play(of("r001", TODAY - 3, TODAY - 2))
    with database.reads.begin() as connection:
        assert newest_of_two(connection) == {"r001": TODAY - 2}
    utility.play(of("r002", TODAY - 9))
    compactor = Compactor(database)
    while (replacement := compactor.plan(NOW + 7200)) is not None:
        compactor.apply(replacement)
    with database.reads.begin() as connection:
        assert newest_of_two(connection) == {"r001": TODAY - 2, "r002": TODAY - 9}
