"""Many blocks at once as whole arrays: payloads, packed and unpacked (docs/protocol.md, "Block payload").

Blocks with extras and malformed payloads are left to ``commonwatt.codec.packing``. It takes one at a time
and reports the fault. So one function validates payloads, and this module is the fast path.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from commonwatt.model.blocks import Blocks, Keys, Quality
from commonwatt.model.units import GROUP_SLOTS, MAX_ABS_READING, SLOTS

MAX_PAYLOAD_BYTES = 2048  # the longest payload; extras beyond this length are dropped
CHECK_BYTES = 4  # the checksum at the end of a payload

_KEY_BYTES = 13
_ALL_ONES = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class Payloads:
    """The concatenated payloads of n blocks; equal to a list of the same bytes."""

    buffer: bytes  # their bytes
    offsets: npt.NDArray[np.int64]  # int64 (n + 1,): payload i is ``buffer[offsets[i]:offsets[i + 1]]``

    @classmethod
    def of(cls, payloads: "Payloads | Iterable[bytes]") -> "Payloads":
        """Concatenate payloads, unless they are ``Payloads`` already."""
        if isinstance(payloads, Payloads):
            return payloads
        pieces = list(payloads)
        return cls(b"".join(pieces), np.array([*accumulate(map(len, pieces), initial=0)], dtype=np.int64))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The length of each, in bytes."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> bytes:
        return self.buffer[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[bytes]:
        ends = self.offsets.tolist()
        return (self.buffer[start:end] for start, end in pairwise(ends))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Payloads | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: npt.NDArray[np.intp]) -> "Payloads":
        """Return the payloads at ``rows``, in that order."""
        return Payloads.of(self[row] for row in rows.tolist())


def check_sums(keys: Keys, payloads: Payloads) -> npt.NDArray[np.uint32]:
    """Return the CRC-32 of each key and payload XOR the four bytes at the payload's end: 0 where they match.

    A CRC-32 is the XOR of one table entry for each byte and its distance from the end, so all bytes are
    looked up at once. Payloads are 5 to ``MAX_PAYLOAD_BYTES`` bytes long.
    """
    lengths = payloads.lengths
    if not len(lengths):
        return np.zeros(0, np.uint32)
    table = _contributions(1 << int(lengths.max() - 1).bit_length())  # a gateway's payloads are short: 2 MB less memory
    data = np.frombuffer(payloads.buffer, np.uint8)
    places = np.repeat(payloads.offsets[1:], lengths) - 1
    places -= np.arange(len(data))
    sums = np.bitwise_xor.reduceat(table.take((places << 8) | data), payloads.offsets[:-1])
    for at, column in enumerate(_key_columns(keys)):
        sums ^= table[(lengths + _KEY_BYTES - 1 - at) << 8 | column]
    return sums ^ np.uint32(_ALL_ONES)


def _key_columns(keys: Keys) -> npt.NDArray[np.uint8]:
    """Return the bytes of the keys, one row for each of the 13 bytes; the first four inverted, as a CRC-32 begins."""
    rows = np.empty((_KEY_BYTES, len(keys)), np.uint8)
    rows[:8] = keys.meter.astype(">u8").view(np.uint8).reshape(-1, 8).T
    rows[8] = keys.record_type
    rows[9:] = keys.quarter.astype(">u4").view(np.uint8).reshape(-1, 4).T
    rows[:4] ^= 0xFF
    return rows


@cache
def _contributions(longest: int) -> npt.NDArray[np.uint32]:
    """Return the CRC-32 term of each byte at index ``distance * 256 + byte``; a payload's last byte has distance 0."""
    # The last four bytes are the checksum itself, compared unchanged; the others pass through the CRC-32 register.
    step = np.array([zlib.crc32(bytes([byte]), _ALL_ONES) ^ _ALL_ONES for byte in range(256)], dtype=np.uint32)
    table = np.empty((longest + _KEY_BYTES, 256), dtype=np.uint32)
    for distance in range(CHECK_BYTES):
        table[distance] = np.arange(256, dtype=np.uint32) << np.uint32(8 * distance)
    table[CHECK_BYTES] = step
    for distance in range(CHECK_BYTES + 1, len(table)):
        before = table[distance - 1]
        table[distance] = step[before & 0xFF] ^ (before >> np.uint32(8))
    return table.ravel()


