"""The numbers by which the tables name meters and controllers, of the whole registry at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from commonwatt.model.units import unsigned64
from utility.store.changes import Append
from utility.store.registry import controller_numbers
from utility.store.tables import meter


@dataclass(frozen=True, eq=False)
class RegistryNumbers:
    """The numbers of what is registered.

    Attributes:
        meters: Of meters, by id.
        ids: uint64 (n,), the same ids, ascending.
        numbers: int64 (n,), their numbers.
        controllers: Of controllers, by id.
    """

    meters: Mapping[int, int] = field(default_factory=dict)
    ids: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    numbers: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    controllers: Mapping[str, int] = field(default_factory=dict)

    def knows(self, appends: Sequence[Append]) -> bool:
        """Tell whether all that is in some batches, and who sent them, is known."""
        few = {m for a in appends for m in (*(e.meter_id for _, e in a.events), *(kept.meter for kept, _ in a.held))}
        who = {name for append in appends for name in (append.sender, append.owner)}
        return (
            few <= self.meters.keys()
            and who <= self.controllers.keys()
            and all(self._has(append.blocks.meter) for append in appends)
        )

    def _has(self, meters: npt.NDArray[np.uint64]) -> bool:
        """Tell whether all are known; looked up, since np.isin would sort the whole town for each batch."""
        if not len(self.ids):
            return not len(meters)
        rows = np.searchsorted(self.ids, meters)
        return bool((self.ids.take(rows, mode="clip") == meters).all())

    def numbers_of(self, meters: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the numbers of meters that are known."""
        return self.numbers[np.searchsorted(self.ids, meters)]


def read_numbers(connection: Connection) -> RegistryNumbers:
    """Return the numbers of everything registered."""
    meters = {unsigned64(row.id): row.no for row in connection.execute(select(meter.c.id, meter.c.no))}
    ids = np.array(sorted(meters), np.uint64)
    numbers = np.array([meters[i] for i in ids.tolist()], np.int64)
    return RegistryNumbers(meters, ids, numbers, controller_numbers(connection))
