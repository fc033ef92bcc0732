"""A small table of whole numbers as bytes: lowest and common divisor taken out, compressed, with a checksum."""

import struct
import zlib

import numpy as np
import zstandard
from numpy.typing import NDArray

from commonwatt.model.exceptions import StoreError

_HEAD = struct.Struct("<BBHHqq")
_FORM = 1
_CHECK = struct.Struct(">I")


def packed(values: NDArray[np.int64]) -> bytes:
    """Return the bytes of a table, (rows, columns)."""
    rows, columns = values.shape
    lowest = int(values.min(initial=0))
    rest = values - lowest
    divisor = max(1, int(np.gcd.reduce(rest, axis=None)))
    rest //= divisor
    width = (int(rest.max(initial=0)).bit_length() + 7) // 8
    planes = np.ascontiguousarray(rest.astype("<i8").view(np.uint8).reshape(rows, columns, 8)[:, :, :width])
    content = _HEAD.pack(_FORM, width, rows, columns, lowest, divisor) + planes.transpose(2, 0, 1).tobytes()
    compressed = zstandard.ZstdCompressor(level=5, write_checksum=False, write_dict_id=False).compress(content)
    return compressed + _CHECK.pack(zlib.crc32(content))


def unpacked(payload: bytes, what: str) -> NDArray[np.int64]:
    """Return the table of some bytes, (rows, columns).

    Args:
        what: What it is, for the error's text.

    Raises:
        StoreError: The bytes are damaged, or of a later form.
    """
    try:
        content = zstandard.ZstdDecompressor().decompress(payload[:-4])
    except (zstandard.ZstdError, MemoryError) as error:  # A damaged head may name any size.
        raise StoreError(f"{what}: damaged: {error}") from error
    if payload[-4:] != _CHECK.pack(zlib.crc32(content)):
        raise StoreError(f"{what}: its checksum does not match")
    form, width, rows, columns, lowest, divisor = _HEAD.unpack_from(content)
    if form != _FORM:
        raise StoreError(f"{what}: of form {form}: a later version of Commonwatt wrote it")
    planes = np.frombuffer(content, np.uint8, offset=_HEAD.size).reshape(width, rows, columns)
    found = np.zeros((rows, columns), np.int64)
    for number in range(width):
        found |= planes[number].astype(np.int64) << 8 * number
    return np.asarray(found * divisor + lowest, np.int64)
