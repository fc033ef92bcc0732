"""The payload of a block: nothing changes on the way, damage is found out, and it is small."""

import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.blocks import Blocks, average, make_blocks
from commonwatt.exceptions import ProtocolError
from commonwatt.packing import BAD_PAYLOAD, MAX_PAYLOAD_BYTES, pack, unpack
from commonwatt.units import MAX_ABS_READING, SLOTS

KEY = (10_001, 3, 1_988_889)
EXTREMES = [0, 1, -1, MAX_ABS_READING, -MAX_ABS_READING, MAX_ABS_READING - 1]

readings = st.one_of(
    st.integers(-MAX_ABS_READING, MAX_ABS_READING), st.sampled_from(EXTREMES), st.integers(5_000, 5_100)
)


@st.composite
def blocks(draw: st.DrawFn) -> Blocks:
    """One block of any values, any mask, any mix of averaged and exact, some slots in conflict."""
    kind = draw(st.sampled_from([readings, st.sampled_from(EXTREMES), st.integers(10**12, 10**12 + 300)]))
    values = draw(st.lists(kind, min_size=SLOTS, max_size=SLOTS))
    quality = draw(
        st.one_of(st.just([2] * SLOTS), st.lists(st.sampled_from([0, 1, 2]), min_size=SLOTS, max_size=SLOTS))
    )
    present = [slot for slot in range(SLOTS) if quality[slot] and values[slot] < MAX_ABS_READING]
    extras = set()
    if present:
        for slot in draw(st.lists(st.sampled_from(present), max_size=4)):
            extras.add((0, slot, draw(st.integers(values[slot] + 1, MAX_ABS_READING))))
    meter = draw(st.sampled_from([0, 10_001, 2**64 - 1]))
    return make_blocks([(meter, draw(st.integers(1, 4)), draw(st.integers(0, 2**32 - 1)))], [values], [quality], extras)


def signed(key: tuple[int, int, int], body: bytes) -> bytes:
    """Put the right checksum under a made-up body."""
    return body + struct.pack(">I", zlib.crc32(body, zlib.crc32(struct.pack(">QBI", *key))))


@given(blocks())
def test_payload_round_trip_changes_no_reading(block: Blocks) -> None:
    (payload,) = pack(block)
    assert len(payload) <= MAX_PAYLOAD_BYTES
    back = unpack(block.keys(), [payload])
    assert back.keys() == block.keys()
    assert back.values.tolist() == block.values.tolist()
    assert back.quality.tolist() == block.quality.tolist()
    assert back.extras.tolist() == block.extras.tolist()


@given(st.lists(st.integers(0, 2**20), min_size=SLOTS, max_size=SLOTS))
@settings(max_examples=20)
def test_payload_of_an_averaged_block_round_trips(values: list[int]) -> None:
    block = average(make_blocks([KEY], [values], [[2] * 57 + [0] * 3]))
    assert set(block.quality[0].tolist()) == {0, 1, 2}
    back = unpack([KEY], pack(block))
    assert (back.values.tolist(), back.quality.tolist()) == (block.values.tolist(), block.quality.tolist())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 59, 60])
def test_payload_of_the_widest_swings_round_trips(count: int) -> None:
    values = [MAX_ABS_READING * (-1) ** i for i in range(SLOTS)]
    block = make_blocks([KEY], [values], [[2] * count + [0] * (SLOTS - count)])
    assert unpack([KEY], pack(block)).values.tolist() == block.values.tolist()


def test_payload_of_a_start_at_zero_and_the_widest_swings_round_trips() -> None:
    # Its differences would be shorter, but one bit wider than a reader accepts.
    values = [0, -MAX_ABS_READING, MAX_ABS_READING, -MAX_ABS_READING] + [0] * (SLOTS - 4)
    block = make_blocks([KEY], [values], [[2] * 4 + [0] * (SLOTS - 4)])
    assert unpack([KEY], pack(block)).values.tolist() == block.values.tolist()


def test_payload_of_no_slots_round_trips() -> None:
    block = make_blocks([KEY], [[0] * SLOTS], [[0] * SLOTS])
    assert not unpack([KEY], pack(block)).quality.any()


def test_payload_stays_in_its_bound_however_many_values_conflict() -> None:
    values = [-MAX_ABS_READING, MAX_ABS_READING - 9] * 30
    quality = [1, 2] * 29 + [0, 2]
    extras = [(0, slot, values[slot] + n) for slot in range(SLOTS) if quality[slot] for n in range(1, 10)]
    block = make_blocks([KEY], [values], [quality], extras)
    (payload,) = pack(block)
    assert len(payload) <= MAX_PAYLOAD_BYTES
    back = unpack([KEY], [payload])
    assert back.values.tolist() == block.values.tolist()
    assert back.extras_of(0) == block.extras_of(0)[:150]


