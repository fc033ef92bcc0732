"""The payload of a block: nothing changes on the way, damage is found out, and it is small."""

import random
import re
import struct
import zlib
from dataclasses import fields
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.codec.packing import BAD_PAYLOAD, FEW, pack, unpack, unpack_sound
from commonwatt.codec.packing_arrays import IS_DIVIDED, MAX_PAYLOAD_BYTES, unpack_plain
from commonwatt.model.blocks import Blocks, Key, average, concatenate, make_blocks
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import MAX_ABS_READING, SLOTS

KEY = (10_001, 3, 1_988_889)
EXTREMES = [0, 1, -1, MAX_ABS_READING, -MAX_ABS_READING, MAX_ABS_READING - 1]

readings = st.one_of(
    st.integers(-MAX_ABS_READING, MAX_ABS_READING), st.sampled_from(EXTREMES), st.integers(5_000, 5_100)
)


def multiples(step: int, offset: int) -> st.SearchStrategy[int]:
    """Readings of a meter that counts in steps, from any reading on."""
    least, most = -((MAX_ABS_READING + offset) // step), (MAX_ABS_READING - offset) // step
    some = st.integers(max(least, -40), min(most, 40))
    return st.one_of(some, st.integers(least, most), st.sampled_from([least, most])).map(lambda n: offset + n * step)


steps_of_meters = st.one_of(st.sampled_from([2, 3, 100, 625, 1_000, 1_250]), st.integers(2, 2 * MAX_ABS_READING))
offsets = st.one_of(st.just(0), st.integers(-MAX_ABS_READING, MAX_ABS_READING))


@st.composite
def blocks(draw: st.DrawFn) -> Blocks:
    """One block of any values, any mask, any mix of averaged and exact, some slots in conflict."""
    stepwise = multiples(draw(steps_of_meters), draw(offsets))
    kind = draw(st.sampled_from([readings, st.sampled_from(EXTREMES), st.integers(10**12, 10**12 + 300), stepwise]))
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


def assert_same(a: Blocks, b: Blocks) -> None:
    for field in fields(Blocks):
        left, right = getattr(a, field.name), getattr(b, field.name)
        assert (left.dtype, left.tolist()) == (right.dtype, right.tolist()), field.name


def many_blocks(rng: np.random.Generator, n: int) -> Blocks:
    """Make blocks of every shape: any width, steps or none, multiples, few slots or all, averaged ones, conflicts."""
    top = 1 << rng.integers(0, 54, n)
    steady = rng.integers(-top[:, None], top[:, None], (n, SLOTS)) // np.where(rng.random(n) < 0.3, SLOTS, 1)[:, None]
    rising = np.cumsum(steady, axis=1) // SLOTS
    values = np.where(rng.random(n)[:, None] < 0.5, steady, rising)
    resolution = np.where(rng.random(n) < 0.5, 1, rng.choice([2, 3, 100, 625, 1_000, 1_250, 2**20 + 1, 2**51], n))
    values -= np.fmod(values, resolution[:, None])
    offset = rng.integers(-(2**52), 2**52, n) * (rng.random(n) < 0.3)
    values += np.where(np.abs(values).max(axis=1) <= 2**52, offset, 0)[:, None]
    for row in np.flatnonzero(rng.random(n) < 0.1):
        values[row] = rng.choice(rng.choice(EXTREMES, rng.integers(1, 4)), SLOTS)
    share = rng.choice([0, 0.05, 0.5, 1, 1], n)
    exact = rng.choice([0.9, 1, 1], n)[:, None]
    quality = (rng.random((n, SLOTS)) < share[:, None]) * np.where(rng.random((n, SLOTS)) < exact, 2, 1)
    conflicts = [row for row in np.flatnonzero(rng.random(n) < 0.1).tolist() if quality[row, 7]]
    extras = [(row, 7, MAX_ABS_READING) for row in conflicts if values[row, 7] < MAX_ABS_READING]
    keys = [(int(rng.integers(0, 2**63)), int(rng.integers(1, 5)), int(rng.integers(0, 2**32))) for _ in range(n)]
    return make_blocks(keys, np.where(quality > 0, values, 0), quality, extras)


seeds = st.integers(0, 2**32).map(np.random.default_rng)


@given(seeds, st.integers(FEW, 100))
@settings(max_examples=100)
def test_many_blocks_are_packed_like_each_by_itself(rng: np.random.Generator, n: int) -> None:
    together = many_blocks(rng, n)
    payloads = [pack(together.take([row]))[0] for row in range(n)]
    assert pack(together) == payloads
    assert_same(unpack(together.keys(), payloads), together)


# A head of any flags, one mask or none, and numbers and a width of any size, before some bits.
odd_bodies = st.builds(
    lambda flags, mask, numbers, width, bits: (
        bytes([flags]) + mask + b"".join(bytes([len(n)]) + n for n in numbers) + bytes([width]) + bits
    ),
    st.integers(0, 63),
    st.sampled_from([b"", *(mask.to_bytes(8, "big") for mask in (0, 1, 3, 2**59, 2**60 - 1, 2**64 - 1))]),
    st.lists(st.one_of(st.binary(max_size=9), st.just(b"\x7f" + b"\xff" * 7)), max_size=3),
    st.integers(0, 60),
    st.binary(max_size=16),
)


@st.composite
def divided_bodies(draw: st.DrawFn) -> bytes:
    """A body that has all it should have, but for what it is divided by: any number, with any others around it."""
    numbers = st.one_of(
        st.integers(-3, 3),
        st.sampled_from([2**53, -(2**53), 2**54, 2**55, 2**56, 2**63 - 1, -(2**63)]),
        st.integers(0, 62).flatmap(lambda bit: st.integers(2**bit - 1, 2**bit + 1)),
    ).map(lambda n: min(n, 2**63 - 1))
    delta, count = draw(st.booleans()), draw(st.integers(0, 5))
    framed = count - delta
    # The first value of differences, the divisor, the smallest.
    some = [draw(numbers) for _ in range(delta + 2 * (framed > 0))]
    width = draw(st.one_of(st.integers(0, 3), st.integers(0, 57)))
    length = (width * framed + 7) // 8
    frame = bytes([width]) + draw(st.binary(min_size=length, max_size=length)) if framed > 0 else b""
    head = bytes([0x11 | 0x04 * delta]) + ((1 << count) - 1).to_bytes(8, "big")
    return head + b"".join(bytes([8]) + n.to_bytes(8, "big", signed=True) for n in some) + frame


@given(seeds, st.lists(st.one_of(odd_bodies, divided_bodies()), max_size=FEW))
@settings(max_examples=150)
def test_among_many_payloads_each_is_judged_as_by_itself(rng: np.random.Generator, odd: list[bytes]) -> None:
    together = many_blocks(rng, 3 * FEW)
    keys, payloads = list(together.keys()), list(pack(together))
    for row, body in enumerate(odd):
        payloads[row] = signed(keys[row], body)
    for row in np.flatnonzero(rng.random(len(keys)) < 0.2).tolist():
        damaged = bytearray(payloads[row])
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        payloads[row] = bytes(damaged)
    by_themselves = [unpack_sound([key], [payload]) for key, payload in zip(keys, payloads, strict=True)]
    damaged_rows = [row for row, (_, damaged) in enumerate(by_themselves) if damaged]
    found, found_damaged = unpack_sound(keys, payloads)
    assert found_damaged == damaged_rows
    assert_same(found, concatenate([block for block, _ in by_themselves]))
    if damaged_rows:
        assert why_not(keys, payloads) == why_not([keys[damaged_rows[0]]], [payloads[damaged_rows[0]]])


def why_not(keys: list[Key], payloads: list[bytes]) -> str:
    with pytest.raises(ProtocolError) as caught:
        unpack(keys, payloads)
    return str(caught.value)


@pytest.mark.parametrize("size", [0, 4, MAX_PAYLOAD_BYTES + 1, 100_000])
def test_payload_of_no_possible_length_among_many_is_found_out(size: int) -> None:
    together = concatenate([make_blocks([(1, 3, q)], [[q] * SLOTS], [[2] * SLOTS]) for q in range(FEW)])
    payloads = list(pack(together))
    payloads[3] = bytes(size)
    found, damaged = unpack_sound(together.keys(), payloads)
    assert damaged == [3]
    assert found.values[:, 0].tolist() == [quarter for quarter in range(FEW) if quarter != 3]


def test_common_payloads_are_taken_apart_by_whole_arrays() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 9_000, (FEW, SLOTS))
    level = np.cumsum(values, axis=1)
    few = np.zeros((FEW, SLOTS), np.uint8)
    few[:, 8:12] = 2
    whole = np.full((FEW, SLOTS), 2)
    keys = [(1, 3, quarter) for quarter in range(FEW)]
    shapes = [(values, whole), (level, whole), (values, few), (level, few)]
    kinds = [make_blocks(keys, v * n, q) for v, q in shapes for n in (1, 1_250)]
    for made in [*kinds, *map(average, kinds)]:
        found = unpack_plain(made.keys(), pack(made))
        assert found.plain.all()
        assert (found.values.tolist(), found.quality.tolist()) == (made.values.tolist(), made.quality.tolist())


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


