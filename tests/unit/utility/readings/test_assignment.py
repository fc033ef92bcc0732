"""Meters that a controller may not hold, and records of other accounts: kept for a person, or read by dates."""

from collections.abc import Callable
from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

import utility.readings.core
from commonwatt.codec.packing import pack
from commonwatt.model.blocks import concatenate, from_records
from commonwatt.model.effects import Publish, Write
from commonwatt.model.records import EventRecord, HistoryRecord, RecordType, Rejection, State
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import MAX_EPOCH, QUARTER_S
from commonwatt.model.validation import Expected, judge_history
from commonwatt.protocol.batches import Batch, BatchRefusal, unpack_batch_ack
from commonwatt.protocol.dead_letters import DeadLetter, LocalReason
from harness.surroundings import databases
from harness.surroundings.messages import a_letter, a_record, batch, blocks
from utility.database.database import Database
from utility.outbox.changes import CoreStep
from utility.readings.core import CLOCK_BEHIND_S, Core, FromGateway
from utility.readings.quarantine import sort_out
from utility.readings.store import completeness, reads
from utility.readings.store.compactor import Compactor, conflicts
from utility.readings.store.dead_letters import dead_letters
from utility.readings.store.gaps import GapFinder
from utility.readings.store.quarantine import QUARANTINED, REFUSED, RELEASED, QuarantineDecision, decide
from utility.readings.store.writer import Writer
from utility.readings.tables import dead_letter
from utility.registry.accounts import Holding
from utility.registry.store.accounts import load_dated_registry, save_dated_registry
from utility.registry.store.registry import account_differences, load_snapshot

QUARTER = 2_000_000
BEGIN = QUARTER * 900
NOW = BEGIN + 900
TRUE, FALSE = 3700, 0  # readings of slot 0 of meter 10001: its own gateway's, and the one that another gateway makes up
FORGED = blocks({0: FALSE})


class Utility:
    """The utility's core and store, fed with batches."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.reads.begin() as connection:
            self.core = Core(7, load_snapshot(connection), 1800)
        self.trust = Trust.NETWORK
        self.writer = Writer(database)

    def send(self, sent: Batch, sender: str = "r001", now: int = NOW) -> tuple[BatchRefusal, CoreStep]:
        step = self.core.handle(FromGateway(f"cw1/{sender}/u/batch", sent.pack()), Now(now, self.trust))
        self.writer.commit([effect.change for effect in step.effects if isinstance(effect, Write)])
        (ack,) = [effect for effect in step.effects if isinstance(effect, Publish)]
        told = unpack_batch_ack(ack.payload)
        counts = (len(sent.keys), len(sent.events), len(sent.dead_letters))
        assert told.status or (told.blocks, told.events, told.dead_letters) == counts, (
            "or its gateway would never be done"
        )
        return told.status, step

    def slots(self, number: int = 1) -> dict[int, tuple[int, ...]]:
        """Return the values of a meter's slots in the quarter, as everybody reads them."""
        found = reads.readings(self.database, number, 3, QUARTER, QUARTER)
        return {
            slot: (int(found.values[0, slot]), *(value for at, value in found.extras_of(0) if at == slot))
            for slot in (range(60) if len(found) else ())
            if found.quality[0, slot]
        }

    def kept(self) -> list[tuple[str, str, int]]:
        """Return sender, state and reason of the dead letters, oldest first."""
        with self.database.reads.begin() as connection:
            return [
                (kept.sender, kept.state, kept.dead_letter.reason) for kept in reversed(dead_letters(connection, 100))
            ]

    def decide(self, no: int, state: str) -> None:
        with self.database.writes.begin() as connection:
            decide(connection, QuarantineDecision(no, state, "Ann", "stood in for r001", NOW))

    def compact(self) -> None:
        compactor = Compactor(self.database)
        while (replacement := compactor.plan(NOW + 7200)) is not None:
            compactor.apply(replacement)


@pytest.fixture
def utility_(database: Database) -> Utility:
    return Utility(database)


@pytest.mark.parametrize("owner", ["r001", "r002"])
def test_another_gateways_reading_replaces_none_and_is_shown_with_its_sender(utility_: Utility, owner: str) -> None:
    utility_.send(batch(blocks({0: TRUE})))
    for _ in range(2):
        status, step = utility_.send(batch(FORGED, owner=owner), "r002")
        assert (status, step.result) == (BatchRefusal.NONE, "not_assigned")
    assert utility_.slots() == {0: (TRUE,)}
    assert utility_.kept() == [("r002", QUARANTINED, LocalReason.NOT_ASSIGNED)]
    utility_.compact()
    assert utility_.slots() == {0: (TRUE,)}


