"""Relaying: nothing leaves the outbox before the utility acknowledged it, and everything leaves it in the end."""

import json
import random
from collections import deque
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.codec.packing import pack, unpack
from commonwatt.model.blocks import Quality, from_records, join
from commonwatt.model.effects import Write
from commonwatt.model.records import EventRecord
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.batches import MAX_BATCH_BYTES, Batch, BatchAck, BatchFlag, BatchRefusal
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from gateway.relay import relay as module
from gateway.relay.outbox import ANY_QUARTER, WINDOW
from gateway.relay.refill import OTHERS_WAIT_S
from gateway.relay.relay import ACK_WITHIN_S, HOLD_S
from gateway.store.changes import AVERAGED, OFFERED, UNSENT, AppendParts, DropBackup, ForgetRelayed, Part
from harness.surroundings.gateway import START, World, batches, blocks_of, readings


def relay(world: World) -> list[Batch]:
    world.now += 60
    return [b for b in batches(world.tick("relay_s")) if b.keys or b.events or b.dead_letters]


def test_what_is_relayed_is_what_was_collected(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    world.put(2, 1, readings(2, 1, 4))
    (batch,) = relay(world)
    found = blocks_of([batch])
    assert found.keys() == [(1, 3, START // QUARTER_S), (2, 3, START // QUARTER_S)]
    assert found.values[0, :4].tolist() == [1000, 1001, 1002, 1003]
    assert batch.owner == "r001"


def test_what_is_not_acknowledged_is_sent_again_and_what_is_not(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    (batch,) = relay(world)
    assert relay(world) == [], "it is in flight"
    assert world.store.backlog_since() == batch.keys[0][2]
    world.now += ACK_WITHIN_S
    (again,) = relay(world)
    assert blocks_of([again]).keys() == blocks_of([batch]).keys()
    assert again.sequence != batch.sequence
    world.acknowledge(again)
    world.now += ACK_WITHIN_S
    assert relay(world) == []
    assert world.store.backlog() == (0, 0, 0)
    assert world.store.backlog_since() is None


def test_what_was_in_flight_is_sent_again_at_once_over_a_new_connection_and_nothing_twice_over_it(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    (batch,) = relay(world)
    world.ask(cmd="get", first_quarter=START // QUARTER_S)
    again = batches(world.connect())
    assert [b.keys for b in again] == [batch.keys], "asked for, and unsent: once"
    assert BatchFlag.ANSWER in again[0].flags
    assert relay(world) == [], "it is in flight"
    world.acknowledge(again[0])
    assert world.store.backlog() == (0, 0, 0)
    assert [len(b.keys) for b in batches(world.connect())] == [0], "only asked for its store"


def test_a_quiet_utility_is_sent_an_empty_batch_and_no_data_before_its_time(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    (hello,) = batches(world.do(world.core.probe("head_end", world.now)))
    assert not hello.keys
    assert batches(world.do(world.core.probe("head_end", world.now))) == [], "an answer is due already"
    world.acknowledge(hello)
    assert [len(batch.keys) for batch in batches(world.do(world.core.probe("head_end", world.now)))] == [0]
    assert len(relay(world)) == 1


def test_a_utility_that_has_refused_is_asked_whether_it_is_there_and_sent_nothing_else(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    (batch,) = relay(world)
    world.acknowledge(batch, status=BatchRefusal.BUSY)
    (hello,) = batches(world.do(world.core.probe("head_end", world.now)))
    assert not hello.keys
    assert not [again for again in batches(world.acknowledge(hello)) if again.keys]
    world.now += HOLD_S
    assert [again.keys for again in relay(world)] == [batch.keys]


def test_a_number_is_not_used_again_although_making_the_first_batch_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(1, 1, readings(1, 1, 4))
    with monkeypatch.context() as patched:
        patched.setattr("gateway.relay.relay.pack", lambda _: [][0])
        with pytest.raises(IndexError):
            relay(world)
    world.now += ACK_WITHIN_S
    (batch,) = relay(world)
    world.crash()
    (again,) = relay(world)
    assert again.keys == batch.keys
    assert again.sequence > batch.sequence


def test_a_state_event_goes_at_once(world: World) -> None:
    world.put(1, 1, [EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=1, time=START)])
    (batch,) = batches(world.tick("retry"))
    assert [event.record_id for _, event in batch.events] == [1]
    world.acknowledge(batch)
    assert world.store.backlog() == (0, 0, 0)


def test_dead_letters_are_relayed_too(world: World) -> None:
    world.meter_says(1, "out", b"{junk")
    (batch,) = relay(world)
    assert [dead_letter.content for dead_letter in batch.dead_letters] == [b"{junk"]
    world.acknowledge(batch)
    assert world.store.backlog() == (0, 0, 0)


def test_a_long_backlog_drains_by_acknowledgements_alone_within_the_window(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.relay.outbox.BATCH_PARTS", 20)
    for minute in range(50):
        world.put(1, minute * 4 + 1, readings(1, minute * 4 + 1, 4, start=START - 3000 + minute * 60))
        world.put(2, minute * 4 + 1, readings(2, minute * 4 + 1, 4, start=START - 3000 + minute * 60))
        world.put(3, minute * 4 + 1, readings(3, minute * 4 + 1, 4, start=START - 3000 + minute * 60))
    found: list[Batch] = []
    waiting = relay(world)
    assert len(waiting) == WINDOW
    while waiting:
        batch = waiting.pop(0)
        found.append(batch)
        waiting += batches(world.acknowledge(batch))
        assert len(world.core.relay.in_flight) <= WINDOW
    assert world.store.backlog()[0] == 0
    assert (blocks_of(found).quality > 0).sum() == 600


@pytest.mark.parametrize("relayed", [UNSENT, OFFERED])
def test_a_backlog_of_blocks_that_are_sent_whole_drains_by_acknowledgements_alone(
    world: World, relayed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block has more parts than its share of the newest ones: as averages, or exact, it is completed."""
    monkeypatch.setattr("gateway.relay.outbox.BATCH_PARTS", 20)
    world.ask(cmd="aggregate", at="gateway", mode="lossy")
    world.tick("retry")
    first = START // QUARTER_S + 1
    for start in range(first * QUARTER_S, (first + 5) * QUARTER_S, 60):
        minutes = [from_records(readings(meter, 1, 4, start=start)) for meter in (1, 2, 3)]
        world.store.commit([AppendParts(tuple(Part(0, b.key(0), pack(b)[0], relayed) for b in minutes))])
    world.now = (first + 5) * QUARTER_S
    waiting = relay(world)
    while waiting:
        waiting += batches(world.acknowledge(waiting.pop(0)))
    assert world.store.backlog()[0] == 0


def fill(world: World, quarters: int) -> None:
    """Keep a backlog in the store: one meter, one part a slot."""
    records = readings(1, 1, 60 * quarters, start=START - quarters * QUARTER_S)
    blocks = [from_records([record]) for record in records]
    world.store.commit([AppendParts(tuple(Part(0, b.key(0), pack(b)[0]) for b in blocks))])


def test_what_is_new_goes_before_a_backlog_and_the_backlog_from_its_newest_end(world: World) -> None:
    fill(world, 120)
    first = relay(world)
    assert len(first) == WINDOW
    newest = [max(quarter for _, _, quarter in batch.keys) for batch in first]
    assert newest[0] == START // QUARTER_S - 1
    assert newest == sorted(newest, reverse=True)
    world.put(2, 1, readings(2, 1, 4))
    (batch,) = relay(world)
    assert (2, 3, START // QUARTER_S) in batch.keys, "live data waits for no place in the window"


def test_what_is_new_goes_before_a_long_answer(world: World) -> None:
    fill(world, 120)
    first = relay(world)
    sent, outcome = world.ask(cmd="get", first_quarter=0)
    assert (sent, outcome.sent) == ([], 120), "the window is full"
    world.put(2, 1, readings(2, 1, 4))
    (live,) = relay(world)
    assert (2, 3, START // QUARTER_S) in live.keys
    assert batches(world.acknowledge(first[0])) == [], "the live data has its place"
    (answer,) = batches(world.acknowledge(first[1]))
    assert BatchFlag.ANSWER in answer.flags


def test_the_newest_events_go_first(world: World) -> None:
    events = [
        EventRecord(meter_id=1, record_id=n, previous_state=1, new_state=1, time=START - 5000 + n)
        for n in range(1, 2001)
    ]
    for at in range(0, 2000, 500):
        world.put(1, at + 1, events[at : at + 500])
    world.put(2, 1, [EventRecord(meter_id=2, record_id=1, previous_state=0, new_state=1, time=START)])
    batch = relay(world)[0]
    times = [event.time for _, event in batch.events]
    assert times[0] == START
    assert times == sorted(times, reverse=True)


def test_a_utility_that_starts_empty_gets_everything_back(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    world.put(1, 1, [EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=1, time=START)])
    (batch,) = relay(world)
    world.acknowledge(batch, store=7)
    world.now += QUARTER_S
    world.tick("compact_s")
    world.put(1, 5, readings(1, 5, 4, start=START + QUARTER_S))
    (batch,) = relay(world)
    world.acknowledge(batch, store=8)
    assert world.store.backlog() == (1, 1, 0), "what the new store has not is unsent again; what it just took is not"
    world.now += OTHERS_WAIT_S
    sent = relay(world)
    assert (blocks_of([batch, *sent]).quality > 0).sum() == 8
    assert sum(len(batch.events) for batch in sent) == 1


def test_a_quiet_gateway_learns_of_an_empty_utility_when_it_connects_and_by_the_hour(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    world.acknowledge(relay(world)[0], store=7)
    (hello,) = batches(world.do(world.core.connected(world.now)))
    assert not hello.keys
    world.acknowledge(hello, store=7)
    assert world.store.backlog()[0] == 0
    world.now += 3600
    (hello,) = batches(world.tick("relay_s"))
    world.acknowledge(hello, store=8)
    world.now += OTHERS_WAIT_S
    assert len(relay(world)) == 1


def test_compaction_keeps_every_slot_and_only_of_what_the_utility_has(world: World) -> None:
    for n in range(4):
        world.put(1, n * 4 + 1, readings(1, n * 4 + 1, 4, start=START + n * 60))
    (batch,) = relay(world)
    world.now = START + 2 * QUARTER_S
    world.tick("compact_s")
    assert len(list(world.store.all_parts(unsent_only=False))) == 4, "not acknowledged yet"
    (batch,) = relay(world)
    world.acknowledge(batch)
    world.now += QUARTER_S
    world.tick("compact_s")
    (part,) = world.store.all_parts(unsent_only=False)
    assert (unpack([part.key], [part.payload]).quality > 0).sum() == 16
    world.now += QUARTER_S
    world.tick("compact_s")
    assert [p.id for p in world.store.all_parts(unsent_only=False)] == [part.id], "a joined block is left alone"


def test_a_meter_the_utility_does_not_know_does_not_hold_up_the_rest(world: World) -> None:
    for meter in (1, 2, 3):
        world.put(meter, 1, readings(meter, 1, 4))
        event = EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=meter, time=START)
        world.put(meter, 1, [event])
    arrived: set[int] = set()
    for _ in range(4):
        waiting = relay(world)
        while waiting:
            batch = waiting.pop(0)
            meters = {key[0] for key in batch.keys} | {event.meter_id for _, event in batch.events}
            known = 2 not in meters
            arrived |= meters if known else set()
            status = BatchRefusal.NONE if known else BatchRefusal.NOT_REGISTERED
            waiting += batches(world.acknowledge(batch, status=status))
    assert arrived == {1, 3}
    assert world.store.backlog() == (1, 1, 0), "the unknown meter's data waits"
    world.now += 3600
    (batch,) = relay(world)
    world.acknowledge(batch)
    assert world.store.backlog() == (0, 0, 0)


# The utility's commands


def test_get_relays_the_slots_asked_for_and_names_those_that_are_not_there(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    world.acknowledge(relay(world)[0])
    quarter = START // QUARTER_S
    found, outcome = world.ask(cmd="get", blocks=[["1", 3, quarter, "1f"], ["2", 3, quarter, "1"]])
    assert blocks_of(found).keys() == [(1, 3, quarter)]
    assert outcome.absent == [(1, 3, quarter, "10"), (2, 3, quarter, "1")]
    assert outcome.sent == 1


@pytest.mark.parametrize(("stored", "result"), [(5, "done"), (6, "partial")])
def test_get_of_more_blocks_than_are_relayed_at_once_is_done_in_part(
    world: World, stored: int, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.relay.utility_commands.MAX_WANTED", 5)
    fill(world, stored)
    _, outcome = world.ask(cmd="get", first_quarter=0)
    assert (outcome.result, outcome.sent) == (result, 5)


def test_a_lost_answer_to_get_is_sent_again(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    world.acknowledge(relay(world)[0])
    found, _ = world.ask(cmd="get", first_quarter=START // QUARTER_S)
    world.now += ACK_WITHIN_S
    again = relay(world)
    assert blocks_of(again).keys() == blocks_of(found).keys()
    world.acknowledge(again[0])
    world.now += ACK_WITHIN_S
    assert relay(world) == []


def test_lossless_relays_whole_quarters_only(world: World) -> None:
    world.ask(cmd="aggregate", at="gateway", mode="lossless")
    world.put(1, 1, readings(1, 1, 4))
    assert relay(world) == []
    world.now = START + QUARTER_S
    assert len(relay(world)) == 1


def test_lossy_relays_averages_keeps_the_exact_and_gives_it_when_asked(world: World) -> None:
    (batch,) = averaged_quarter(world, 24)
    found = blocks_of([batch])
    assert found.quality[0, :24].tolist() == [Quality.AVERAGED] * 20 + [Quality.EXACT] * 4
    world.acknowledge(batch)
    assert world.store.backlog()[0] == 0
    (exact,), _ = world.ask(cmd="get", first_quarter=START // QUARTER_S)
    better = join([found, blocks_of([exact])])
    assert better.quality[0, :24].tolist() == [Quality.EXACT] * 24
    assert better.values[0, :24].tolist() == [1000 + i for i in range(24)]
    assert not len(better.extras), "the exact readings replace their averages, they don't contradict them"


def averaged_quarter(world: World, slots: int) -> list[Batch]:
    """Collect and relay a quarter of which averages are sent."""
    world.now = START - 60
    world.ask(cmd="aggregate", at="gateway", mode="lossy")
    world.now = START + 600
    world.put(1, 1, readings(1, 1, slots))
    world.now = START + QUARTER_S
    return relay(world)


def energy(found: list[Batch]) -> int:
    return int(blocks_of(found).values[0].sum())


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_put_that_comes_again_after_its_averages_were_sent_does_not_change_the_energy(
    world: World, acknowledged: bool
) -> None:
    sent = averaged_quarter(world, 60)
    if acknowledged:
        world.acknowledge(sent[0])
    world.put(1, 1, readings(1, 1, 8))
    world.now += ACK_WITHIN_S
    sent += relay(world)
    assert energy(sent) == sum(1000 + i for i in range(60))


@pytest.mark.parametrize("compacted", [True, False])
def test_a_utility_that_went_back_to_averages_gets_a_late_part_with_its_whole_block(
    world: World, compacted: bool
) -> None:
    """All of the block was acknowledged exactly; the utility's database then went back to its averages."""
    (kept,) = averaged_quarter(world, 60)
    world.acknowledge(kept)
    (exact,), _ = world.ask(cmd="get", first_quarter=START // QUARTER_S)
    world.acknowledge(exact)
    if compacted:
        world.now += QUARTER_S
        world.tick("compact_s")
        world.ask(cmd="deaggregate", at="gateway")
    world.put(1, 1, readings(1, 1, 8))
    assert energy([kept, *relay(world)]) == sum(1000 + i for i in range(60))


def test_compaction_remembers_that_the_utility_has_averages_only(world: World) -> None:
    world.acknowledge(averaged_quarter(world, 60)[0])
    world.put(2, 1, readings(2, 1, 1, start=START + 900))
    world.now += QUARTER_S
    world.tick("compact_s")
    (part,) = [part for part in world.store.all_parts(unsent_only=True) if part.key[0] == 1]
    assert part.joined
    assert part.relayed == AVERAGED


def test_slots_that_come_after_their_groups_neighbours_were_sent_do_not_change_the_energy(world: World) -> None:
    sent = averaged_quarter(world, 18)  # a whole group, and eight of the next
    world.crash()  # the acknowledgement is lost, and so is what was in flight
    world.put(1, 19, readings(1, 19, 2, start=START + 18 * 15, value=1018))
    world.now += ACK_WITHIN_S
    sent += relay(world)
    assert energy(sent) == sum(1000 + i for i in range(20))


def test_what_was_sent_exactly_before_lossy_is_ordered_is_not_averaged_afterwards(world: World) -> None:
    world.put(1, 1, readings(1, 1, 8))
    sent = relay(world)  # never acknowledged
    world.ask(cmd="aggregate", at="gateway", mode="lossy")
    world.put(1, 9, readings(1, 9, 2, start=START + 8 * 15, value=1008))
    world.now = START + QUARTER_S
    sent += relay(world)
    assert energy(sent) == sum(1000 + i for i in range(10))


def test_slots_of_later_quarters_sent_before_lossy_is_ordered_do_not_spoil_their_averages(world: World) -> None:
    """A meter whose clock is a quarter ahead."""
    early = START + QUARTER_S
    world.now = START + 890
    world.put(1, 1, readings(1, 1, 3, start=early))
    sent = relay(world)  # never acknowledged
    world.ask(cmd="aggregate", at="gateway", mode="lossy")
    world.now = early + 600
    world.put(1, 4, readings(1, 4, 57, start=early + 45, value=1003))
    world.now = early + QUARTER_S
    sent += relay(world)
    assert energy(sent) == sum(1000 + i for i in range(60))


@pytest.mark.parametrize("early", [True, False])
def test_a_record_of_the_far_future_does_not_keep_averages_back_and_is_not_averaged_itself(
    world: World, early: bool
) -> None:
    """A meter's clock was years ahead while nobody knew the time, perhaps not even when averages were ordered."""
    far = START + 1_000_000 * QUARTER_S
    world.forget_time()
    world.put(1, 1, readings(1, 1, 3, start=far))
    sent = relay(world)  # never acknowledged
    if early:
        world.ask(cmd="aggregate", at="gateway", mode="lossy")
        assert world.core.relay.mode.since == ANY_QUARTER
    world.core.time.network(world.now, world.now, 0)
    world.tick("retry")
    world.ask(cmd="aggregate", at="gateway", mode="lossy")
    assert world.core.relay.mode.since == world.now // QUARTER_S + 1
    world.now = far + 600
    world.put(1, 4, readings(1, 4, 57, start=far + 45, value=1003))
    world.now = far + QUARTER_S
    sent += relay(world)
    assert energy(sent) == sum(1000 + i for i in range(60))


def test_a_gateway_whose_clock_is_behind_relays_all_the_same(world: World) -> None:
    world.ask(cmd="aggregate", at="gateway", mode="lossless")
    world.forget_time()
    world.now -= 7200
    world.put(1, 1, readings(1, 1, 4))
    assert len(relay(world)) == 1


def test_a_new_utility_and_a_compaction_in_one_commit_lose_no_backup(world: World) -> None:
    """As when an acknowledgement and a tick wait together for the shell."""
    world.put(1, 1, readings(1, 1, 4))
    world.acknowledge(relay(world)[0], store=7)
    world.put(1, 5, readings(1, 5, 4, start=START + 60))
    (batch,) = relay(world)
    world.now += 2 * QUARTER_S
    world.core.relay.in_flight[batch.sequence] = replace(world.core.relay.in_flight[batch.sequence], sent=world.now)
    ack = BatchAck(time=world.now, utility_store=8, store=batch.store, sequence=batch.sequence, blocks=1)
    together = world.core.from_utility("cw1/r001/d/ack", ack.pack(), world.now)
    together += world.core.tick("compact_s", world.now) + world.core.tick("compact_s", world.now)
    world.do(together)
    world.now += OTHERS_WAIT_S
    (again,) = relay(world)
    assert (blocks_of([again]).quality > 0).sum() == 8


def large_backup(world: World, quarters: int) -> None:
    """Let the utility have acknowledged so many blocks of a minute, an event and a letter."""
    for quarter in range(quarters):
        world.put(1, quarter * 4 + 1, readings(1, quarter * 4 + 1, 4, start=START - quarter * QUARTER_S))
    world.put(1, 1, [EventRecord(previous_state=0, new_state=1, record_id=1, meter_id=1, time=START)])
    world.put(1, 9001, readings(2, 9001, 1))
    waiting = relay(world)
    while waiting:
        waiting += batches(world.acknowledge(waiting.pop(0), store=7))
    assert world.store.backlog() == (0, 0, 0)


def test_a_utility_that_lost_its_store_gets_a_large_backup_in_steps_whatever_crashes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.relay.relay.FORGET_ROWS", 2)
    monkeypatch.setattr("gateway.relay.outbox.BATCH_PARTS", 7)
    large_backup(world, quarters := 45)
    taken: list[Batch] = []

    def acknowledge_all() -> None:
        for batch in batches(world.sent):
            taken.append(batch)
            world.acknowledge(batch, store=8)
        world.sent.clear()

    world.sent.clear()
    world.connect()
    steps = 0
    while not steps or any(world.store.forgetting().values()):
        before = world.store.forgetting()["part"] or quarters
        acknowledge_all()
        assert before - world.store.forgetting()["part"] <= 2 * 2 * WINDOW, "one step with each acknowledgement"
        if steps in (1, 3):
            world.crash()
            world.connect()
        steps += 1
        world.put(2, steps, readings(2, steps, 1, start=START))  # live data goes on
    assert steps > 4
    world.now += OTHERS_WAIT_S
    for _ in range(20):
        relay(world)
        acknowledge_all()
    sent = blocks_of(taken)
    assert (sent.quality[sent.meter == 1] > 0).sum() == 4 * quarters
    assert (sent.quality[sent.meter == 2] > 0).sum() == 1, "live data"
    assert {e.record_id for b in taken for _, e in b.events} == {1}
    assert {x.record_id for b in taken for x in b.dead_letters} == {9001}
    assert world.store.backlog() == (0, 0, 0)


def test_what_a_lost_utility_had_acknowledged_is_neither_deleted_nor_joined_before_it_is_marked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.relay.relay.FORGET_ROWS", 1)
    large_backup(world, 5)
    parts = {part.id for part in world.store.all_parts(unsent_only=False)}
    world.store.commit([ForgetRelayed()])
    world.core.relay.compacting = True
    world.now += 2 * QUARTER_S
    assert world.store.oldest_backup(10) == world.store.oldest_acknowledged("event", 10) == ()
    world.store.commit([DropBackup(parts=tuple(parts), events=(1,), dead_letters=(1,))])
    world.tick("retry")
    assert {part.id for part in world.store.all_parts(unsent_only=False)} == parts
    assert world.store.backlog()[1:] == (1, 1)


def test_an_acknowledgement_and_a_relay_in_one_commit_send_nothing_twice(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    (batch,) = relay(world)
    world.now += 60
    ack = BatchAck(time=world.now, utility_store=7, store=batch.store, sequence=batch.sequence, blocks=1)
    together = world.core.from_utility("cw1/r001/d/ack", ack.pack(), world.now)
    sent = world.do(together + world.core.tick("relay_s", world.now))
    assert [b for b in batches(sent) if b.keys] == []


def test_letters_are_not_pressed_on_a_utility_that_knows_nobody(world: World) -> None:
    for meter in (1, 2, 3):
        for n in range(90):
            world.meter_says(meter, "out", b"{%d" % n)
    waiting, sent = relay(world), 0
    assert waiting
    while waiting and sent < 100:
        sent += 1
        waiting += batches(world.acknowledge(waiting.pop(0), status=BatchRefusal.NOT_REGISTERED))
    assert sent <= 2 * WINDOW


def test_blocks_that_grow_by_their_other_parts_still_fit_a_message(world: World) -> None:
    rng = random.Random(1)
    # Whatever it reads is plausible.
    world.meters[1] = world.meters[1].model_copy(update={"service_amps": 2**50})
    for n in range(3):
        for quarter in range(200):
            start = START - 200 * QUARTER_S + quarter * QUARTER_S + n * 300
            records = [r._replace(reading=rng.randrange(2**53)) for r in readings(1, 1 + n * 20, 20, start=start)]
            world.put(1, 1 + n * 20, records)
        for batch in relay(world):
            world.acknowledge(batch, store=7)
    world.do([Write(ForgetRelayed())])
    found: list[Batch] = []
    for _ in range(10):
        sent = [p for p in world.tick("relay_s") if p.topic.endswith("/batch")]
        assert all(len(p.payload) <= MAX_BATCH_BYTES for p in sent)
        for batch in batches(sent):
            found.append(batch)
            world.acknowledge(batch)
        world.now += 60
    assert (blocks_of(found).quality > 0).sum() == 200 * 60


@pytest.mark.parametrize("status", [BatchRefusal.BUSY, BatchRefusal.MALFORMED])
def test_a_refusing_utility_is_not_flooded(world: World, status: BatchRefusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.relay.outbox.BATCH_PARTS", 2)
    for n in range(20):
        world.put(1, n * 4 + 1, readings(1, n * 4 + 1, 4, start=START + n * 60))
    waiting, sent = relay(world), 0
    waiting += world.ask(cmd="get", first_quarter=START // QUARTER_S)[0]
    assert waiting
    while waiting and sent < 100:
        sent += 1
        waiting += batches(world.acknowledge(waiting.pop(0), status=status))
    assert sent <= 2 * WINDOW
    world.now += HOLD_S
    assert relay(world)


def test_an_acknowledgement_of_other_counts_is_not_believed(world: World) -> None:
    world.put(1, 1, readings(1, 1, 4))
    (batch,) = relay(world)
    wrong = BatchAck(time=world.now, utility_store=7, store=batch.store, sequence=batch.sequence, blocks=2)
    world.utility_says("ack", wrong.pack())
    assert world.store.backlog()[0] == 1


def test_aggregation_ends_when_its_time_is_over_even_across_a_crash(world: World) -> None:
    world.ask(cmd="aggregate", at="gateway", mode="lossy", for_s=600)
    world.crash()
    assert world.core.relay.mode.name == "lossy"
    world.now += 600
    relay(world)
    assert world.core.relay.mode.name == "none"


def test_aggregate_at_the_meters_orders_every_meter(world: World) -> None:
    world.ask(cmd="aggregate", at="meters", mode="lossy", for_s=600)
    commands = [json.loads(p.payload) for p in world.sent if p.topic.endswith("/d/cmd")]
    assert [(o["cmd"], o["mode"], o["until"]) for o in commands] == [("aggregate", "lossy", world.now + 600)] * 4
    world.ask(cmd="deaggregate", at="meters")
    assert json.loads(world.sent[-2].payload)["cmd"] == "deaggregate"


IN_FILE = {"collect_s": 60, "levels_s": 60, "relay_s": 60, "put_s": 60, "compact_s": 900}


def heartbeat(world: World) -> Heartbeat:
    (said,) = (publish.payload for publish in world.tick("heartbeat") if publish.topic.endswith("/stat"))
    return unpack_json(Heartbeat, said)


def test_a_schedule_changes_periods_for_good(world: World) -> None:
    _, outcome = world.ask(cmd="schedule", periods={"relay_s": 900})
    assert outcome.result == "done"
    assert world.core.tick_every_s("relay_s") == 900
    world.crash()
    assert world.core.tick_every_s("relay_s") == 900
    view = world.view()
    assert (view["tuned"], view["periods"]) == (["relay_s"], {**IN_FILE, "relay_s": 900})
    assert heartbeat(world).tuned == ("relay_s",)


def test_a_schedule_is_reset_to_what_the_file_says(world: World) -> None:
    world.ask(cmd="schedule", periods={"relay_s": 900, "collect_s": 30})
    world.ask(cmd="schedule", periods={"relay_s": None})
    assert (heartbeat(world).periods, heartbeat(world).tuned) == ({**IN_FILE, "collect_s": 30}, ("collect_s",))
    world.ask(cmd="schedule", periods=dict.fromkeys(IN_FILE))
    world.crash()
    assert (heartbeat(world).periods, heartbeat(world).tuned) == (IN_FILE, ())


def test_the_heartbeat_says_what_commands_have_set_and_when_it_ends(world: World) -> None:
    before = heartbeat(world)
    assert (before.strategy, before.meters, before.ends) == ("spec", "none", {})
    world.ask(cmd="sharing", strategy="aces")
    world.ask(cmd="reduce", state="on", for_s=600)
    world.ask(cmd="aggregate", mode="lossy", for_s=900)
    said = heartbeat(world)
    assert (said.strategy, said.tuned) == ("aces", ("strategy", "aggregation"))
    assert said.ends == {"aggregation": world.now + 900, "reduce": world.now + 600}
    world.now += 700
    assert heartbeat(world).ends == {"aggregation": world.now + 200}


def test_a_command_sent_again_is_done_once_and_answered_twice_even_across_a_crash(world: World) -> None:
    message = json.dumps({"v": 1, "id": "same", "cmd": "aggregate", "at": "meters", "until": world.now + 60}).encode()
    first = world.utility_says("cmd", message)
    again = world.utility_says("cmd", message)
    assert again == [first[-1]]
    world.crash()
    assert world.utility_says("cmd", message) == [first[-1]]


def test_an_expired_or_unreadable_command_is_not_done(world: World) -> None:
    _, outcome = world.ask(cmd="aggregate", mode="lossy", until=world.now)
    assert outcome.result == "expired"
    assert world.utility_says("cmd", b'{"v":1,"id":"x","cmd":"reduce","until":1}') == []
    assert world.core.relay.mode.name == "none"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["put", "relay", "ack", "lost", "crash", "compact", "new_utility", "refuse"]), max_size=40)
)
def test_whatever_happens_the_utility_ends_with_every_slot_once(tmp_path_factory, steps: list[str]) -> None:  # type: ignore[no-untyped-def]
    world = World(tmp_path_factory.mktemp("relay") / "gateway.db")
    utility: dict[int, list[Batch]] = {1: []}
    in_flight: list[Batch] = []
    store, made = 1, 0
    for step in [*steps, "relay", "ack", "lost", "relay", "ack", "lost", "relay", "ack"]:
        if step == "put":
            world.put(1, made + 1, readings(1, made + 1, 4, start=START + made * 15))
            made += 4
        elif step == "relay":
            in_flight += relay(world)
        elif step == "ack":
            for batch in in_flight:
                utility[store].append(batch)
                in_flight = batches(world.acknowledge(batch, store=store))
        elif step == "lost":
            in_flight.clear()
            world.now += ACK_WITHIN_S
        elif step == "crash":
            world.crash()
        elif step == "compact":
            world.now += QUARTER_S
            world.tick("compact_s")
        elif step == "new_utility":
            store += 1
            utility[store] = []
        elif step == "refuse" and in_flight:
            world.acknowledge(in_flight.pop(), store=store, status=BatchRefusal.BUSY)
    world.put(2, 1, readings(2, 1, 1))  # whatever the last utility lacks, it learns of with the next batch
    for turn in range(6):
        world.now += OTHERS_WAIT_S * (turn == 2)
        for batch in relay(world):
            utility[store].append(batch)
            world.acknowledge(batch, store=store)
    world.store.close()
    found = blocks_of(utility[store])
    assert (found.quality > 0).sum() == made + 1
    assert not len(found.extras)


SLOW_S, QUICK_S = 150, 1  # seconds of a batch at the utility
HOURS = 2


@dataclass
class Played:
    """What happened."""

    most_waiting: int  # batches that waited at the utility at once
    blocks: int  # blocks that the gateway sent
    left: int  # parts that are not acknowledged at the end


def play(world: World) -> Played:
    """Let a gateway relay each minute for two hours to a slow utility, then for ten minutes to a quick one."""
    queue: deque[Batch] = deque()
    most, free_at = 0, START
    for minute in range(HOURS * 60 + 10):
        world.now = START + 60 * (minute + 1)
        world.put(1, 4 * minute + 1, readings(1, 4 * minute + 1, 4, start=START + 60 * minute))
        queue.extend(batches(world.tick("relay_s")))
        takes_s = SLOW_S if minute < HOURS * 60 else QUICK_S
        while queue and free_at + takes_s <= world.now:
            free_at = max(free_at, world.now - 60) + takes_s
            queue.extend(batches(world.acknowledge(queue.popleft())))
        most = max(most, len(queue))
    return Played(most, world.core.relay.counts.blocks, world.store.backlog()[0])


def test_a_slow_utility_does_not_get_the_same_data_until_it_drowns(world: World) -> None:
    played = play(world)
    assert played.most_waiting <= 8
    assert played.left <= 1, "all but the last minute"


def test_with_a_fixed_wait_it_drowns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_ACK_S", module.ACK_WITHIN_S)
    assert play(world).most_waiting > 40