@given(st.builds(lambda flags, rest: bytes([flags]) + rest, st.integers(0, 63), st.binary(max_size=40)))
@settings(max_examples=300)
def test_junk_with_a_right_checksum_is_refused_or_a_sound_block(body: bytes) -> None:
    assert_refused_or_sound(body)


def assert_refused_or_sound(body: bytes) -> None:
    try:
        block = unpack([KEY], [signed(KEY, body)])
    except ProtocolError:
        return
    assert np.abs(block.values).max() <= MAX_ABS_READING
    assert unpack([KEY], pack(block)).values.tolist() == block.values.tolist()


@given(divided_bodies())
@settings(max_examples=300)
def test_whatever_a_payload_is_divided_by_it_is_refused_or_a_sound_block(body: bytes) -> None:
    assert_refused_or_sound(body)


_ONE = "01 0000000000000001 01 05 00"  # slot 0 alone, its value 5


@pytest.mark.parametrize(
    ("why", "body"),
    [
        ("unknown flags", "20"),
        ("cut short", "01 00000000"),
        ("number too long", "01 0000000000000001 09 000000000000000000 00"),
        ("width over 55", "01 0000000000000001 00 38 00000000000000"),
        ("beyond 2.53", "01 0000000000000001 08 0020000000000001 00"),
        ("too many", _ONE + "00"),
        ("missing", "09 0000000000000001 01 05 00  01 01 0000000000000006"),
        ("missing", "09 0000000000000001 01 05 00  01 3c 0000000000000006"),
        ("divisor below 2", "11 0000000000000003 00 02 1388 01 40"),
        ("divisor below 2", "11 0000000000000003 01 01 02 1388 01 40"),
        ("divisor below 2", "11 0000000000000003 01 fe 02 1388 01 40"),
        ("divisor below 2", "15 0000000000000007 00 01 00 02 1388 01 40"),
        ("divisor below 2", "11 0000000000000003 08 8000000000000000 02 1388 01 40"),
        ("number too long", "11 0000000000000003 09 000000000000000002 02 1388 01 40"),
        ("divisor of no value", "11 0000000000000000"),
        ("divisor of no value", "15 0000000000000001 01 05"),
        ("divisor of no value", "15 0000000000000001 01 05 01 02"),
        ("width and divisor over 56", "11 0000000000000003 08 0080000000000000 00 01 40"),
        ("width and divisor over 56", "11 0000000000000003 08 4000000000000000 00 02 10"),
        ("width and divisor over 56", "11 0000000000000003 01 02 00 37 " + "00" * 14),
        ("beyond 2.53", "11 0000000000000003 07 20000000000000 01 01 01 40"),
        ("beyond 2.53", "15 0000000000000007 00 07 20000000000000 00 01 c0"),
        ("cut short", "11 0000000000000003 02 03"),
        ("out of order", "09 0000000000000001 01 05 00  01 00 0000000000000005"),
        ("out of order", "09 0000000000000001 01 05 00  01 00 0000000000000004"),
        ("out of order", "09 0000000000000001 01 05 00  01 00 7fffffffffffffff"),
        ("out of order", "09 0000000000000001 01 05 00  02 00 0000000000000007 00 0000000000000006"),
        ("out of order", "09 0000000000000001 01 05 00  02 00 0000000000000006 00 0000000000000006"),
    ],
)
def test_malformed_payload_is_refused_by_name(why: str, body: str) -> None:
    assert unpack([KEY], [signed(KEY, bytes.fromhex(_ONE))]).values[0, 0] == 5
    payload = signed(KEY, bytes.fromhex(body))
    alone = why_not([KEY], [payload])
    assert re.search(why, alone)
    assert why_not([KEY] * FEW, [payload] * FEW) == alone


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


