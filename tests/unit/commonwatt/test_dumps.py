"""Dumps: what is written reads back, so that the audit compares what is stored and nothing else."""

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.codec import dumps
from commonwatt.codec.dumps import block_lines, event_lines, read_dump
from commonwatt.model.blocks import join, make_blocks
from commonwatt.model.records import EventRecord
from commonwatt.model.units import SLOTS

values = st.lists(st.integers(0, 2**53), min_size=SLOTS, max_size=SLOTS)
qualities = st.lists(st.sampled_from([0, 1, 2]), min_size=SLOTS, max_size=SLOTS)
keys = st.tuples(st.sampled_from([1, 2**64 - 1]), st.integers(1, 4), st.integers(0, 2**32 - 1))
events = st.builds(
    EventRecord,
    previous_state=st.integers(0, 2**16 - 1),
    new_state=st.integers(0, 2**16 - 1),
    record_id=st.integers(0, 2**64 - 1),
    meter_id=st.integers(0, 2**64 - 1),
    time=st.integers(0, 2**32 - 1),
)


@given(st.dictionaries(keys, st.tuples(values, qualities), max_size=3), st.lists(events, max_size=4))
@settings(max_examples=30)
def test_dump_reads_back_as_what_was_stored(
    content: dict[tuple[int, int, int], tuple[list[int], list[int]]], made: list[EventRecord]
) -> None:
    extras = [
        (row, slot, v[slot] + (1 if v[slot] < 0 else -1))
        for row, (v, q) in enumerate(content.values())
        for slot in (0, 59)
        if q[slot] == 2
    ]
    blocks = join(
        [make_blocks(list(content), [v for v, _ in content.values()], [q for _, q in content.values()], extras)]
    )
    lines = [*event_lines((3, event) for event in made), *block_lines(blocks)]
    assert all("\n" not in line for line in lines)
    back, back_events = read_dump(io.StringIO("".join(line + "\n" for line in lines)))
    assert back.keys() == blocks.keys()
    assert back.values.tolist() == blocks.values.tolist()
    assert back.quality.tolist() == blocks.quality.tolist()
    assert back.extras.tolist() == blocks.extras.tolist()
    assert back_events == {(event.meter_id, 3, event.record_id): event for event in made}


def test_dump_of_more_blocks_than_a_chunk_loses_none() -> None:
    n = 2 * dumps._CHUNK + 1
    block = make_blocks([(1, 3, 0)], [[5] * SLOTS], [[2] * SLOTS])
    (line,) = block_lines(block)
    text = "\n".join(line.replace('"quarter":0', f'"quarter":{q}') for q in range(n))
    back, _ = read_dump(io.StringIO(text))
    assert back.quarter.tolist() == list(range(n))


def test_parts_of_one_block_in_two_lines_join() -> None:
    halves = [make_blocks([(1, 3, 0)], [[5] * SLOTS], [[2 * (slot % 2 == i) for slot in range(SLOTS)]]) for i in (0, 1)]
    text = "\n".join(line for half in halves for line in block_lines(half))
    back, _ = read_dump(io.StringIO(text))
    assert back.quality.tolist() == [[2] * SLOTS]


def test_empty_dump_is_nothing() -> None:
    blocks, made = read_dump(io.StringIO(""))
    assert (len(blocks), made) == (0, {})
