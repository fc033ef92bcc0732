"""``commonwatt analyse``: SQL over the files of many towns, here or on a Dask cluster."""

import atexit
import gc
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import Progress

from commonwatt.cli.tables import show
from commonwatt.model.csv_text import line_of
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.runtime.files import replacing
from commonwatt.runtime.interrupts import stop_told
from commonwatt.runtime.service import flowing
from utility.towns.analysis.store.closed import Task, made, query, result_of, with_town
from utility.towns.analysis.store.files import made_from
from utility.towns.analysis.views import VIEWS
from utility.towns.table import load_towns

SHOWN = 200  # the most rows that a terminal shows


@flowing
def analyse(
    each_town: Annotated[
        str | None, typer.Option("--each-town", help="SQL for each town; without it, the tables are shown.")
    ] = None,
    then: Annotated[str | None, typer.Option("--then", help="SQL over `each`, the rows of all towns.")] = None,
    towns: Annotated[Path, typer.Option("--towns", help="The table of the towns (TOML).")] = Path("towns.toml"),
    only: Annotated[list[str] | None, typer.Option("--town", help="Only this town.")] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Run on the Dask cluster of this address: tcp://HOST:8786.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write: .parquet or .csv.")] = None,
) -> None:
    """Run SQL over the exports, the archive and the open releases of many towns, by DuckDB.

    Without --each-town the tables that SQL may read are shown, with their columns: sums of a town, and open releases,
    never rows of a home. Rows of a town get its name as their first column, `town`. Towns run one after another here,
    or as tasks of a Dask cluster. If a town fails, there is no result.

    Example: `analyse --each-town "SELECT start_utc::DATE AS day, sum(imported_milliwatt_hours) AS mwh FROM settled
    GROUP BY day" --then "SELECT day, sum(mwh) FROM each GROUP BY day ORDER BY day"`.
    """
    # `commonwatt` ends without a search for cycles; DuckDB's binding would report each object of one as a leak.
    atexit.register(gc.unfreeze)
    if each_town is None:
        for name, view in VIEWS.items():
            typer.echo(f"{name}: {view.about}")
            show("columns", [one._asdict() for one in view.columns], ("name", "kind", "meaning"))
        return
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"--out {out}: its name must end with .parquet or .csv")
    _check(each_town, then)
    tasks = _tasks(towns, only, each_town)
    with stop_told("stopped; there is no result"):
        rows = _rows_of(tasks, scheduler)
        if then is not None:
            rows = query({"each": rows}, then)
    for task in tasks:
        typer.echo(f"{task.town}: {task.told}", err=True)
    if out is not None:
        _write(rows, out)
        return
    show("rows", rows.slice(0, SHOWN).to_pylist(), rows.column_names)
    if rows.num_rows > SHOWN:
        typer.echo(f"{rows.num_rows:,} rows in all; --out FILE writes them")


def _check(each_town: str, then: str | None) -> None:
    """Check both queries on tables without rows, before any town has work.

    Raises:
        ConfigError: A query is wrong; names its option.
    """
    option = "--each-town"
    try:
        nothing = with_town(query(made({name: view.empty for name, view in VIEWS.items()}), each_town, runs=False), "")
        option = "--then"
        query({"each": nothing}, then or "FROM each", runs=False)
    except ConfigError as error:
        raise ConfigError(f"{option}: {error}") from error


def _tasks(table: Path, only: Sequence[str] | None, sql: str) -> list[Task]:
    """Return the task of each town.

    Raises:
        ConfigError: There is no such town, or files are missing; names each town.
    """
    towns = load_towns(table)
    if missing := [name for name in only or () if name not in towns]:
        raise ConfigError(f"--town {missing[0]}: {table} has no such town")
    views = [name for name in VIEWS if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]
    tasks, faults = list[Task](), list[str]()
    for name in only or towns:
        try:
            if (folder := towns[name].files) is None:
                raise ConfigError(f"{table} has no `files` of it: the folder with its exports")
            found = {view: made_from(folder, view) for view in views}
        except ConfigError as error:
            faults.append(f"town {name}: {error}")
            continue
        statements = {view: statement for view, (statement, _) in found.items()}
        tasks.append(Task(town=name, tables=statements, sql=sql, told="; ".join(told for _, told in found.values())))
    if faults or not tasks:
        raise ConfigError("\n".join([*(faults or [f"{table}: has no town"]), "nothing was run"]))
    return tasks


def _rows_of(tasks: Sequence[Task], scheduler: str | None) -> Any:
    """Return the rows of all towns, in their order.

    Raises:
        CommonwattError: A town's query failed; there are no rows of the others.
    """
    found: dict[str, Any] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("towns", total=len(tasks))
        for task, result in _results(tasks, scheduler):
            if isinstance(result, str):
                raise CommonwattError(result)
            found[task.town] = result
            progress.advance(bar)
    return pa.concat_tables([found[task.town] for task in tasks])


def _results(tasks: Sequence[Task], scheduler: str | None) -> Iterator[tuple[Task, Any]]:
    if scheduler is None:
        return ((task, result_of(task)) for task in tasks)
    from utility.towns.analysis.cluster import on_cluster  # slow to load, and only a cluster needs it

    return on_cluster(scheduler, tasks)


def _write(rows: Any, out: Path) -> None:
    with replacing(out) as file:
        if out.suffix == ".parquet":
            pq.write_table(rows, file, compression="zstd")
            return
        file.write(line_of(rows.column_names).encode())
        for batch in rows.to_batches(max_chunksize=10_000):
            file.write("".join(line_of(row.values()) for row in batch.to_pylist()).encode())
