"""The payloads of many blocks, as arrays: no object for each (docs/protocol.md, "Block payload")."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from commonwatt.model.block_keys import Keys

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
