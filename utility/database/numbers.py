"""Columns of whole numbers, as many rows are read, computed and inserted."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Column:
    """A column of whole numbers."""

    values: npt.NDArray[np.int64]  # int64 (n,)
    known: npt.NDArray[np.bool_] | None = None  # where there is a value, (n,); ``None``: everywhere

    def take(self, rows: npt.NDArray[np.intp]) -> "Column":
        """Return the values at ``rows``, in that order."""
        return Column(self.values[rows], None if self.known is None else self.known[rows])

    def __iter__(self) -> Iterator[int | None]:
        """Yield the values, ``None`` where there is none."""
        values: list[int | None] = self.values.tolist()
        if self.known is not None:
            for row in np.flatnonzero(~self.known).tolist():
                values[row] = None
        return iter(values)
