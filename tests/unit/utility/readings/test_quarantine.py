"""Readings that are held back: implausible ones, and those of a clock that is not confirmed."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from commonwatt.model.blocks import concatenate, join, make_blocks
from commonwatt.model.effects import Publish, Write
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import EventRecord, HistoryRecord, Log, Rejection
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import MADE, MAX_EPOCH
from commonwatt.protocol.batches import Batch, BatchRefusal, unpack_batch_ack
from commonwatt.protocol.dead_letters import DeadLetter, DeadLetterSource, LocalReason
from commonwatt.runtime.clock import Clock
from harness.commands import shown, typed
from harness.surroundings import databases
from harness.surroundings.messages import a_letter, a_record, batch, blocks, ingest_of
from utility.access.people import on_machine
from utility.database.checks import row_crc
from utility.database.database import Database
from utility.readings.core import Core, FromGateway
from utility.readings.decisions import decide_letters
from utility.readings.store import completeness, quarantine, reads
from utility.readings.store.compactor import Compactor
from utility.readings.store.dead_letters import dead_letters
from utility.readings.store.gaps import GapFinder
from utility.readings.store.quarantine import (
    QUARANTINED,
    REFUSED,
    RELEASED,
    QuarantineDecision,
    count_quarantined,
    decide,
)
from utility.readings.store.quarters import newest_of_two
from utility.readings.store.retention import Retention
from utility.readings.store.writer import Writer
from utility.readings.tables import batch as batch_table
from utility.readings.tables import compacted, quarantined
from utility.registry.store.registry import load_snapshot
from utility.registry.tables import meter

QUARTER = 2_000_000
BEGIN = QUARTER * 900
NOW = BEGIN + 900
LATER = NOW + 7200
AGE = 1800
TOO_MUCH = 250_001  # in one slot, through a service of 200 A: houses have that


class Bench:
    """The utility's core and store, fed with batches."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.reads.begin() as connection:
            self.core = Core(7, load_snapshot(connection), AGE)
        self.writer = Writer(database)

    def send(self, batch: Batch, sender: str = "r001") -> BatchRefusal:
        step = self.core.handle(FromGateway(f"cw1/{sender}/u/batch", batch.pack()), Now(NOW, Trust.NONE))
        self.writer.commit([effect.change for effect in step.effects if isinstance(effect, Write)])
        (ack,) = [effect for effect in step.effects if isinstance(effect, Publish)]
        told = unpack_batch_ack(ack.payload)
        assert told.status or (told.blocks, told.dead_letters) == (len(batch.keys), len(batch.dead_letters))
        return told.status

    def slots(self) -> dict[int, int]:
        """The values of meter 10001's slots in the quarter, as everybody reads them."""
        blocks = reads.readings(self.database, 1, 3, QUARTER, QUARTER)
        found = blocks if len(blocks) else make_blocks([(10001, 3, QUARTER)], [[0] * 60], [[0] * 60])
        return {s: v for s, (v, q) in enumerate(zip(found.values[0], found.quality[0], strict=True)) if q}

    def states(self) -> list[str]:
        with self.database.reads.begin() as connection:
            return [kept.state for kept in dead_letters(connection, 100)]

    def decide(self, no: int, state: str) -> None:
        with self.database.writes.begin() as connection:
            decide(connection, QuarantineDecision(no, state, "Ann", "new service", LATER))

    def told(self) -> dict[str, int]:
        (one,) = completeness.completeness(self.database, QUARTER, QUARTER + 1)
        return {name: count for name, count in vars(one.counts).items() if count}


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


def record(slot: int, reading: int = TOO_MUCH, **fields: int) -> HistoryRecord:
    start = BEGIN + 15 * slot
    given = {"record_type": 3, "lossy": 0, "record_id": 9, "meter_id": 10001, "account": 1, "start": start}
    return HistoryRecord(**{**given, "end": start + 15, "reading": reading, **fields})


def relayed(content: bytes, reason: int = Rejection.IMPLAUSIBLE, meter: int = 10001) -> DeadLetter:
    return DeadLetter(meter=meter, log=1, reason=reason, generation=1, record_id=9, time=NOW, content=content)


