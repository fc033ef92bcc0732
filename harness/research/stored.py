"""Homes' energies as their meters' readings, in a utility's database."""

from collections.abc import Iterator

import numpy as np

from commonwatt.codec.packing import pack
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.town.town import Direction, Meter, Town
from harness.surroundings.sent import append
from utility.database.database import Database
from utility.readings.store.compactor import Compactor
from utility.readings.store.writer import Writer
from utility.registry.store.registration import fill_registry
from utility.research.homes import Homes, Measure


def store_homes(database: Database, town: Town, homes: Homes, *, compacts: bool = True) -> None:
    """Register a town, and store the readings of its homes, compacted or not; unknown quarters are left out."""
    with database.writes.begin() as connection:
        fill_registry(connection, town)
    end = homes.start + homes.known.shape[1] * QUARTER_S
    writer = Writer(database)
    for microgrid, blocks in readings_of(town, homes):
        made = append(blocks, sender=microgrid, received=end)
        writer.commit([type(made)(**{**vars(made), "owner": microgrid, "payloads": pack(blocks)})])
    compactor = Compactor(database)
    while compacts and (replacement := compactor.plan(end + 2 * QUARTER_S)) is not None:
        compactor.apply(replacement)


def readings_of(town: Town, homes: Homes) -> Iterator[tuple[str, Blocks]]:
    """Yield the blocks of each microgrid: energies spread evenly over the slots, levels from the quarter before on."""
    row_of = {(home.microgrid, home.place): row for row, home in enumerate(homes.homes)}
    for microgrid in town.microgrids.values():
        ours = [meter for meter in microgrid.meters if (microgrid.id, meter.location) in row_of]
        made = [_blocks_of(meter, homes, row_of[microgrid.id, meter.location]) for meter in ours]
        if made:
            keys = [key for one, _ in made for key in one]
            values = np.concatenate([one for _, one in made])
            yield microgrid.id, make_blocks(keys, values, np.full(values.shape, 2))


def _blocks_of(meter: Meter, homes: Homes, row: int) -> tuple[list[tuple[int, int, int]], np.ndarray]:
    first, known = homes.start // QUARTER_S, np.flatnonzero(homes.known[row])
    used, generated, taken, given = (homes.values[measure][row] for measure in Measure)
    if meter.direction is Direction.INCOMING:
        flows = {RecordType.THROUGH: taken}
    else:
        flows = {RecordType.GENERATION: generated, RecordType.THROUGH: given}
    keys = [(meter.id, int(kind), int(first + q)) for kind in flows for q in known]
    values = [_spread(values[known]) for values in flows.values()]
    if meter.battery is not None:
        level = np.cumsum(np.concatenate([[0], generated + taken - given - used]))
        level += 1000 - level.min()
        keys += [(meter.id, int(RecordType.STORED), int(first - 1)), *((meter.id, 2, int(first + q)) for q in known)]
        rising = level[:-1, None] + np.cumsum(_spread(np.diff(level)), axis=1)
        values += [np.full((1, SLOTS), level[0]), rising[known]]
    return keys, np.concatenate(values)


def _spread(values: np.ndarray) -> np.ndarray:
    """Return whole energies by slot that sum up to each value, (n, 60)."""
    ends = values[:, None] * np.arange(SLOTS + 1) // SLOTS
    return np.asarray(np.diff(ends, axis=1))
