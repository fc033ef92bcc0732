"""The bytes of a reading on PostgreSQL, from an emulated month of a part of the town."""

import tempfile
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from sqlalchemy import text

from commonwatt.codec.packing import pack
from commonwatt.config.files import check_model, read_toml
from commonwatt.model.blocks import Quality, make_blocks
from commonwatt.model.units import SLOTS
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.town.file import TownFile
from commonwatt.town.loading import WHOLE_TOWN, town_of
from commonwatt.town.scenario import load
from commonwatt.town.town import Town
from harness.real.postgres import Postgres
from harness.settlement.emulated import EmulatedQuarter, EmulatedTown
from harness.settlement.truth import DAY
from utility.database.bulk import insert_columns
from utility.database.database import Database, open_database
from utility.database.numbers import Column
from utility.database.postgres.partitions import make_partitions, month_of
from utility.readings.summaries import summaries
from utility.readings.tables import compacted

PART, DAYS = 10, 30  # one in so many homes of each kind is emulated, for so many days


@dataclass(frozen=True, kw_only=True)
class StoredReadings:
    """Readings that were stored."""

    series: int  # meters' series of readings
    days: float  # days of them
    blocks: int  # blocks
    bytes: int  # bytes of their table with its indexes

    @property
    def per_reading(self) -> float:
        """The bytes of a reading of 15 s."""
        return self.bytes / (self.blocks * SLOTS)


def part_of_town() -> Town:
    """Return a tenth of the town's residential microgrids and apartments, and the public microgrid, which is one."""
    file = read_toml(WHOLE_TOWN)
    for table in file["microgrid"]:
        for counted in {"residential": ["count"], "apartment": ["apartments"]}.get(table["kind"], []):
            table[counted] //= PART
    return town_of(check_model(WHOLE_TOWN, TownFile, file), WHOLE_TOWN)


def stored_readings(town: Town, quarters: int = DAYS * QUARTERS_A_DAY) -> StoredReadings:
    """Store emulated readings, from 15 June on in the town's usual weather, as the utility does."""
    weather = {"overcast": "as usual", "days": -(-quarters // QUARTERS_A_DAY)}
    emulated = EmulatedTown(town, load("normal").model_copy(update=weather))
    with (
        tempfile.TemporaryDirectory() as folder,
        Postgres(Path(folder), durable=False) as server,
        closing(open_database(server.url, create=True)) as database,
    ):
        blocks = sum(_append(database, one) for one in islice(emulated.quarters(DAY * QUARTERS_A_DAY), quarters))
        with database.reads.begin() as connection:
            tree = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('compacted')"
            size = int(connection.execute(text(tree)).scalar() or 0)
    return StoredReadings(series=blocks // quarters, days=quarters / QUARTERS_A_DAY, blocks=blocks, bytes=size)


def _append(database: Database, one: EmulatedQuarter) -> int:
    """Store the blocks of a quarter as compacted ones."""
    read = one.readings
    keys = [(meter, kind, one.quarter) for meter, kind, _ in read.keys]
    blocks = make_blocks(keys, read.values, np.full(read.values.shape, Quality.EXACT))
    same = np.ones(len(blocks), np.int64)
    columns = {"quarter": blocks.quarter.astype(np.int64), "record_type": blocks.record_type.astype(np.int64)}
    columns |= {"meter_no": np.arange(len(blocks)), "received_minute": same, "sender_no": same, "owner_no": same}
    made = {name: Column(values) for name, values in columns.items()} | summaries(blocks)
    with database.writes.begin() as connection:
        make_partitions(connection, {month_of(one.quarter)})
        return insert_columns(connection, compacted, made, list(pack(blocks)))