@databases.on_both_kinds
def test_a_relayed_letter_is_held_until_it_is_released(bench: Bench) -> None:
    sent = batch(blocks({0: 5}), dead_letters=[relayed(record(1).pack())])
    bench.send(sent)
    bench.send(sent)
    assert (bench.slots(), bench.states()) == ({0: 5}, [QUARANTINED])
    assert bench.told() == {"exact": 1, "quarantined": 1, "missing": 58}

    bench.decide(1, RELEASED)
    assert bench.slots() == {0: 5, 1: TOO_MUCH}
    assert bench.told() == {"exact": 2, "missing": 58}
    bench.send(sent)
    assert bench.states() == [RELEASED], "what was decided stays so, when it comes again"


def test_a_refused_reading_stays_a_letter_and_its_slot_says_why_it_is_missing(bench: Bench) -> None:
    bench.send(batch(blocks({0: 5}), dead_letters=[relayed(record(1).pack())]))
    bench.decide(1, REFUSED)
    assert (bench.slots(), bench.states()) == ({0: 5}, [REFUSED])
    assert bench.told() == {"exact": 1, "refused": 1, "missing": 58}
    with bench.database.reads.begin() as connection:
        (kept,) = dead_letters(connection, 10)
        assert kept.dead_letter.content == record(1).pack()
        assert kept.decided.startswith("Ann, ")
        assert kept.decided.endswith(": new service")


def test_the_utility_sets_apart_what_a_gateway_let_through(bench: Bench) -> None:
    sent = batch(concatenate([blocks({0: 5, 1: TOO_MUCH, 2: 250_000}), blocks({4: 1}, quarter=QUARTER - 1)]))
    assert bench.send(sent) is BatchRefusal.NONE
    bench.send(sent)
    assert (bench.slots(), bench.states()) == ({0: 5, 2: 250_000}, [QUARANTINED])
    assert sum(blocks.values.sum() for blocks in reads.all_blocks(bench.database, 0, 2**31 - 1)) == 250_006
    bench.decide(1, RELEASED)
    assert bench.slots() == {0: 5, 1: TOO_MUCH, 2: 250_000}


def test_of_different_values_of_one_slot_only_the_implausible_are_set_apart(bench: Bench) -> None:
    bench.send(batch(join([blocks({0: 5}), blocks({0: TOO_MUCH}), blocks({0: 7}), blocks({0: TOO_MUCH + 1})])))
    (good,) = reads.all_blocks(bench.database, 0, 2**31 - 1)
    assert (good.values[0, 0], good.extras_of(0)) == (5, [(0, 7)])
    bench.decide(1, RELEASED)
    (released,) = reads.all_blocks(bench.database, 0, 2**31 - 1)
    assert released.extras_of(0) == [(0, 7), (0, TOO_MUCH), (0, TOO_MUCH + 1)]


def test_a_block_of_nothing_but_implausible_slots_leaves_no_part(bench: Bench) -> None:
    bench.send(batch(blocks(dict.fromkeys(range(60), TOO_MUCH))))
    with bench.database.reads.begin() as connection:
        assert connection.execute(select(func.count()).select_from(batch_table)).scalar_one() == 0
        assert connection.execute(select(quarantined.c.mask)).scalar_one() == 2**60 - 1
        assert count_quarantined(connection) == 1


def test_a_block_without_any_slot_is_acknowledged_and_leaves_no_part(bench: Bench) -> None:
    bench.send(batch(concatenate([blocks({}), blocks({1: 5}, quarter=QUARTER - 1)])))
    with bench.database.reads.begin() as connection:
        assert connection.execute(select(batch_table.c.first_quarter, batch_table.c.blocks)).all() == [(QUARTER - 1, 1)]


