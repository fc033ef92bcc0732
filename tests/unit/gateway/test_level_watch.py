"""Batteries are judged by all that is stored of them, read once."""

import random
from pathlib import Path

import pytest

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.units import QUARTER_S, SLOT_S, SLOTS
from gateway.changes import AppendParts, Part
from gateway.control.level_watch import LevelWatch
from gateway.control.plausibility import WINDOW_SLOTS
from harness.surroundings.gateway import START, World

QUARTER = START // QUARTER_S


def part_of(blocks: Blocks) -> Part:
    return Part(0, blocks.key(0), pack(blocks)[0])


def a_part(rng: random.Random, quarter: int) -> Part:
    """Return some slots of a meter's series: late, of the present, or of a clock that is ahead; some contradict."""
    key = (rng.choice((1, 2, 3, 4)), rng.choice((1, 2, 3)), quarter + rng.choice((-9, -3, -1, 0, 0, 0, 0, 1)))
    quality = [rng.choice((0, 0, 0, 0, 1)) for _ in range(SLOTS)]
    return part_of(make_blocks([key], [[rng.randrange(3)] * SLOTS], [quality]))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_read_since_the_last_look_is_what_a_new_gateway_reads(tmp_path: Path, seed: int) -> None:
    rng, world = random.Random(seed), World(tmp_path / "gateway.sqlite")
    core = world.core
    now = START + WINDOW_SLOTS * SLOT_S
    for _ in range(60):
        now += rng.choice((15, 60, 60, 600, 3 * 3600))
        parts = tuple(a_part(rng, now // QUARTER_S) for _ in range(rng.randrange(6)))
        world.store.commit([AppendParts(parts)])
        if rng.random() < 0.1:
            core.register(world.meters)
        kept = core.level_watch._read(now // SLOT_S * SLOT_S)
        anew = LevelWatch(world.store, core.manager, world.meters)._read(now // SLOT_S * SLOT_S)
        assert kept.keys() == anew.keys()
        assert all((kept[key] == anew[key]).all() for key in anew)


def test_a_look_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it read two hours each minute: a third of a gateway's time at the end of a quarter-hour."""
    rng, world = random.Random(1), World(tmp_path / "gateway.sqlite")
    world.store.commit([AppendParts(tuple(a_part(rng, QUARTER) for _ in range(100)))])
    world.core.level_watch._read(START + 60)
    monkeypatch.delattr("gateway.store.reads.StoreReads.block_parts")
    read: list[Part] = []
    after = world.store.parts_after

    def counted(number: int, first: int) -> list[Part]:
        found = list(after(number, first))
        read.extend(found)
        return found

    monkeypatch.setattr(world.store, "parts_after", counted)
    new = tuple(part_of(make_blocks([(1, 1, QUARTER)], [[n] * SLOTS], [[1] * SLOTS])) for n in range(3))
    world.store.commit([AppendParts(new)])
    for second in (120, 180):
        world.core.level_watch._read(START + second)
    assert [part.payload for part in read] == [part.payload for part in new]
