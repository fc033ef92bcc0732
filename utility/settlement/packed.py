"""A settled day of a meter as bytes: its quantities and quality, compressed, with a checksum.

Content, before compression (zstd): version, the quantities that the meter has, and for both directions the bytes of a
total, its divisor and the bytes of its parts; then the quality, one byte if all quarters have the same, else 96; then
96 totals and 96 parts of each direction, first all lowest bytes, then the next ones. A total is the energy of one
direction, divided by what all of them are multiples of: the meter's resolution. A part is the lesser of the energy
shared and not shared, doubled, and odd if it is the energy not shared. So all or nothing, by far the most, takes no
byte. The last four bytes are a CRC-32 over key and content.
"""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from commonwatt.energy.splits import Flags
from commonwatt.model.exceptions import StoreError
from utility.energy.quarters import QUARTERS_A_DAY, Energies, Qualities, Quantity

_VERSION = 1
_HEAD = np.dtype(
    [
        ("version", "u1"),
        ("has", "u1"),
        ("total_bytes", "u1", 2),
        ("part_bytes", "u1", 2),
        ("quality_bytes", "u1"),
        ("divisor", "<u4", 2),
    ]
)
_SHAPE_BYTES = 7  # the first fields of a head, up to ``quality_bytes``: contents of one layout have them in common

_KEY = struct.Struct(">QI")
_CHECK = struct.Struct(">I")
_DIRECTIONS = ((Quantity.IMPORTED, Quantity.SHARED_IN), (Quantity.EXPORTED, Quantity.SHARED_OUT))
_MAX_DIVISOR = 2**32 - 1

Array = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class MeterDays:
    """Settled days of meters, n rows."""

    energies: Mapping[Quantity, Energies]  # by quantity, milliwatt-hours, (n, 96)
    has: Mapping[Quantity, Flags]  # by quantity, which rows have it, (n); the others are 0
    quality: Qualities  # ``SettledQuality``, (n, 96)


