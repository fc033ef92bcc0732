"""The backup under its limit: oldest acknowledged first, and nothing that is not acknowledged, ever."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.model.effects import Write
from commonwatt.model.records import EventRecord
from gateway.changes import AVERAGED, DONE, OFFERED, UNSENT, AppendParts, DropBackup, Part
from gateway.store.store import Store
from gateway.upkeep import Upkeep
from harness.surroundings.gateway import START, World, batches, readings

parts = st.lists(st.tuples(st.integers(1000, 1020), st.sampled_from([UNSENT, OFFERED, AVERAGED, DONE, DONE, DONE])))


@settings(max_examples=30, deadline=None)
@given(made=parts.filter(bool), pages=st.integers(25, 120))
def test_the_oldest_acknowledged_goes_first_and_nothing_else_goes(made: list[tuple[int, int]], pages: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "gateway.db")
        store._db.execute("PRAGMA synchronous = OFF")
        payload = bytes(1900)
        rows = tuple(Part(0, (1, 3, quarter), payload, relayed) for quarter, relayed in made)
        store.commit([AppendParts(rows)])
        upkeep = Upkeep(store, pages * 4096)
        kept = set(range(1, len(made) + 1))
        while drop := upkeep._drop(step=3) if store.used_bytes() > pages * 4096 else None:
            (effect,) = drop
            assert isinstance(effect, Write)
            assert isinstance(effect.change, DropBackup)
            gone = set(effect.change.parts)
            assert all(made[number - 1][1] == DONE for number in gone), "acknowledged"
            kept -= gone
            left = [made[number - 1][0] for number in kept if made[number - 1][1] == DONE]
            assert max(made[number - 1][0] for number in gone) <= min(left, default=10**6), "oldest first"
            store.commit([effect.change])
        numbers = {number for (number,) in store._db.execute("SELECT id FROM part")}
        assert numbers == kept
        within = store.used_bytes() <= pages * 4096
        assert within or not any(made[number - 1][1] == DONE for number in numbers), "the limit holds"
        store.close()


def test_a_running_gateway_drops_what_is_above_the_limit_a_slice_at_a_turn(world: World) -> None:
    world.now += 61 * 900
    for n in range(60):
        world.put(1, n * 30 + 1, readings(1, n * 30 + 1, 30, start=START + n * 900))
    for batch in batches(world.tick("relay_s")):
        world.acknowledge(batch)
    world.put(1, 2001, readings(1, 2001, 4, start=START))
    world.core.upkeep = Upkeep(world.store, 1)
    world.tick("retry")
    assert world.core.upkeep.dropped == 60
    assert [part.key[2] for part in world.store.all_parts(unsent_only=False)] == [START // 900]


def test_letters_and_events_go_too_once_they_are_acknowledged(world: World) -> None:
    """Else one meter whose records are all bad, or that makes events without end, fills the disk for good."""
    for n in range(20):
        assert world.put(1, n + 1, readings(2, n + 1, 1)).rejected
        event = EventRecord(previous_state=0, new_state=1, record_id=n + 1, meter_id=1, time=START)
        assert world.put(1, n + 1, [event]).accepted
    world.put(1, 101, readings(1, 101, 4))
    for batch in batches(world.tick("relay_s")):
        world.acknowledge(batch)
    assert world.store.backlog() == (0, 0, 0)
    world.put(1, 201, readings(2, 201, 1))
    world.put(1, 201, [EventRecord(previous_state=0, new_state=1, record_id=201, meter_id=1, time=START)])
    world.core.upkeep = Upkeep(world.store, 1)
    gone: list[tuple[int, int, int]] = []
    for _ in range(4):
        world.now += 5
        world.do(world.core.upkeep.turn())
        left = (len(world.store.dead_letters()), len(list(world.store.all_parts(unsent_only=False))))
        gone.append((*left, len(list(world.store.all_events(unsent_only=False)))))
    assert gone == [(1, 1, 21), (1, 0, 21), (1, 0, 1), (1, 0, 1)], "the unacknowledged stay"
