"""Analysis over towns: settled quarter-hours that a core sums in a second."""

import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from statistics import median

import numpy as np

from commonwatt.model.units import QUARTER_S
from commonwatt.settlement.settled import QUARTERS_A_DAY, Quantity, SettledQuarters
from harness.docs.measured import Goal, Section, Table, number, spread
from utility.exports.columns import SETTLED_TABLE, count_of
from utility.exports.readings import Grids
from utility.exports.resolutions import Resolution
from utility.exports.settled import settled_rows
from utility.exports.writers import Format, make_writer
from utility.jobs.calendar_periods import NEW_YORK
from utility.towns.analysis.store.closed import Task, result_of
from utility.towns.analysis.views import VIEWS

FIRST = 1_996_628  # the first quarter: 1 December 2026 in New York
SQL = "SELECT start_utc::DATE AS day, sum(imported_milliwatt_hours) AS imported FROM settled GROUP BY day"


def random_settled(meters: Collection[int], first: int, end: int) -> SettledQuarters:
    """Return settled quarter-hours: half of the meters take energy, half give it; a part of it is shared."""
    rng = np.random.default_rng(first)
    shape = len(meters), end - first
    takes = (np.arange(shape[0]) % 2 == 0)[:, np.newaxis]
    shared = rng.random(shape) < 0.3
    values = rng.integers(0, 1_100_000, shape)
    own = {Quantity.IMPORTED: takes, Quantity.EXPORTED: ~takes}
    own |= {Quantity.SHARED_IN: takes & shared, Quantity.SHARED_OUT: ~takes & shared}
    return SettledQuarters(
        meters=np.array(sorted(meters), np.uint64),
        first=first,
        energies={quantity: values * mask for quantity, mask in own.items()},
        quality=np.full(shape, 4, np.uint8),
        provisional=np.zeros(shape, np.bool_),
        version=np.ones(shape, np.int32),
    )


def write_month(path: Path, meters: int, days: int) -> int:
    """Write a town's month as the exporter does; return how many rows it has."""
    ids, end, count = range(10_001, 10_001 + meters), FIRST + days * QUARTERS_A_DAY, 0
    grids = Grids.of({one: f"r{one // 22:03}" for one in ids})
    with path.open("wb") as file:
        writer = make_writer(Format.PARQUET, file, SETTLED_TABLE)
        for rows in settled_rows(random_settled, ids, grids, FIRST, end, Resolution.QUARTER, NEW_YORK):
            writer.write(rows)
            count += count_of(rows)
        writer.close()
    return count


def bench(*, smoke: bool = False) -> Section:
    """Measure a town's task on one core."""
    meters, days, repeats = (60, 1, 1) if smoke else (4_000, 31, 5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"settled-15min-{FIRST * QUARTER_S}.parquet"
        count, size = write_month(path, meters, days), path.stat().st_size
        statement = VIEWS["settled"].made_from(f"read_parquet(['{path}'])")
        task = Task(town="town", tables={"settled": statement}, sql=SQL, told="")
        took = []
        for _ in range(repeats + 1):  # The first one also loads modules.
            began = time.process_time()
            found = result_of(task)
            took.append(time.process_time() - began)
            assert found.num_rows in (days, days + 1), found
    rows, megabytes = [count / one / 1e6 for one in took[1:]], [size / one / 1e6 for one in took[1:]]
    return Section(
        title="Analysis over towns",
        about=f"The task of one town of `commonwatt analyse`: {count:,} settled quarter-hours of {meters:,} meters, "
        f"{days} days, {number(size / 1e6)} MB, as the exporter writes them, are summed to the town's quarter-hours "
        "with their rules, and these to days, by DuckDB on one thread. The file is in the page cache.",
        tables=(
            Table(
                title="In a second of CPU time: median (least to most)",
                columns=("million rows", "MB of Parquet", "bytes a row"),
                rows=((spread(rows), spread(megabytes), f"{size / count:.2f}"),),
            ),
        ),
        goals=(
            Goal(
                what="settled quarter-hours of a core",
                value=round(median(rows), 1),
                unit="million rows in a second of CPU time",
                at_least=5,
                limited_by="Grouping by time.",
            ),
        ),
    )