def contents(days: MeterDays) -> list[bytes]:
    """Return the content of each row; equal content, equal bytes."""
    count = len(days.quality)
    head = np.zeros(count, _HEAD)
    head["version"] = _VERSION
    uniform = (days.quality == days.quality[:, :1]).all(axis=1)
    head["quality_bytes"] = np.where(uniform, 1, QUARTERS_A_DAY)
    columns = []
    for number, (rest_of, shared_of) in enumerate(_DIRECTIONS):
        rest, shared = days.energies[rest_of], days.energies[shared_of]
        has = days.has[rest_of] | days.has[shared_of]
        head["has"] |= (has.astype(np.uint8) << number).astype(np.uint8)
        total = rest + shared
        divisor = np.maximum(np.gcd.reduce(total, axis=1), 1)
        divisor = np.where(divisor > _MAX_DIVISOR, 1, divisor)
        head["divisor"][:, number] = divisor
        part = np.where(shared <= rest, 2 * shared, 2 * rest + 1)
        for name, values in (("total_bytes", total // divisor[:, None]), ("part_bytes", part)):
            head[name][:, number] = widths = _widths(values)
            columns.append((_planes(values), widths.tolist()))
    heads, quality = head.tobytes(), days.quality.tobytes()
    of_quality = head["quality_bytes"].tolist()
    return [
        heads[row * _HEAD.itemsize : (row + 1) * _HEAD.itemsize]
        + quality[row * QUARTERS_A_DAY : row * QUARTERS_A_DAY + of_quality[row]]
        + b"".join(_of_row(planes, row, widths[row]) for planes, widths in columns)
        for row in range(count)
    ]


def days_of(found: Sequence[bytes]) -> MeterDays:
    """Return the days of contents.

    Raises:
        StoreError: A content has another form.
    """
    energies = {quantity: np.zeros((len(found), QUARTERS_A_DAY), np.int64) for quantity in Quantity}
    has = {quantity: np.zeros(len(found), np.bool_) for quantity in Quantity}
    quality = np.zeros((len(found), QUARTERS_A_DAY), np.uint8)
    for rows, data in _by_layout(found):
        head = np.ascontiguousarray(data[:, : _HEAD.itemsize]).view(_HEAD)[:, 0]
        at = _HEAD.itemsize
        width = int(head["quality_bytes"][0])
        quality[rows] = data[:, at : at + width]
        at += width
        for number, (rest_of, shared_of) in enumerate(_DIRECTIONS):
            values = []
            for name in ("total_bytes", "part_bytes"):
                end = at + int(head[name][0, number]) * QUARTERS_A_DAY
                values.append(_values(data[:, at:end]))
                at = end
            has[rest_of][rows] = has[shared_of][rows] = bool(head["has"][0] >> number & 1)
            if not head["total_bytes"][0, number]:
                continue
            total = values[0] * head["divisor"][:, number, None].astype(np.int64)
            half = values[1] >> 1
            shared = np.where(values[1] & 1, total - half, half)
            energies[shared_of][rows], energies[rest_of][rows] = shared, total - shared
    return MeterDays(energies=energies, has=has, quality=quality)


def packed(keys: Iterable[tuple[int, int]], found: Iterable[bytes]) -> list[bytes]:
    """Return the payloads of contents.

    Args:
        keys: Of each, the meter's id and the day.
        found: The contents.
    """
    compress = zstandard.ZstdCompressor(level=5, write_checksum=False, write_dict_id=False).compress
    return [
        compress(content) + _CHECK.pack(zlib.crc32(content, zlib.crc32(_KEY.pack(*key))))
        for key, content in zip(keys, found, strict=True)
    ]


def unpacked(keys: Iterable[tuple[int, int]], payloads: Iterable[bytes]) -> list[bytes]:
    """Return the contents of payloads.

    Raises:
        StoreError: One is damaged, or belongs to another meter or day; the text names them.
    """
    decompress = zstandard.ZstdDecompressor().decompress
    found = []
    for key, payload in zip(keys, payloads, strict=True):
        try:
            content = decompress(payload[:-4])
        except (zstandard.ZstdError, MemoryError) as error:  # A damaged head may name any size.
            raise StoreError(f"settled day {key[1]} of meter {key[0]}: damaged: {error}") from error
        if payload[-4:] != _CHECK.pack(zlib.crc32(content, zlib.crc32(_KEY.pack(*key)))):
            raise StoreError(f"settled day {key[1]} of meter {key[0]}: its checksum does not match")
        found.append(content)
    return found


def content_of(key: tuple[int, int], payload: bytes) -> bytes | None:
    """Return the content of a payload; ``None``: it is damaged, or belongs to another meter or day."""
    try:
        return unpacked([key], [payload])[0]
    except StoreError:
        return None


def _by_layout(found: Sequence[bytes]) -> Iterable[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """Yield rows whose contents have one layout, with these as one array of bytes."""
    groups: dict[bytes, list[int]] = {}
    for row, content in enumerate(found):
        groups.setdefault(content[:_SHAPE_BYTES], []).append(row)
    for shape, rows in groups.items():
        if shape[0] != _VERSION:
            raise StoreError(f"a settled day of form {shape[0]}: a later version of Commonwatt wrote it")
        yield (
            np.array(rows, np.intp),
            np.frombuffer(b"".join([found[row] for row in rows]), np.uint8).reshape(len(rows), -1),
        )


def _widths(values: Array) -> NDArray[np.uint8]:
    """Return how many bytes the largest value of each row needs."""
    largest = values.max(axis=1)
    limits = np.array([0, *(2 ** (8 * n) - 1 for n in range(1, 8))], np.int64)
    return np.asarray(np.searchsorted(limits, largest), np.uint8)


def _planes(values: Array) -> bytes:
    """Return the rows' bytes, all lowest bytes of a row first."""
    return np.ascontiguousarray(
        values.astype("<i8").view(np.uint8).reshape(*values.shape, 8).transpose(0, 2, 1)
    ).tobytes()


def _of_row(planes: bytes, row: int, width: int) -> bytes:
    at = row * 8 * QUARTERS_A_DAY
    return planes[at : at + width * QUARTERS_A_DAY]


def _values(planes: NDArray[np.uint8]) -> Array:
    rows = len(planes)
    values = np.zeros((rows, QUARTERS_A_DAY), np.int64)
    for number in range(planes.shape[1] // QUARTERS_A_DAY):
        plane = planes[:, number * QUARTERS_A_DAY : (number + 1) * QUARTERS_A_DAY]
        values |= plane.astype(np.int64) << 8 * number
    return values
