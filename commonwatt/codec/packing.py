"""Packing: the payload of one block, frame of reference and bit-packed (docs/protocol.md, "Block payload").

A payload is what the gateway stores, the wire carries and the utility keeps, byte for byte. Its last four bytes are a
CRC-32 over the block's key and the payload, which detects a damaged payload and a payload under a wrong key.
"""

import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from math import gcd

import numpy as np

from commonwatt.codec.packing_arrays import (
    HAS_AVERAGED,
    HAS_EXTRAS,
    HAS_MISSING,
    IS_DELTA,
    IS_DIVIDED,
    MAX_DIVIDED_BITS,
    MAX_PAYLOAD_BYTES,
    MAX_WIDTH,
    Payloads,
    are_plain,
    pack_plain,
    unpack_plain,
)
from commonwatt.model.blocks import EXTRA, Blocks, Key, Keys, Quality
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.units import MAX_ABS_READING, SLOTS

BAD_PAYLOAD = 7  # ``ProtocolError`` code of a payload that can't be unpacked
FEW = 12  # below this number of blocks, one block at a time is faster than arrays
MAX_EXTRAS = 150  # most extras that a block keeps

KNOWN_FLAGS = HAS_MISSING | HAS_AVERAGED | IS_DELTA | HAS_EXTRAS | IS_DIVIDED
_KEY = struct.Struct(">QBI")
_CHECK = struct.Struct(">I")
_MASK = struct.Struct(">Q")
_EXTRA = struct.Struct(">Bq")
_ALL_SLOTS = (1 << SLOTS) - 1
# Plain numbers: most parts have few slots, for which arrays and enumerations are slow.
_AVERAGED = int(Quality.AVERAGED)
_EXACT = int(Quality.EXACT)

_Extra = tuple[int, int]  # slot and value


def pack(blocks: Blocks) -> Payloads:
    """Return the payload of each block."""
    if len(blocks) < FEW:
        return Payloads.of(_pack_each(blocks))
    plain = are_plain(blocks)
    if plain.all():
        return pack_plain(blocks)
    by_arrays = iter(pack_plain(blocks.take(np.flatnonzero(plain))))
    one_at_a_time = _pack_each(blocks.take(np.flatnonzero(~plain)))
    return Payloads.of(next(by_arrays if is_plain else one_at_a_time) for is_plain in plain.tolist())


def _pack_each(blocks: Blocks) -> Iterator[bytes]:
    extras = defaultdict[int, list[_Extra]](list)
    for row, slot, value in blocks.extras.tolist():
        extras[row].append((slot, value))
    rows = zip(blocks.keys(), blocks.values.tolist(), blocks.quality.tolist(), strict=True)
    return (_pack_one(key, values, quality, extras[row]) for row, (key, values, quality) in enumerate(rows))


def unpack(keys: Keys | Sequence[Key], payloads: Payloads | Sequence[bytes]) -> Blocks:
    """Return the blocks whose (meter, type, quarter) keys and payloads are given.

    Raises:
        ProtocolError: A payload is damaged, malformed, or belongs to another key; the text names the key.
    """
    blocks, damaged = _unpack(Keys.of(keys), Payloads.of(payloads))
    if damaged:
        raise damaged[0][1]
    return blocks


def unpack_sound(keys: Keys | Sequence[Key], payloads: Payloads | Sequence[bytes]) -> tuple[Blocks, list[int]]:
    """Return the blocks that can be unpacked, in their order, and the indexes of all other payloads."""
    blocks, damaged = _unpack(Keys.of(keys), Payloads.of(payloads))
    if not damaged:
        return blocks, []
    rows = [row for row, _ in damaged]
    return blocks.take(np.delete(np.arange(len(blocks)), rows)), rows