@pytest.mark.parametrize(
    "dead_letter",
    [
        relayed(record(1).pack(), Rejection.UNALIGNED),
        relayed(record(1).pack(), meter=20001),
        relayed(record(1, meter_id=20001).pack()),
        relayed(record(1).pack(), meter=555),
        relayed(record(1, record_type=4).pack()),
        relayed(record(1, start=BEGIN + 1).pack()),
        relayed(b"nonsense"),
        DeadLetter(
            meter=10001,
            log=DeadLetterSource.BLOCK,
            reason=15,
            generation=0,
            record_id=1,
            time=NOW,
            content=b"\x03" + bytes(4) + b"damaged payload",
        ),
        DeadLetter(
            meter=10001, log=DeadLetterSource.BLOCK, reason=15, generation=0, record_id=1, time=NOW, content=b""
        ),
    ],
)
def test_a_letter_that_can_never_be_a_reading_is_not_held(bench: Bench, dead_letter: DeadLetter) -> None:
    bench.send(batch(dead_letters=[dead_letter]))
    assert bench.states() == [""]
    with pytest.raises(ConfigError, match="is not quarantined"):
        bench.decide(1, RELEASED)


def test_a_decision_is_taken_once_and_of_a_letter_that_is_there(bench: Bench) -> None:
    bench.send(batch(dead_letters=[relayed(record(1).pack())]))
    with pytest.raises(ConfigError, match="dead letter 5: there is none"):
        bench.decide(5, RELEASED)
    bench.decide(1, REFUSED)
    with pytest.raises(ConfigError, match="is refused already"):
        bench.decide(1, RELEASED)


@pytest.mark.parametrize(("state", "slots"), [(RELEASED, {1: TOO_MUCH, 2: TOO_MUCH}), (REFUSED, {})])
def test_what_is_held_can_be_decided_after_its_meter_got_another_account_and_other_types(
    bench: Bench, state: str, slots: dict[int, int]
) -> None:
    bench.send(batch(blocks({2: TOO_MUCH}), dead_letters=[relayed(record(1).pack())]))
    with bench.database.writes.begin() as connection:
        row = connection.execute(select(meter).where(meter.c.label == "10001")).one()
        changed = {**row._mapping, "account": 7, "record_types": "1,2"}
        connection.execute(update(meter).where(meter.c.no == row.no).values(changed | {"crc": row_crc(meter, changed)}))
    for no in (1, 2):
        bench.decide(no, state)
    assert (bench.slots(), bench.states()) == (slots, [state, state])


def test_held_and_refused_slots_are_not_asked_for(bench: Bench) -> None:
    ordinary = blocks({slot: 1 for slot in range(60) if slot not in (3, 4)})
    more = relayed(record(4, reading=TOO_MUCH + 1).pack())
    bench.send(batch(ordinary, dead_letters=[relayed(record(3).pack()), more]))
    bench.decide(1, REFUSED)
    finder = GapFinder(bench.database)
    assert QUARTER not in {wanted.quarter for _, _, wanted in finder.plan(LATER, AGE).wanted}


def test_a_released_reading_is_compacted_like_any_other(bench: Bench) -> None:
    compactor = Compactor(bench.database)
    bench.send(batch(blocks({0: 5}), dead_letters=[relayed(record(1).pack())]))
    for state in (None, RELEASED):
        if state:
            bench.decide(1, state)
        replacement = compactor.plan(LATER)
        assert replacement is not None
        compactor.apply(replacement)
    with bench.database.reads.begin() as connection:
        assert connection.execute(select(compacted.c.total)).scalars().all() == [TOO_MUCH + 5]


def test_a_long_record_is_held_whole(bench: Bench) -> None:
    bench.send(batch(dead_letters=[relayed(record(58, end=BEGIN + 900 + 45).pack())]))
    with bench.database.reads.begin() as connection:
        found = connection.execute(
            select(quarantined.c.quarter, quarantined.c.mask).order_by(quarantined.c.quarter)
        ).all()
    assert [tuple(row) for row in found] == [(QUARTER, 3 << 58), (QUARTER + 1, 7)]
    bench.decide(1, RELEASED)
    assert bench.slots() == {58: TOO_MUCH, 59: TOO_MUCH}