def bytes_of(rows: list[list[int]], resolution: int, record_type: int) -> int:
    """Return what blocks take of a meter that counts in steps of ``resolution``."""
    rounded = [[round(value / resolution) * resolution for value in row] for row in rows]
    keys = [(1, record_type, quarter) for quarter in range(len(rows))]
    return sum(map(len, pack(make_blocks(keys, rounded, np.full((len(rows), SLOTS), 2)))))


@pytest.mark.parametrize("resolution", [1_000, 1_250])
def test_household_whose_meter_counts_in_coarse_steps_costs_less_than_half(resolution: int) -> None:
    rng = random.Random(1)
    rows = [[max(0, round(rng.gauss(20_000, 4_000))) for _ in range(SLOTS)] for _ in range(50)]
    assert bytes_of(rows, resolution, 3) < bytes_of(rows, 1, 3) / 2


def test_level_that_is_told_in_coarse_steps_costs_less_than_a_fine_one() -> None:
    rng = random.Random(1)
    rows = [[*accumulate((round(rng.gauss(3_000, 60)) for _ in range(59)), initial=6_500_000)] for _ in range(50)]
    assert bytes_of(rows, 1_000, 2) < bytes_of(rows, 1, 2)


def test_block_is_divided_only_where_it_gets_shorter() -> None:
    # Even readings in two slots: a divisor takes two bytes, and would save less than one.
    (payload,) = pack(make_blocks([KEY], [[4, 10] + [0] * 58], [[2, 2] + [0] * 58]))
    assert not payload[0] & IS_DIVIDED
    (payload,) = pack(make_blocks([KEY], [[4, 10] * 30], [[2] * SLOTS]))
    assert payload[0] & IS_DIVIDED
