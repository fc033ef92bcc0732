"""``commonwatt analyse``: SQL over the files of many towns, here or on a Dask cluster."""

import atexit
import gc
import re
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from commonwatt.cli.options import show
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.runtime.files import replacing
from commonwatt.runtime.service import progress_bar, stop_told
from utility.towns.analysis.store.closed import Task, made, query, result_of, with_town
from utility.towns.analysis.store.files import made_from
from utility.towns.analysis.views import VIEWS
from utility.towns.table import load_towns

SHOWN = 200  # the most rows that a terminal shows


def analyse(
    each_town: Annotated[
        str | None, typer.Option("--each-town", help="SQL for each town; without it, the tables are shown.")
    ] = None,
    then: Annotated[str | None, typer.Option("--then", help="SQL over `each`, the rows of all towns.")] = None,
    towns: Annotated[Path, typer.Option("--towns", help="The table of the towns (TOML).")] = Path("towns.toml"),
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Run on the Dask cluster of this address: tcp://HOST:8786.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The Parquet file to write.")] = None,
) -> None:
    """Run SQL over the exports and the open releases of many towns, by DuckDB.

    Without --each-town the tables that SQL may read are shown, with their columns: sums of a town, and open releases,
    never rows of a home. Rows of a town get its name as their first column, `town`. Towns run one after another here,
    or as tasks of a Dask cluster. If a town fails, there is no result. A query ends after 10 min at the latest, and
    with more than 1 GB of memory, or a million rows.

    Example: `analyse --each-town "SELECT start_utc::DATE AS day, sum(imported_milliwatt_hours) AS energy FROM
    settled GROUP BY day" --then "SELECT day, sum(energy) FROM each GROUP BY day ORDER BY day"`.
    """
    # `commonwatt` ends without a search for cycles; DuckDB's binding would report each object of one as a leak.
    atexit.register(gc.unfreeze)
    if each_town is None:
        for name, view in VIEWS.items():
            typer.echo(f"{name}: {view.about}")
            show("columns", [one._asdict() for one in view.columns], ("name", "kind", "meaning"))
        return
    # Wrong SQL fails here, on tables without rows, before any town has work.
    nothing = query("--each-town", made({name: view.empty for name, view in VIEWS.items()}), each_town, runs=False)
    if "town" in nothing.column_names:
        raise ConfigError("--each-town: gives a column `town`, which is the town's name; call it otherwise")
    query("--then", {"each": with_town(nothing, "")}, then or "FROM each", runs=False)
    tasks = _tasks(towns, each_town)
    with stop_told("stopped; there is no result"):
        try:
            rows = _rows_of(tasks, scheduler)
            rows = rows if then is None else query("--then", {"each": rows}, then)
        except RuntimeError as error:
            if "interrupted" not in str(error):
                raise
            raise KeyboardInterrupt from error  # DuckDB's form of Ctrl-C
    for task in tasks:
        typer.echo(f"{task.town}: {task.told}", err=True)
    if out is not None:
        with replacing(out) as file:
            pq.write_table(rows, file, compression="zstd")
        return
    show("rows", rows.slice(0, SHOWN).to_pylist(), rows.column_names)
    if rows.num_rows > SHOWN:
        typer.echo(f"{rows.num_rows:,} rows in all; --out FILE writes them")


def _tasks(table: Path, sql: str) -> list[Task]:
    """Return the task of each town; if files are missing, the error names each town that lacks some."""
    views = [name for name in VIEWS if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]
    tasks, faults = list[Task](), list[str]()
    for name, town in load_towns(table).items():
        try:
            if town.files is None:
                raise ConfigError(f"{table} has no `files` of it: the folder with its exports")
            found = {view: made_from(town.files, view) for view in views}
        except ConfigError as error:
            faults.append(f"town {name}: {error}")
            continue
        statements = {view: statement for view, (statement, _) in found.items()}
        tasks.append(Task(town=name, tables=statements, sql=sql, told="; ".join(told for _, told in found.values())))
    if faults or not tasks:
        faults = faults or [f"{table}: has no town"]
        raise ConfigError("\n".join([*faults, "nothing was run; to leave a town out, give a table without it"]))
    return tasks


def _rows_of(tasks: Sequence[Task], scheduler: str | None) -> Any:
    """Return the rows of all towns, in their order; if a town's query fails, there are none of the others."""
    results: Generator[tuple[Task, Any], None, None]
    if scheduler is None:
        results = ((task, result_of(task)) for task in tasks)
    else:
        from utility.towns.analysis.cli.cluster import on_cluster  # slow to load, and only a cluster needs it

        results = on_cluster(scheduler, tasks)
    found: dict[str, Any] = {}
    with closing(results), progress_bar() as progress:
        for task, result in progress.track(results, total=len(tasks), description="towns"):
            if isinstance(result, str):
                raise CommonwattError(result)
            found[task.town] = result
    return pa.concat_tables([found[task.town] for task in tasks])
