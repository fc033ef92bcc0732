"""Packing: the payload of one block, frame of reference and bit-packed (docs/protocol.md, "Block payload").

A payload is what the gateway stores, the wire carries and the utility keeps, byte for byte. Its last four bytes are a
CRC-32 over the block's key and the payload, so that a payload damaged, or filed under another key, is found out.
"""

import struct
import zlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate, pairwise

from commonwatt.blocks import Blocks, Quality, make_blocks
from commonwatt.exceptions import ProtocolError
from commonwatt.units import MAX_ABS_READING, SLOTS

BAD_PAYLOAD = 7
"""``ProtocolError`` code of a payload that can't be unpacked."""

MAX_PAYLOAD_BYTES = 2048
"""No payload is longer; extras are cut to what fits (a slot with that many different values tells enough)."""

_HAS_MISSING = 0x01
_HAS_AVERAGED = 0x02
_IS_DELTA = 0x04
_HAS_EXTRAS = 0x08
_KNOWN_FLAGS = 0x0F
_KEY = struct.Struct(">QBI")
_CHECK = struct.Struct(">I")
_MASK = struct.Struct(">Q")
_EXTRA = struct.Struct(">Bq")
_ALL_SLOTS = (1 << SLOTS) - 1
# Plain numbers: most parts hold a few slots, for which neither arrays nor enumerations are quick.
_AVERAGED = int(Quality.AVERAGED)
_EXACT = int(Quality.EXACT)
_MAX_EXTRAS = 150
_MAX_WIDTH = 55


def pack(blocks: Blocks) -> list[bytes]:
    """Return the payload of each block."""
    extras = defaultdict[int, list[tuple[int, int]]](list)
    for row, slot, value in blocks.extras.tolist():
        extras[row].append((slot, value))
    rows = zip(blocks.keys(), blocks.values.tolist(), blocks.quality.tolist(), strict=True)
    return [_pack_one(key, values, quality, extras[row]) for row, (key, values, quality) in enumerate(rows)]


def unpack(keys: Sequence[tuple[int, int, int]], payloads: Sequence[bytes]) -> Blocks:
    """Return the blocks whose (meter, type, quarter) keys and payloads are given.

    Raises:
        ProtocolError: A payload is damaged, malformed, or belongs to another key; the text names the key.
    """
    values, qualities, extras = [], [], []
    for row, (key, payload) in enumerate(zip(keys, payloads, strict=True)):
        value, quality, extra = _unpack_one(key, payload)
        values.append(value)
        qualities.append(quality)
        extras += [(row, slot, other) for slot, other in extra]
    return make_blocks(keys, values, qualities, extras)


def unpack_sound(keys: Sequence[tuple[int, int, int]], payloads: Sequence[bytes]) -> tuple[Blocks, list[int]]:
    """Return the blocks that can be unpacked, in their order, and the indexes of those that can't."""
    try:
        return unpack(keys, payloads), []
    except ProtocolError:
        damaged = [
            i for i, (key, payload) in enumerate(zip(keys, payloads, strict=True)) if not _is_sound(key, payload)
        ]
        sound = [i for i in range(len(keys)) if i not in set(damaged)]
        return unpack([keys[i] for i in sound], [payloads[i] for i in sound]), damaged


def is_intact(key: tuple[int, int, int], payload: bytes) -> bool:
    """Tell whether the checksum of a payload, over it and its key, is right."""
    body, check = payload[:-4], payload[-4:]
    return _CHECK.pack(zlib.crc32(body, zlib.crc32(_KEY.pack(*key)))) == check


def _is_sound(key: tuple[int, int, int], payload: bytes) -> bool:
    try:
        _unpack_one(key, payload)
    except ProtocolError:
        return False
    return True


