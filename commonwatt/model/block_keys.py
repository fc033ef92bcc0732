"""The keys of many blocks, as arrays: no object for each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Key: TypeAlias = tuple[int, int, int]  # meter, record type and quarter of a block


@dataclass(frozen=True, eq=False)
class Keys:
    """The keys of n blocks; equal to a list of the same tuples."""

    meter: npt.NDArray[np.uint64]  # uint64 (n,), meter ids
    record_type: npt.NDArray[np.uint8]  # uint8 (n,)
    quarter: npt.NDArray[np.uint32]  # uint32 (n,), epoch seconds // 900

    @classmethod
    def of(cls, keys: "Keys | Sequence[Key]") -> "Keys":
        """Make ``Keys`` of (meter, type, quarter) tuples; return ``Keys`` unchanged."""
        if isinstance(keys, Keys):
            return keys
        meter, record_type, quarter = zip(*keys, strict=True) if len(keys) else ((), (), ())
        return cls(np.array(meter, np.uint64), np.array(record_type, np.uint8), np.array(quarter, np.uint32))

    def __len__(self) -> int:
        return len(self.meter)

    def __getitem__(self, row: int) -> Key:
        return int(self.meter[row]), int(self.record_type[row]), int(self.quarter[row])

    def __iter__(self) -> Iterator[Key]:
        return zip(self.meter.tolist(), self.record_type.tolist(), self.quarter.tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: npt.NDArray[np.intp]) -> "Keys":
        """Return the keys at ``rows``, in that order."""
        return Keys(self.meter[rows], self.record_type[rows], self.quarter[rows])
