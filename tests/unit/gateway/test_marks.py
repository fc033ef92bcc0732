"""A database of the utility that went back gets what it lacks, and an acknowledgement that it lost counts no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.batches import Batch, BatchFlag, Mark
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from gateway.marks import KEPT, Lost, Stretch, grown, lost
from gateway.relay.refill import OTHERS_WAIT_S
from harness.surroundings.gateway import START, World, batches, readings

A, B = 0xA, 0xB  # runs


def relay(world: World) -> list[Batch]:
    world.now += 60
    return [b for b in batches(world.tick("relay_s")) if b.keys]


def deliver(world: World, minutes: range, marks: tuple[Mark, ...]) -> None:
    """Collect, relay and have acknowledged one batch a minute, the acknowledgement of each an hour after the last."""
    for number in minutes:
        world.now = START + number * 3600
        world.put(1, number * 4 + 1, readings(1, number * 4 + 1, 4, start=START + number * 3600))
        (batch,) = relay(world)
        (run, counter), *history = marks
        world.acknowledge(batch, marks=((run, counter + number), *history))


def compare(world: World, run: int, *history: Mark, store: int = 7) -> list[Batch]:
    """Connect the gateway to a utility of this run and history; return what it sends again until nothing is left."""
    again: list[Batch] = []
    sent, asked, counter = batches(world.connect()), 0, 0
    for turn in range(10):
        while sent:
            batch = sent.pop(0)
            asks, counter = BatchFlag.HISTORY in batch.flags, counter + 1
            asked += asks
            again += [batch] if len(batch.keys) else []
            told = ((run, counter), (run, counter), *history) if asks else ((run, counter),)
            sent += batches(world.acknowledge(batch, store=store, marks=told))
        world.now += OTHERS_WAIT_S * (turn == 1)
        sent = relay(world)
    assert asked == 1
    assert world.store.backlog() == (0, 0, 0)
    return again


def quarters(sent: list[Batch]) -> list[int]:
    return sorted({(int(quarter) * QUARTER_S - START) // 3600 for batch in sent for quarter in batch.keys.quarter})


def test_a_utility_that_only_restarted_is_sent_nothing_again(world: World) -> None:
    deliver(world, range(6), ((A, 10),))
    assert compare(world, B, (A, 15)) == []
    assert world.store.backlog() == (0, 0, 0)


def test_a_database_that_went_back_is_sent_what_was_acknowledged_since_and_nothing_older(world: World) -> None:
    deliver(world, range(6), ((A, 10),))
    assert quarters(compare(world, B, (A, 12))) == [3, 4, 5]
    assert compare(world, 0xC, (A, 12), (B, 9)) == [], "once"


def test_after_a_restart_that_followed_the_loss_unseen_nothing_is_overlooked(world: World) -> None:
    deliver(world, range(4), ((A, 10),))
    deliver(world, range(4, 6), ((B, 10),))  # B began without A's last two commits; its history was not asked for yet
    assert quarters(compare(world, 0xC, (A, 11), (B, 15))) == [2, 3, 4, 5]


@pytest.mark.parametrize("history", [(), ((0xE, 99),), ((A, 9),)])
def test_a_database_from_before_all_that_is_remembered_is_sent_the_whole_backup(
    world: World, history: tuple[Mark, ...]
) -> None:
    deliver(world, range(6), ((A, 10),))
    assert quarters(compare(world, B, *history)) == [*range(6)]


def test_a_new_store_without_a_history_is_sent_the_whole_backup(world: World) -> None:
    deliver(world, range(3), ((A, 10),))
    assert quarters(compare(world, B, store=8)) == [*range(3)]


def test_a_new_store_id_alone_sends_nothing_again_to_a_database_with_the_whole_history(world: World) -> None:
    deliver(world, range(3), ((A, 10),))
    assert compare(world, B, (A, 12), store=8) == []


def test_an_older_utility_with_a_new_store_is_sent_the_whole_backup(world: World) -> None:
    deliver(world, range(3), ((A, 10),))
    (hello,) = batches(world.connect())
    world.acknowledge(hello, store=8)
    world.now += OTHERS_WAIT_S
    assert quarters(relay(world)) == [*range(3)]


def test_the_question_is_asked_again_until_it_is_answered_also_after_a_crash(world: World) -> None:
    deliver(world, range(2), ((A, 10),))
    (hello,) = batches(world.connect())
    (asking,) = batches(world.acknowledge(hello, marks=((B, 1),)))
    assert BatchFlag.HISTORY in asking.flags
    world.crash()
    assert quarters(compare(world, B, (A, 10))) == [1]


def test_the_heartbeat_names_the_last_mark(world: World) -> None:
    def told() -> Heartbeat:
        return next(unpack_json(Heartbeat, p.payload) for p in world.tick("heartbeat") if p.topic.endswith("stat"))

    assert told().mark is None
    deliver(world, range(2), ((A, 10),))
    assert told().mark == (A, 11)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=200),
    st.integers(0, 200),
)
def test_each_acknowledgement_that_a_database_lost_is_in_what_is_sent_again(
    steps: list[tuple[int, bool]], back_to: int
) -> None:
    """Each acknowledgement comes some hours after the last, in a new run or not; the database keeps the first few."""
    found: list[Stretch] = []
    acknowledged: list[Mark] = []
    run, counter, hour = 1, 0, 0
    for part, (hours, restarted) in enumerate(steps):
        run, counter = (run + 1, 1) if restarted else (run, counter + 1)
        hour += hours
        acknowledged.append((run, counter))
        found = grown(found, (run, counter), hour, part + 1)
    history = dict(acknowledged[:back_to])
    missing = lost(found, history)
    if back_to >= len(steps):
        assert missing is None
    else:
        assert missing is not None
        assert missing.part <= back_to + 1
        assert all(stretch.last <= history.get(stretch.run, -1) for stretch in found[: missing.kept])
    assert len(found) <= KEPT


def test_what_is_no_longer_remembered_is_not_taken_for_kept() -> None:
    found: list[Stretch] = []
    for hour in range(KEPT + 10):
        found = grown(found, (A, hour), hour, hour + 1)
    assert lost(found, {A: 5}) == Lost(0, 0)
    assert lost(found, {A: 50}) == Lost(52, 41)