def _pack_one(key: tuple[int, int, int], values: list[int], quality: list[int], extras: list[tuple[int, int]]) -> bytes:
    present = [value for value, q in zip(values, quality, strict=True) if q]
    flags = 0
    masks = b""
    if len(present) < SLOTS:
        flags |= _HAS_MISSING
        masks += _MASK.pack(sum(1 << slot for slot, q in enumerate(quality) if q))
    if _AVERAGED in quality:
        flags |= _HAS_AVERAGED
        masks += _MASK.pack(sum(1 << slot for slot, q in enumerate(quality) if q == _AVERAGED))
    plain = _frame(present)
    # Levels move in small steps, so their differences often need fewer bits than themselves.
    steps = [b - a for a, b in pairwise(present)]
    # Steps between the extremes may spread over 2^55, a bit more than a frame may be wide.
    fits = steps and (max(steps) - min(steps)).bit_length() <= _MAX_WIDTH
    delta = _number(present[0]) + _frame(steps) if fits else plain
    if len(delta) < len(plain):
        flags |= _IS_DELTA
    body = bytes([flags]) + masks + min(plain, delta, key=len)
    if extras:
        kept = extras[:_MAX_EXTRAS]
        body = bytes([flags | _HAS_EXTRAS]) + body[1:] + bytes([len(kept)]) + b"".join(_EXTRA.pack(*e) for e in kept)
    return body + _CHECK.pack(zlib.crc32(body, zlib.crc32(_KEY.pack(*key))))


def _number(value: int) -> bytes:
    """Return a signed number as its length in bytes (one byte, 0 for zero) and that many bytes, big-endian."""
    length = (value.bit_length() + 8) // 8 if value else 0
    return bytes([length]) + value.to_bytes(length, "big", signed=True)


def _frame(values: list[int]) -> bytes:
    """Return the smallest value, the width in bits, and each value less the smallest in that many bits."""
    if not values:
        return b""
    base = min(values)
    width = (max(values) - base).bit_length()
    packed = 0
    for value in values:
        packed = packed << width | (value - base)
    length = (width * len(values) + 7) // 8
    packed <<= length * 8 - width * len(values)
    return _number(base) + bytes([width]) + packed.to_bytes(length, "big")


class _Reader:
    """Takes a payload apart; running off its end is an ``IndexError``."""

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
        """Return which slots; bit s is slot s."""
        return int(_MASK.unpack(self.take(8))[0]) & _ALL_SLOTS

    def frame(self, count: int) -> list[int]:
        if count < 1:
            return []
        base, width = self.number(), self.byte()
        if width > _MAX_WIDTH:
            raise ValueError(f"width over {_MAX_WIDTH} bits")
        length = (width * count + 7) // 8
        packed = int.from_bytes(self.take(length), "big") >> (length * 8 - width * count)
        if not width:
            return [base] * count
        mask = (1 << width) - 1
        return [base + (packed >> shift & mask) for shift in range(width * (count - 1), -1, -width)]


def _unpack_one(key: tuple[int, int, int], payload: bytes) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    where = f"block payload of meter {key[0]}, type {key[1]}, quarter {key[2]}"
    if len(payload) < 5 or len(payload) > MAX_PAYLOAD_BYTES:
        raise ProtocolError(BAD_PAYLOAD, f"{where}: {len(payload)} bytes")
    if not is_intact(key, payload):
        raise ProtocolError(BAD_PAYLOAD, f"{where}: checksum does not match")
    try:
        return _unpack_body(_Reader(payload[:-4]))
    except (IndexError, ValueError) as error:
        raise ProtocolError(BAD_PAYLOAD, f"{where}: {error}") from error


def _unpack_body(reader: _Reader) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    flags = reader.byte()
    if flags & ~_KNOWN_FLAGS:
        raise ValueError(f"unknown flags {flags:#04x}")
    present = reader.mask() if flags & _HAS_MISSING else _ALL_SLOTS
    averaged = reader.mask() if flags & _HAS_AVERAGED else 0
    count = present.bit_count()
    if flags & _IS_DELTA:
        first = reader.number()
        packed = [*accumulate(reader.frame(count - 1), initial=first)]
    else:
        packed = reader.frame(count)
    if len(packed) != count:
        raise ValueError("differences of no value")
    if packed and not -MAX_ABS_READING <= min(packed) <= max(packed) <= MAX_ABS_READING:
        raise ValueError("value beyond 2^53")
    extras = [_EXTRA.unpack(reader.take(9)) for _ in range(reader.byte())] if flags & _HAS_EXTRAS else []
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
    # Joining relies on it: the smallest stands, and extras are ascending.
    if any(not values[slot] < value <= MAX_ABS_READING for slot, value in extras) or sorted(set(extras)) != extras:
        raise ValueError("extra values out of order")
    return values, quality, extras