def _unpack(keys: Keys, payloads: Payloads) -> tuple[Blocks, list[tuple[int, ProtocolError]]]:
    """Return the blocks, and (row, reason) of payloads that can't be unpacked; ignore these rows of the blocks."""
    if len(keys) != len(payloads):
        raise ValueError(f"{len(keys)} keys of {len(payloads)} payloads")
    shape = len(keys), SLOTS
    rest: Iterable[int] = range(len(keys))
    if len(keys) < FEW:
        values, quality = np.zeros(shape, np.int64), np.zeros(shape, np.uint8)
    else:
        found = unpack_plain(keys, payloads)
        values, quality, rest = found.values, found.quality, np.flatnonzero(~found.plain).tolist()
    extras: list[tuple[int, int, int]] = []
    damaged: list[tuple[int, ProtocolError]] = []
    for row in rest:
        try:
            values[row], quality[row], more = _unpack_one(keys[row], payloads[row])
        except ProtocolError as error:
            damaged.append((row, error))
        else:
            extras += [(row, slot, value) for slot, value in more]
    return Blocks(
        meter=keys.meter,
        record_type=keys.record_type,
        quarter=keys.quarter,
        values=values,
        quality=quality,
        extras=np.array(extras, dtype=EXTRA),
    ), damaged


def is_intact(key: Key, payload: bytes) -> bool:
    """Return whether a payload's checksum matches the payload and its key."""
    body, check = payload[:-4], payload[-4:]
    return _CHECK.pack(zlib.crc32(body, zlib.crc32(_KEY.pack(*key)))) == check


def _pack_one(key: Key, values: list[int], quality: list[int], extras: list[_Extra]) -> bytes:
    present = [value for value, q in zip(values, quality, strict=True) if q]
    flags = 0
    masks = b""
    if len(present) < SLOTS:
        flags |= HAS_MISSING
        masks += _MASK.pack(sum(1 << slot for slot, q in enumerate(quality) if q))
    if _AVERAGED in quality:
        flags |= HAS_AVERAGED
        masks += _MASK.pack(sum(1 << slot for slot, q in enumerate(quality) if q == _AVERAGED))
    form, frame = _frame(present)
    # Levels change in small steps, so their differences often need fewer bits than the levels.
    steps = [b - a for a, b in pairwise(present)]
    # Steps between the extremes may spread over 2^55, a bit more than a frame may be wide.
    if steps and (max(steps) - min(steps)).bit_length() <= MAX_WIDTH:
        steps_form, packed_steps = _frame(steps)
        delta = _number(present[0]) + packed_steps
        if len(delta) < len(frame):
            form, frame = IS_DELTA | steps_form, delta
    flags |= form
    body = bytes([flags]) + masks + frame
    if extras:
        kept = extras[:MAX_EXTRAS]
        body = bytes([flags | HAS_EXTRAS]) + body[1:] + bytes([len(kept)]) + b"".join(_EXTRA.pack(*e) for e in kept)
    return body + _CHECK.pack(zlib.crc32(body, zlib.crc32(_KEY.pack(*key))))


def _number(value: int) -> bytes:
    """Return a signed number as its length in bytes (one byte, 0 for zero) and that many bytes, big-endian."""
    length = (value.bit_length() + 8) // 8 if value else 0
    return bytes([length]) + value.to_bytes(length, "big", signed=True)