def test_nothing_else_in_the_batch_waits(utility_: Utility) -> None:
    utility_.send(batch(concatenate([FORGED, blocks({5: 7}, meter=20001)]), owner="r002"), "r002")
    with utility_.database.reads.begin() as connection:
        number = reads.meter_number(connection, 20001)
    assert number is not None
    assert (utility_.slots(), utility_.slots(number)) == ({}, {5: (7,)})


def test_gaps_and_the_counts_of_the_microgrid_stay_as_they_were(utility_: Utility) -> None:
    def told() -> tuple[object, object, object]:
        (one,) = completeness.completeness(utility_.database, QUARTER, QUARTER + 1)
        wanted = GapFinder(utility_.database).plan(NOW + 7200, 1800).wanted
        with utility_.database.reads.begin() as connection:
            return vars(one.counts), wanted, reads.status(connection)["r001"]

    utility_.send(batch(blocks({0: TRUE})))
    before = told()
    utility_.send(batch(blocks(dict.fromkeys(range(1, 60), 1))), "r002", NOW + 50)
    utility_.send(batch(), "r002", NOW + 60)
    assert told() == before
    utility_.decide(1, REFUSED)
    assert told() == before


def test_another_gateways_event_is_kept_apart(utility_: Utility) -> None:
    forged = EventRecord(previous_state=1, new_state=0, record_id=1, meter_id=10001, time=BEGIN)
    true = EventRecord(previous_state=0, new_state=State.INITIALIZED, record_id=1, meter_id=10001, time=BEGIN)
    utility_.send(batch(events=[(1, forged)]), "r002")
    utility_.send(batch(events=[(1, true)]))
    with utility_.database.reads.begin() as connection:
        assert [event["new_state"] for event in reads.events(connection, 1, 10001, 9)] == [1]
    assert utility_.kept() == [("r002", "", LocalReason.NOT_ASSIGNED)]


def test_another_gateways_letter_takes_the_place_of_none(utility_: Utility) -> None:
    record = a_record(BEGIN + 15, 250_001, record_id=9)
    dead_letter = a_letter(record, time=NOW)
    sent = batch(blocks({0: TRUE}), dead_letters=[dead_letter])
    utility_.send(batch(dead_letters=[dead_letter]), "r002")
    utility_.send(sent)
    assert utility_.kept() == [
        ("r002", QUARANTINED, LocalReason.NOT_ASSIGNED),
        ("r001", QUARANTINED, Rejection.IMPLAUSIBLE),
    ]
    (one,) = completeness.completeness(utility_.database, QUARTER, QUARTER + 1)
    assert one.counts.quarantined == 1


@databases.on_both_kinds
def test_a_conflict_shows_every_value_with_its_sender_before_and_after_later_parts(utility_: Utility) -> None:
    def shown() -> dict[int, object]:
        (slot,) = conflicts(utility_.database, 9)
        assert (slot["meter"], slot["start"]) == ("10001", BEGIN)
        return {value["value"]: value["senders"] for value in slot["values"]}  # type: ignore[attr-defined]

    utility_.send(batch(blocks({0: TRUE, 1: 5})))
    utility_.send(batch(blocks({0: TRUE + 1})))
    utility_.compact()
    assert shown() == {TRUE: ["r001"], TRUE + 1: ["r001"]}
    utility_.send(batch(blocks({0: FALSE, 1: 5})), "r002")
    utility_.decide(1, RELEASED)
    utility_.compact()
    utility_.send(batch(blocks({0: TRUE + 2, 2: 4})))
    utility_.compact()
    assert shown() == {FALSE: ["r002"], TRUE: ["r001"], TRUE + 1: ["r001"], TRUE + 2: ["r001"]}


def test_a_value_that_two_controllers_sent_names_both(utility_: Utility) -> None:
    utility_.send(batch(blocks({0: TRUE})))
    utility_.send(batch(blocks({0: TRUE + 1})))
    utility_.send(batch(blocks({0: TRUE})), "r002")
    utility_.decide(1, RELEASED)
    utility_.compact()
    (slot,) = conflicts(utility_.database, 9)
    assert slot["values"] == [
        {"value": TRUE, "senders": ["r001", "r002"]},
        {"value": TRUE + 1, "senders": ["r001"]},
    ]


def test_what_no_meter_can_have_measured_is_never_for_a_person_to_release(utility_: Utility) -> None:
    utility_.send(batch(blocks({0: -1, 1: 5})), "r002")
    assert sorted(utility_.kept()) == [
        ("r002", "", Rejection.NEGATIVE),
        ("r002", QUARANTINED, LocalReason.NOT_ASSIGNED),
    ]
    utility_.decide(next(no for no in (1, 2) if utility_.kept()[no - 1][1] == QUARANTINED), RELEASED)
    assert utility_.slots() == {1: (5,)}


