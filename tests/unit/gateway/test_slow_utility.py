"""A utility that takes longer for a batch than a gateway waits: the same data must not come again and again.

The loop that a busy machine starts: a batch that is not acknowledged within two minutes is sent again, joins the queue
behind its first copy, and makes the next acknowledgement later still. None comes in time, so that nothing counts as
delivered. Then the utility requests what it misses: it waits in the same queue, and so does the answer.
"""

from collections import deque
from dataclasses import dataclass

import pytest

from commonwatt.protocol.batches import Batch
from gateway.relay import relay as module
from harness.surroundings.gateway import START, World, batches, readings

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