HAS_MISSING = 0x01
HAS_AVERAGED = 0x02
IS_DELTA = 0x04
HAS_EXTRAS = 0x08
IS_DIVIDED = 0x10

MAX_WIDTH = 55  # bits a packed value may have: wherever it begins, it ends within eight bytes
# Bits that a packed value and its divisor may have together: up to one more than their product.
MAX_DIVIDED_BITS = MAX_WIDTH + 1

_I64 = npt.NDArray[np.int64]
_U64 = npt.NDArray[np.uint64]
_U8 = npt.NDArray[np.uint8]
_Flags = npt.NDArray[np.bool_]

_ALL_SLOTS = np.uint64((1 << SLOTS) - 1)
_MIN_BYTES = 1 + CHECK_BYTES
_PLAIN_FLAGS = HAS_MISSING | HAS_AVERAGED | IS_DELTA | IS_DIVIDED
_MASK_BYTES = _NUMBER_BYTES = 8
# The most a damaged payload is read beyond its end: flags, two masks, three numbers, a width, eight more bytes.
_PADDING = bytes(64)
# Steps between readings are within 2^54. A sum of sixty such steps fits; larger steps are checked one at a time.
_MAX_STEP = 2**56
# The common divisor of these slots is computed first: at 1 mWh it is 1 already. Ten averaged slots have one value.
_FEW_SLOTS = slice(GROUP_SLOTS - 1, None, GROUP_SLOTS)
_EVERY_SLOT = slice(None)
_INT64 = np.iinfo(np.int64)
_POWERS = np.int64(1) << np.arange(63, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Unpacked:
    """The values and qualities of n unpacked payloads."""

    values: _I64  # int64 (n, 60), 0 where missing
    quality: _U8  # uint8 (n, 60), ``Quality``
    plain: _Flags  # which payloads are plain and sound; ignore the rows of all others


def unpack_plain(keys: Keys, payloads: Payloads) -> Unpacked:
    """Unpack the payloads that are plain and sound."""
    lengths = payloads.lengths
    fit: _Flags = (lengths >= _MIN_BYTES) & (lengths <= MAX_PAYLOAD_BYTES)
    if fit.all():
        return _unpack(keys, payloads)
    rows = np.flatnonzero(fit)
    some = _unpack(keys.take(rows), payloads.take(rows))
    shape = len(keys), SLOTS
    all_rows = Unpacked(np.zeros(shape, np.int64), np.zeros(shape, np.uint8), np.zeros(len(keys), np.bool_))
    all_rows.values[rows], all_rows.quality[rows], all_rows.plain[rows] = some.values, some.quality, some.plain
    return all_rows


def _unpack(keys: Keys, payloads: Payloads) -> Unpacked:
    """Unpack payloads whose lengths are all within the limits."""
    reader = _Reader(payloads)
    flags = reader.byte(np.ones(len(keys), np.bool_))
    present = np.where(flags & HAS_MISSING, reader.mask((flags & HAS_MISSING) > 0), _ALL_SLOTS)
    averaged = reader.mask((flags & HAS_AVERAGED) > 0)
    delta: _Flags = (flags & IS_DELTA) > 0
    divided: _Flags = (flags & IS_DIVIDED) > 0
    count = np.bitwise_count(present).astype(np.int64)
    framed = count - delta
    first = reader.number(delta)
    divisor = reader.number(divided & (framed > 0))
    base = reader.number(framed > 0)
    width = reader.byte(framed > 0)
    plain: _Flags = (
        reader.sound
        & (flags & ~_PLAIN_FLAGS == 0)
        & (framed >= 0)
        & (width <= MAX_WIDTH)
        & (reader.at + _frame_bytes(width, framed) == payloads.offsets[1:] - CHECK_BYTES)
        & (~delta | (_within(base, _MAX_STEP) & _within(first, MAX_ABS_READING)))
        & (check_sums(keys, payloads) == 0)
    )
    if divided.any():
        plain &= ~divided | ((divisor > 1) & (width + _bit_length(divisor) <= MAX_DIVIDED_BITS))
    # Parts of few slots need few columns.
    columns = np.arange(int(count.max(initial=1)))
    values = reader.frame(np.where(plain, width, 0), np.maximum(columns - delta[:, None], 0))
    if divided.any():
        values[divided] *= divisor[divided, None]
    values += base[:, None]
    if delta.any():
        steps = values[delta]
        steps[:, :1] = first[delta, None]
        values[delta] = np.cumsum(steps, axis=1)
    there = _flags(present)
    if not there.all():
        inside = columns < count[:, None]
        closed, values = values, np.zeros(there.shape, np.int64)
        values[there] = closed[inside]
    plain &= (values.min(axis=1) >= -MAX_ABS_READING) & (values.max(axis=1) <= MAX_ABS_READING)
    quality = there.view(np.uint8) * np.uint8(Quality.EXACT)
    if averaged.any():
        quality -= (there & _flags(averaged)).view(np.uint8)
    return Unpacked(values, quality, plain)


class _Reader:
    """Reads one field of all payloads at a time, from each payload that has it."""

    def __init__(self, payloads: Payloads) -> None:
        padded = payloads.buffer + _PADDING
        self.at = payloads.offsets[:-1].copy()  # the next read position of each payload
        self.sound = np.ones(len(payloads), np.bool_)  # false for payloads in which a number was too long
        self._bytes = np.frombuffer(padded, np.uint8)
        # The eight bytes from each byte on, as one number.
        self._words = np.ndarray((len(padded) - 7,), ">u8", padded, 0, (1,)).astype(np.uint64)

    def byte(self, where: _Flags) -> _I64:
        value = np.where(where, self._bytes[self.at], 0).astype(np.int64)
        self.at += where
        return value

    def mask(self, where: _Flags) -> _U64:
        value = np.where(where, self._words[self.at] & _ALL_SLOTS, np.uint64(0))
        self.at += where * _MASK_BYTES
        return value

    def number(self, where: _Flags) -> _I64:
        if not where.any():
            return np.zeros(len(where), np.int64)
        length = self.byte(where)
        self.sound &= length <= _NUMBER_BYTES
        length[length > _NUMBER_BYTES] = 0
        value = self._words[self.at].view(np.int64) >> (64 - 8 * length)
        self.at += length
        return np.where(length > 0, value, 0)

    def frame(self, width: _I64, places: _I64) -> _I64:
        """Return each row's values at ``places`` (n, m)."""
        bits = width[:, None] * places
        bits += 8 * self.at[:, None]
        words = self._words.take(bits >> 3, mode="clip")  # a short row has no bits in the last columns
        bits &= 7
        words <<= bits.view(np.uint64)
        words >>= (64 - width).view(np.uint64)[:, None]
        return words.view(np.int64)


def are_plain(blocks: Blocks) -> _Flags:
    """Return which blocks ``pack_plain`` can pack."""
    plain: _Flags = (blocks.values.min(axis=1) >= -MAX_ABS_READING) & (blocks.values.max(axis=1) <= MAX_ABS_READING)
    plain[blocks.extras["row"]] = False
    return plain


def pack_plain(blocks: Blocks) -> Payloads:
    """Pack plain blocks, with the same bytes as ``commonwatt.codec.packing``."""
    there = blocks.quality > Quality.MISSING
    masks = masks_of(there)
    count = np.bitwise_count(masks).astype(np.int64)
    values = _to_the_left(blocks.values, there, count)
    # Parts of few slots need few columns; two, for there to be a difference.
    values = values[:, : max(2, int(count.max(initial=0)))]
    plain = _Frame(values, count)
    steps = _Frame(np.diff(values, axis=1), np.maximum(count - 1, 0))
    first = np.where(count > 0, values[:, 0], 0)
    fits = steps.width <= MAX_WIDTH
    # Values minus their base and steps have one common divisor: skip the rows where the steps' divisor is 1.
    plain.divide(steps.divide(count > 1))
    first_bytes = 1 + _number_bytes(first)
    longer = first_bytes + steps.total_bytes >= plain.total_bytes
    delta: _Flags = (count > 1) & fits & ~longer
    averaged = masks_of(blocks.quality == Quality.AVERAGED)
    divided = np.where(delta, steps.divisor, plain.divisor) > 1
    missing: _Flags = count < SLOTS
    frame_bytes = np.where(delta, steps.total_bytes, plain.total_bytes)
    mask_bytes = _MASK_BYTES * (missing + (averaged > 0).astype(np.int64))
    lengths = 1 + mask_bytes + first_bytes * delta + frame_bytes + CHECK_BYTES
    writer = _Writer(lengths)
    everywhere = np.ones(len(blocks), np.bool_)
    flags = HAS_MISSING * missing + HAS_AVERAGED * (averaged > 0) + IS_DELTA * delta + IS_DIVIDED * divided
    writer.byte(everywhere, flags)
    writer.mask(missing, masks)
    writer.mask(averaged > 0, averaged)
    writer.number(delta, first)
    writer.frame(delta, steps)
    writer.frame(~delta & (count > 0), plain)
    return writer.signed(blocks.keys())


def _to_the_left(values: _I64, there: _Flags, count: _I64) -> _I64:
    """Close the gaps that missing slots leave."""
    if there.all():
        return values
    closed = np.zeros_like(values)
    closed[np.arange(SLOTS) < count[:, None]] = values[there]
    return closed


class _Frame:
    """The frames of n rows of numbers, each of the row's first ``count`` numbers.

    Attributes:
        numbers: The rows.
        count: How many numbers of each row are in its frame.
        base: The smallest number of each row.
        divisor: The divisor of each number minus the base; 1 where dividing saves nothing.
        width: Bits of each number after subtraction and division.
        packed_bytes: Bytes of the packed numbers.
        total_bytes: Bytes with divisor, base and width; 0 for an empty frame.
    """

    def __init__(self, numbers: _I64, count: _I64) -> None:
        self.numbers, self.count = numbers, count
        inside = np.arange(numbers.shape[1]) < count[:, None]
        if inside.all():
            self.base, top = numbers.min(axis=1), numbers.max(axis=1)
        else:
            self.base = np.where(inside, numbers, _INT64.max).min(axis=1)
            top = np.where(inside, numbers, _INT64.min).max(axis=1)
            self.base[count < 1] = top[count < 1] = 0
        self._spread = top - self.base
        self.divisor = np.ones_like(self.base)
        self._divides = False
        self.width = _bit_length(self._spread)
        self.packed_bytes = _frame_bytes(self.width, count)
        self.total_bytes = np.where(count > 0, 1 + _number_bytes(self.base) + 1 + self.packed_bytes, 0)

    def divide(self, where: _Flags) -> _Flags:
        """Divide by the greatest common divisor where that is shorter; return the rows whose divisor may exceed 1."""
        # A divisor takes two bytes or more, and each number keeps a bit or more.
        rows = np.flatnonzero(where & (self.packed_bytes > 2 + (self.count + 7) // 8))
        may_be_more = np.ones_like(where)
        for slots in (_FEW_SLOTS, _EVERY_SLOT):
            if not len(rows):
                return may_be_more
            divisor = np.gcd.reduce(self.over(rows, slots), axis=1)
            may_be_more[rows[divisor == 1]] = False
            rows, divisor = rows[divisor != 1], divisor[divisor != 1]
        width = _bit_length(self._spread[rows] // divisor)
        packed_bytes = _frame_bytes(width, self.count[rows])
        saved = self.packed_bytes[rows] - packed_bytes - 1 - _number_bytes(divisor)
        shorter = saved > 0
        rows = rows[shorter]
        self.divisor[rows], self.width[rows] = divisor[shorter], width[shorter]
        self.packed_bytes[rows] = packed_bytes[shorter]
        self.total_bytes[rows] -= saved[shorter]
        self._divides = bool(len(rows))
        return may_be_more

    def over(self, rows: npt.NDArray[np.intp], slots: slice = _EVERY_SLOT) -> _I64:
        """Return the numbers of some rows minus the row's base, divided; 0 as padding in shorter rows."""
        count = self.count[rows]
        most = int(count.max())
        over: _I64 = self.numbers[:, :most][:, slots][rows] - self.base[rows, None]
        over[np.arange(most)[slots] >= count[:, None]] = 0
        if self._divides:
            some = np.flatnonzero(self.divisor[rows] > 1)
            over[some] //= self.divisor[rows[some], None]
        return over


class _Writer:
    """Writes one field of all payloads at a time, to each payload that has it."""

    def __init__(self, lengths: _I64) -> None:
        self._offsets = np.concatenate(([0], np.cumsum(lengths)))
        self._bytes = np.zeros(int(self._offsets[-1]), np.uint8)
        self._at = self._offsets[:-1].copy()

    def byte(self, where: _Flags, values: _I64) -> None:
        self._bytes[self._at[where]] = values[where]
        self._at += where

    def mask(self, where: _Flags, masks: _U64) -> None:
        self._last_bytes(where, masks, np.full(len(where), _MASK_BYTES))

    def number(self, where: _Flags, values: _I64) -> None:
        rows = np.flatnonzero(where)
        lengths = np.zeros_like(values)
        lengths[rows] = _number_bytes(values[rows])
        self.byte(where, lengths)
        self._last_bytes(where, values, lengths)

    def frame(self, where: _Flags, frame: _Frame) -> None:
        self.number(where & (frame.divisor > 1), frame.divisor)
        self.number(where, frame.base)
        self.byte(where, frame.width)
        for width in np.flatnonzero(np.bincount(frame.width[where])).tolist():
            rows = np.flatnonzero(where & (frame.width == width))
            over = frame.over(rows)
            size = (width + 7) // 8
            big_endian = over.astype(">u8").view(np.uint8).reshape(*over.shape, 8)[:, :, 8 - size :]
            bits = np.unpackbits(big_endian, axis=2)[:, :, 8 * size - width :]
            packed = np.packbits(bits.reshape(len(rows), -1), axis=1)
            self._scatter(rows, packed, frame.packed_bytes[rows])
        self._at += where * frame.packed_bytes

    def _last_bytes(self, where: _Flags, numbers: _I64 | _U64, lengths: _I64) -> None:
        """Write the last ``lengths`` bytes of eight-byte numbers."""
        rows = np.flatnonzero(where & (lengths > 0))
        shifted = numbers[rows].view(np.uint64) << (64 - 8 * lengths[rows]).view(np.uint64)
        self._scatter(rows, shifted.astype(">u8").view(np.uint8).reshape(-1, 8), lengths[rows])
        self._at += where * lengths

    def _scatter(self, rows: npt.NDArray[np.intp], data: _U8, lengths: _I64) -> None:
        """Write the first ``lengths`` bytes of each row of ``data``."""
        column = np.arange(data.shape[1])
        inside = column < lengths[:, None]
        self._bytes[(self._at[rows, None] + column)[inside]] = data[inside]

    def signed(self, keys: Keys) -> Payloads:
        """Return the payloads, with their checksums."""
        sums = check_sums(keys, Payloads(self._bytes.tobytes(), self._offsets))
        column = self._offsets[1:, None] - CHECK_BYTES + np.arange(CHECK_BYTES)
        self._bytes[column] = sums.astype(">u4").view(np.uint8).reshape(-1, CHECK_BYTES)
        return Payloads(self._bytes.tobytes(), self._offsets)


def masks_of(flags: _Flags) -> _U64:
    """Return the 60 flags of each row as a number whose bit s is slot s."""
    return np.packbits(flags, axis=1, bitorder="little").view("<u8")[:, 0].astype(np.uint64)


def _flags(masks: _U64) -> _Flags:
    """Return the flags of each row from its mask; the reverse of ``masks_of``."""
    packed = masks.astype("<u8").view(np.uint8).reshape(-1, _MASK_BYTES)
    return np.unpackbits(packed, axis=1, bitorder="little", count=SLOTS).view(np.bool_)


def _frame_bytes(width: _I64, count: _I64) -> _I64:
    return (width * count + 7) // 8


def _number_bytes(values: _I64) -> _I64:
    """Return the length of each number in bytes, with its sign."""
    return np.where(values == 0, 0, (_bit_length(np.abs(values)) + 8) // 8)


def _bit_length(numbers: _I64) -> _I64:
    return np.searchsorted(_POWERS, numbers, side="right")


def _within(numbers: _I64, limit: int) -> _Flags:
    return (numbers >= -limit) & (numbers <= limit)