def test_a_forged_batch_is_counted_also_if_no_meter_can_have_measured_it(utility_: Utility) -> None:
    assert utility_.send(batch(blocks({0: -1})), "r002")[1].result == "not_assigned"


def test_readings_a_gateway_would_have_refused_are_not_stored(utility_: Utility) -> None:
    far = blocks({0: 5}, quarter=4_772_184)  # 2106
    utility_.send(batch(concatenate([blocks({0: -1, 1: 5, 2: -9}), far])))
    assert utility_.slots() == {1: (5,)}
    assert sorted(reason for *_, reason in utility_.kept()) == [Rejection.FUTURE, Rejection.NEGATIVE]
    assert len(list(reads.all_blocks(utility_.database, QUARTER + 1, 2**31 - 1))) == 0


@pytest.mark.parametrize(
    ("behind", "trust"), [(2 * 86_400, Trust.NETWORK), (6 * 86_400, Trust.NONE), (7 * 86_400, Trust.NONE)]
)
def test_a_utility_whose_clock_is_behind_sets_no_good_reading_apart(
    utility_: Utility, behind: int, trust: Trust
) -> None:
    utility_.trust = trust
    utility_.send(batch(blocks({59: 5})), now=NOW - behind)
    assert (utility_.slots(), utility_.kept()) == ({59: (5,)}, [])


@pytest.mark.parametrize(("behind", "trust"), [(60 * 86_400, Trust.NONE), (NOW - 86_400, Trust.NETWORK)])
def test_readings_far_ahead_of_a_clock_that_is_not_confirmed_wait(utility_: Utility, behind: int, trust: Trust) -> None:
    utility_.trust = trust
    utility_.send(batch(blocks({59: 5})), now=NOW - behind)
    assert (utility_.slots(), utility_.kept()) == ({}, [("r001", QUARANTINED, LocalReason.AHEAD)])