@given(blocks(), st.data())
def test_flipped_bit_is_found_out(block: Blocks, data: st.DataObject) -> None:
    (payload,) = pack(block)
    bit = data.draw(st.integers(0, len(payload) * 8 - 1))
    damaged = bytearray(payload)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError) as caught:
        unpack(block.keys(), [bytes(damaged)])
    assert caught.value.code == BAD_PAYLOAD


@pytest.mark.parametrize("key", [(10_002, 3, 1_988_889), (10_001, 1, 1_988_889), (10_001, 3, 1_988_890)])
def test_payload_filed_under_another_key_is_found_out(key: tuple[int, int, int]) -> None:
    (payload,) = pack(make_blocks([KEY], [[5] * SLOTS], [[2] * SLOTS]))
    with pytest.raises(ProtocolError, match=f"meter {key[0]}, type {key[1]}, quarter {key[2]}"):
        unpack([key], [payload])


@given(st.one_of(st.binary(max_size=64), st.binary(min_size=MAX_PAYLOAD_BYTES - 3, max_size=MAX_PAYLOAD_BYTES + 8)))
def test_junk_is_a_protocol_error_and_nothing_else(junk: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack([KEY], [junk])


@given(st.builds(lambda flags, rest: bytes([flags]) + rest, st.integers(0, 31), st.binary(max_size=40)))
@settings(max_examples=300)
def test_junk_with_a_right_checksum_is_refused_or_a_sound_block(body: bytes) -> None:
    try:
        block = unpack([KEY], [signed(KEY, body)])
    except ProtocolError:
        return
    assert np.abs(block.values).max() <= MAX_ABS_READING
    assert unpack([KEY], pack(block)).values.tolist() == block.values.tolist()


_ONE = "01 0000000000000001 01 05 00"
"""Slot 0 alone, its value 5."""


@pytest.mark.parametrize(
    ("why", "body"),
    [
        ("unknown flags", "10"),
        ("cut short", "01 00000000"),
        ("number too long", "01 0000000000000001 09 000000000000000000 00"),
        ("width over 55", "01 0000000000000001 00 38 00000000000000"),
        ("beyond 2.53", "01 0000000000000001 08 0020000000000001 00"),
        ("too many", _ONE + "00"),
        ("missing", "09 0000000000000001 01 05 00  01 01 0000000000000006"),
        ("missing", "09 0000000000000001 01 05 00  01 3c 0000000000000006"),
        ("out of order", "09 0000000000000001 01 05 00  01 00 0000000000000005"),
        ("out of order", "09 0000000000000001 01 05 00  01 00 0000000000000004"),
        ("out of order", "09 0000000000000001 01 05 00  01 00 7fffffffffffffff"),
        ("out of order", "09 0000000000000001 01 05 00  02 00 0000000000000007 00 0000000000000006"),
        ("out of order", "09 0000000000000001 01 05 00  02 00 0000000000000006 00 0000000000000006"),
    ],
)
def test_malformed_payload_is_refused_by_name(why: str, body: str) -> None:
    assert unpack([KEY], [signed(KEY, bytes.fromhex(_ONE))]).values[0, 0] == 5
    with pytest.raises(ProtocolError, match=why):
        unpack([KEY], [signed(KEY, bytes.fromhex(body))])


def test_noisy_household_costs_less_than_two_bytes_a_reading() -> None:  # req: C9
    rng = random.Random(1)
    rows = [[max(0, round(rng.gauss(5_000, 150))) for _ in range(SLOTS)] for _ in range(50)]
    payloads = pack(make_blocks([(1, 3, q) for q in range(50)], rows, np.full((50, SLOTS), 2)))
    assert sum(map(len, payloads)) / (50 * SLOTS) < 2


def test_constant_household_costs_less_than_half_a_byte_a_reading() -> None:  # req: C9
    (payload,) = pack(make_blocks([KEY], [[5_000] * SLOTS], [[2] * SLOTS]))
    assert len(payload) / SLOTS < 0.5


def test_steady_charging_costs_less_as_differences() -> None:
    (payload,) = pack(make_blocks([KEY], [[10**9 + 5_000 * i for i in range(SLOTS)]], [[2] * SLOTS]))
    assert len(payload) / SLOTS < 0.5