def _frame(values: list[int]) -> tuple[int, bytes]:
    """Return the frame of some values, divided if that is shorter, and its ``IS_DIVIDED`` flag."""
    if not values:
        return 0, b""
    base = min(values)
    over = [value - base for value in values]
    width = max(over).bit_length()
    divisor = gcd(*over)
    if divisor > 1:
        narrow = (max(over) // divisor).bit_length()
        head = _number(divisor)
        if len(head) + _frame_bytes(narrow, len(over)) < _frame_bytes(width, len(over)):
            return IS_DIVIDED, head + _number(base) + _packed([value // divisor for value in over], narrow)
    return 0, _number(base) + _packed(over, width)


def _packed(values: list[int], width: int) -> bytes:
    """Return the width in bits, and each value in that many bits."""
    packed = 0
    for value in values:
        packed = packed << width | value
    length = _frame_bytes(width, len(values))
    packed <<= length * 8 - width * len(values)
    return bytes([width]) + packed.to_bytes(length, "big")


def _frame_bytes(width: int, count: int) -> int:
    return (width * count + 7) // 8


class _Reader:
    """Reads the fields of a payload; reading beyond its end is an ``IndexError``."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        piece = self.data[self.at : self.at + length]
        if len(piece) != length:
            raise IndexError("cut short")
        self.at += length
        return piece

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        length = self.byte()
        if length > 8:
            raise ValueError("number too long")
        return int.from_bytes(self.take(length), "big", signed=True)

    def mask(self) -> int:
        """Return a mask of slots; bit s is slot s."""
        return int(_MASK.unpack(self.take(8))[0]) & _ALL_SLOTS

    def frame(self, count: int, *, divided: bool) -> list[int]:
        if count < 1:
            if divided:
                raise ValueError("divisor of no value")
            return []
        divisor = self.number() if divided else 1
        if divided and divisor < 2:
            raise ValueError("divisor below 2")
        base, width = self.number(), self.byte()
        if width > MAX_WIDTH:
            raise ValueError(f"width over {MAX_WIDTH} bits")
        if divided and width + divisor.bit_length() > MAX_DIVIDED_BITS:
            raise ValueError(f"width and divisor over {MAX_DIVIDED_BITS} bits")
        length = _frame_bytes(width, count)
        packed = int.from_bytes(self.take(length), "big") >> (length * 8 - width * count)
        if not width:
            return [base] * count
        mask = (1 << width) - 1
        return [base + divisor * (packed >> shift & mask) for shift in range(width * (count - 1), -1, -width)]


def _unpack_one(key: Key, payload: bytes) -> tuple[list[int], list[int], list[_Extra]]:
    where = f"block payload of meter {key[0]}, type {key[1]}, quarter {key[2]}"
    if len(payload) < 5 or len(payload) > MAX_PAYLOAD_BYTES:
        raise ProtocolError(BAD_PAYLOAD, f"{where}: {len(payload)} bytes")
    if not is_intact(key, payload):
        raise ProtocolError(BAD_PAYLOAD, f"{where}: checksum does not match")
    try:
        return _unpack_body(_Reader(payload[:-4]))
    except (IndexError, ValueError) as error:
        raise ProtocolError(BAD_PAYLOAD, f"{where}: {error}") from error


def _unpack_body(reader: _Reader) -> tuple[list[int], list[int], list[_Extra]]:
    flags = reader.byte()
    if flags & ~KNOWN_FLAGS:
        raise ValueError(f"unknown flags {flags:#04x}")
    present = reader.mask() if flags & HAS_MISSING else _ALL_SLOTS
    averaged = reader.mask() if flags & HAS_AVERAGED else 0
    count = present.bit_count()
    divided = bool(flags & IS_DIVIDED)
    if flags & IS_DELTA:
        first = reader.number()
        packed = [*accumulate(reader.frame(count - 1, divided=divided), initial=first)]
    else:
        packed = reader.frame(count, divided=divided)
    if len(packed) != count:
        raise ValueError("differences of no value")
    if packed and not -MAX_ABS_READING <= min(packed) <= max(packed) <= MAX_ABS_READING:
        raise ValueError("value beyond 2^53")
    extras = [_EXTRA.unpack(reader.take(9)) for _ in range(reader.byte())] if flags & HAS_EXTRAS else []
    if reader.at != len(reader.data):
        raise ValueError(f"{len(reader.data) - reader.at} bytes too many")
    if any(not present >> slot & 1 for slot, _ in extras):
        raise ValueError("extra value of a slot that is missing")
    values, quality = [0] * SLOTS, [0] * SLOTS
    for value in packed:
        slot = (present & -present).bit_length() - 1
        present &= present - 1
        values[slot] = value
        quality[slot] = _AVERAGED if averaged >> slot & 1 else _EXACT
    # The join relies on this order: the smallest value is the slot's value, and the extras are ascending.
    if any(not values[slot] < value <= MAX_ABS_READING for slot, value in extras) or sorted(set(extras)) != extras:
        raise ValueError("extra values out of order")
    return values, quality, extras