def test_a_gateway_that_sends_too_much_of_others_waits_a_day_with_nothing_lost(
    utility_: Utility, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(utility.readings.core, "MAX_QUARANTINED_A_DAY", 2)
    for value in range(2):
        assert utility_.send(batch(blocks({0: value})), "r002")[0] is BatchRefusal.NONE
    status, step = utility_.send(batch(blocks({0: 2})), "r002")
    assert step.refused is not None
    assert (status, step.refused.reason) == (BatchRefusal.BUSY, "quarantine_full")
    assert utility_.send(batch(blocks({0: TRUE})))[0] is BatchRefusal.NONE
    assert utility_.send(batch(blocks({0: 2})), "r002", NOW + 86_400)[0] is BatchRefusal.NONE


@pytest.mark.parametrize("reason", [Rejection.IMPLAUSIBLE, Rejection.UNALIGNED])
def test_relayed_dead_letters_of_others_count_as_too_much_sooner_than_a_gateways_own(
    utility_: Utility, monkeypatch: pytest.MonkeyPatch, reason: Rejection
) -> None:
    monkeypatch.setattr(utility.readings.core, "MAX_QUARANTINED_A_DAY", 2)

    def send(number: int, sender: str) -> BatchRefusal:
        record = a_record(BEGIN + 15 * number, 250_001, record_id=number)
        relayed = a_letter(record, reason, generation=0, time=NOW)
        return utility_.send(batch(dead_letters=[relayed]), sender)[0]

    assert [send(number, "r002") for number in range(3)] == [BatchRefusal.NONE, BatchRefusal.NONE, BatchRefusal.BUSY]
    assert [send(number, "r001") for number in range(3)] == [BatchRefusal.NONE] * 3
    assert [sender for sender, _, _ in utility_.kept()].count("r002") == 2


@databases.on_both_kinds
@pytest.mark.parametrize(
    ("bound", "most", "size"),
    [("MAX_RELAYED_A_DAY", 2, 1024), ("MAX_RELAYED_A_DAY", 2, 0), ("MAX_RELAYED_BYTES_A_DAY", 2 * 1024, 1024)],
)
def test_one_gateway_keeps_no_more_of_its_own_meters_in_a_day_than_its_share_by_rows_and_bytes(
    utility_: Utility, monkeypatch: pytest.MonkeyPatch, bound: str, most: int, size: int
) -> None:
    monkeypatch.setattr(utility.readings.core, bound, most)

    def send(number: int, sender: str = "r001", day: int = 0) -> tuple[BatchRefusal, str | None]:
        relayed = DeadLetter(meter=0, log=16, reason=128, generation=0, record_id=number, time=NOW, content=bytes(size))
        status, step = utility_.send(batch(dead_letters=[relayed]), sender, NOW + day * 86_400)
        return status, None if step.refused is None else step.refused.reason

    assert [send(number) for number in range(2)] == [(BatchRefusal.NONE, None)] * 2
    assert [send(number) for number in (2, 3)] == [(BatchRefusal.BUSY, "dead_letters_full")] * 2
    assert utility_.core.over_quota == {"r001": "dead_letters_full"}, "at once, for an alarm"
    assert send(4, "r002") == (BatchRefusal.NONE, None), "others are not affected"
    assert utility_.send(batch(blocks({0: TRUE})))[0] is BatchRefusal.NONE, "nor are readings"
    assert (send(2, day=1), utility_.core.over_quota) == ((BatchRefusal.NONE, None), {})


def test_a_relayed_dead_letter_of_the_far_future_goes_with_the_readings_of_the_present(
    utility_: Utility, database: Database
) -> None:
    kept = DeadLetter(meter=0, log=16, reason=128, generation=0, record_id=1, time=MAX_EPOCH, content=b"x")
    assert utility_.send(batch(dead_letters=[kept]))[0] is BatchRefusal.NONE
    with database.reads.begin() as connection:
        assert connection.execute(select(dead_letter.c.time)).scalar_one() <= NOW + CLOCK_BEHIND_S


def test_a_relayed_reading_of_the_far_future_waits_for_no_decision(utility_: Utility) -> None:
    record = a_record(2**32 - 1096, 10**9)
    relayed = a_letter(record, generation=0, time=NOW)
    utility_.send(batch(dead_letters=[relayed]))
    assert utility_.kept() == [("r001", "", Rejection.IMPLAUSIBLE)], "so the retention drops it"


@pytest.mark.parametrize(("bound", "most"), [("MAX_RELAYED_A_DAY", 2), ("MAX_RELAYED_BYTES_A_DAY", 2 * 24)])
def test_events_that_contradict_stored_ones_count_as_dead_letters(
    utility_: Utility, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(utility.readings.core, bound, most)

    def send(time: int) -> BatchRefusal:
        event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=10001, time=BEGIN + time)
        return utility_.send(batch(events=[(1, event)]))[0]

    assert [send(time) for time in range(3)] == [BatchRefusal.NONE, BatchRefusal.NONE, BatchRefusal.BUSY]
    assert utility_.send(batch(blocks({0: TRUE})))[0] is BatchRefusal.NONE


def test_blocks_that_are_quarantined_count_by_bytes_too(utility_: Utility, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utility.readings.core, "MAX_RELAYED_BYTES_A_DAY", 60)
    found = [utility_.send(batch(blocks({0: 250_001 + value})))[0] for value in range(9)]
    assert found[0] is BatchRefusal.NONE
    assert found[-1] is BatchRefusal.BUSY
    assert sum(state == QUARANTINED for _, state, _ in utility_.kept()) == found.count(BatchRefusal.NONE)


values = st.integers(-3, 300_000) | st.sampled_from([-(2**53), 2**53, 250_000, 250_001])


@given(st.dictionaries(st.integers(0, 59), values, min_size=1), st.sampled_from([0, 5, 9, 4_000]), st.integers(0, 899))
def test_both_doors_judge_alike(slots: dict[int, int], ahead: int, late: int) -> None:
    now = BEGIN + late
    limits = {int(RecordType.THROUGH): 250_000}
    expected = Expected(meter_id=10001, record_types=(RecordType.THROUGH,), now=now, limits=limits)

    def at_gateway(slot: int, value: int) -> Rejection | None:
        start = (QUARTER + ahead) * 900 + 15 * slot
        record = a_record(start, value)
        return judge_history(record, expected)

    given_ = blocks(slots, quarter=QUARTER + ahead)
    found = sort_out(given_, pack(given_), np.array([250_000]), np.array([True]), now, now)
    rows, places = np.nonzero(found.blocks.quality)
    good = dict(zip(places.tolist(), found.blocks.values[rows, places].tolist(), strict=True))
    assert good == {slot: value for slot, value in slots.items() if at_gateway(slot, value) is None}
    reasons = {
        dead_letter.reason
        for dead_letter in (*found.dead_letters, *(dead_letter for dead_letter, _ in found.quarantined))
    }
    assert reasons == {at_gateway(slot, value) for slot, value in slots.items()} - {None}


OTHERS_NOW = Now((QUARTER + 1) * QUARTER_S, Trust.NETWORK)

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
        letters = [a_letter(one, Rejection.WRONG_ACCOUNT, meter=10001, time=OTHERS_NOW) for one in records]
        blocks = from_records(records if in_blocks else ())
        sent = Batch(
            owner="r001",
            store=1,
            sequence=1,
            time=OTHERS_NOW,
            keys=blocks.keys(),
            payloads=pack(blocks),
            events=[],
            dead_letters=letters,
        )
        step = core.handle(FromGateway(f"cw1/{sender}/u/batch", sent.pack()), OTHERS_NOW)
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
    assert registry.meters[10001].account_at(OTHERS_NOW) == 9
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