@databases.on_both_kinds
def test_a_clerk_sees_decides_and_counts(bench: Bench, tmp_path: Path, url: str) -> None:
    bench.send(
        batch(dead_letters=[relayed(record(1).pack()), relayed(record(2).pack()), relayed(b"x", Rejection.EMPTY)])
    )
    config = tmp_path / "utility.toml"
    config.write_text(f'[utility]\ndatabase = "{url}"\n')

    def run(decision: str, *words: str, code: int = 0) -> str:
        return typed(config, bench.database, "do", "dead-letters/decide", f"decision={decision}", *words, code=code)

    letters = shown(config, "dead-letters", "state=quarantined")["dead_letters"]
    assert letters[-1]["told"].startswith("type 3, 08:00:15-08:00:30, 250001 mWh")
    assert "changed 1 person ann" in run("released", "numbers=3", "why=seen", "--as", "ann")
    assert "changed 1 person ann" in run("refused", "numbers=2", "why=seen", "--as", "ann")
    letters = shown(config, "dead-letters", "meter=10001")["dead_letters"]
    assert {(one["reason_text"], one["state"]) for one in letters} == {
        ("empty", ""), ("implausible", "released"), ("implausible", "refused"),
    }  # fmt: skip
    assert all(one["decided"].startswith("ann, ") for one in letters if one["state"])
    assert [one["reason_text"] for one in shown(config, "dead-letters", "reason=empty")["dead_letters"]] == ["empty"]
    assert shown(config, "dead-letters", "state=quarantined")["dead_letters"] == []
    assert "is released already" in run("refused", "numbers=3", "--as", "ann", code=2)
    assert "log in with: commonwatt login" in run("refused", "numbers=3", code=2)
    assert "numbers" in run("refused", "--as", "ann", code=2)


DAY = 96  # quarters
TODAY = 2_000_000  # quarter; 2027-01-15
UNCONFIRMED_NOW = TODAY * 900
METERS = {"r001": 10001, "r002": 20001}
READING = a_record(UNCONFIRMED_NOW, 5, account=9)
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

    def confirm(self, now: int = UNCONFIRMED_NOW) -> None:
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
    monkeypatch.setattr(quarantine, "AT_ONCE", 7)
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
    utility = Utility(database, UNCONFIRMED_NOW - 900, Trust.NETWORK)
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
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=10001, time=UNCONFIRMED_NOW)
    far = EventRecord(previous_state=1, new_state=0, record_id=2, meter_id=10001, time=MAX_EPOCH)
    utility.play(("r001", batch(events=[(1, event), (1, far)])))
    assert utility.letters() == [("quarantined", LocalReason.AHEAD)] * 2
    assert events(database) == []
    with pytest.raises(ConfigError, match="is an event; it is decided on by itself"):
        decide_letters(database, [(1, "released")], on_machine("clerk"), "", UNCONFIRMED_NOW)
    utility.confirm()
    # What waits is not dropped with the readings of its time, 1970.
    assert not Retention(database, 1).apply(TODAY)
    utility.play(polls=1)
    assert events(database) == [UNCONFIRMED_NOW]
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
    event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=20001, time=UNCONFIRMED_NOW - 900)
    record = READING._replace(reading=250_001)
    forged = [
        DeadLetter(
            meter=meter,
            log=log,
            reason=LocalReason.AHEAD,
            generation=1,
            record_id=1,
            time=UNCONFIRMED_NOW,
            content=content,
        )
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
        a_letter(READING._replace(record_id=number, reading=reading), Rejection.WRONG_ACCOUNT, time=UNCONFIRMED_NOW)
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
    utility = Utility(database, UNCONFIRMED_NOW, Trust.NETWORK)
    utility.play(of("r001", TODAY - 3, TODAY - 2))
    with database.reads.begin() as connection:
        assert newest_of_two(connection) == {"r001": TODAY - 2}
    utility.play(of("r002", TODAY - 9))
    compactor = Compactor(database)
    while (replacement := compactor.plan(UNCONFIRMED_NOW + 7200)) is not None:
        compactor.apply(replacement)
    with database.reads.begin() as connection:
        assert newest_of_two(connection) == {"r001": TODAY - 2, "r002": TODAY - 9}
