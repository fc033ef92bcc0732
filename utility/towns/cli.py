"""``commonwatt towns``: many towns, each a database of its own; nothing spans towns in a transaction."""

import json
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any
from urllib.request import ProxyHandler, build_opener

import typer

from commonwatt.cli.options import JsonOption, show
from commonwatt.model.exceptions import CommonwattError, StoreError
from utility.towns import store
from utility.towns.table import TownEntry, load_towns
from utility.webkit.cli import Commands

app = Commands(
    no_args_is_help=True, help="Many towns: list them; one table at the office has them all (docs/cluster.md)."
)

TownsOption = Annotated[Path, typer.Option("--towns", help="The table of the towns (TOML).")]
_TABLE = Path("towns.toml")

NO_ANSWER = "no answer"
_ANSWER_S = 5.0  # real seconds within which a utility must answer
_MOST_BYTES = 65_536  # of an answer
_AT_ONCE = 16  # towns that are asked at the same time


@app.callback()
def _towns() -> None:
    """Keep `list` a command of its own: a single one would be called without its name."""


@app.command("list")
def list_command(towns: TownsOption = _TABLE, as_json: JsonOption = False) -> None:
    """List the towns: schema and size of each database, release of each utility, and which of them is active.

    The table is written by hand; docs/cluster.md has its keys. Databases and utilities are asked directly; `no answer`
    stands where there is none. For a utility whose certificate our own authority signed, set SSL_CERT_FILE to the
    authority's file.
    """
    listed = load_towns(towns)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        rows = list(threads.map(_row, listed, listed.values()))
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        show("towns", rows, [*rows[0]] if rows else ())


def _row(name: str, town: TownEntry) -> dict[str, object]:
    schema: str | None
    megabytes: int | None
    try:
        schema, size_bytes = store.look(town.database)
        megabytes = size_bytes // 1_000_000
    except CommonwattError as error:
        schema, megabytes = NO_ANSWER if isinstance(error, StoreError) else "another program's", None
    answers = {base: _health(base) for base in town.utilities}
    return {
        "town": name,
        "database": store.where(town.database),
        "schema": schema,
        "megabytes": megabytes,
        "releases": ", ".join(str(answer.get("version", NO_ANSWER)) for answer in answers.values()),
        # A utility that does not say whether it is active has no other one beside it.
        "active": ", ".join(base for base, answer in answers.items() if answer and answer.get("active", True)),
    }


def _health(base: str) -> dict[str, Any]:
    """Return what a utility says of itself; empty: it does not answer."""
    try:
        with build_opener(ProxyHandler({})).open(f"{base}/health", timeout=_ANSWER_S) as answer:
            found = json.loads(answer.read(_MOST_BYTES))
    except (OSError, HTTPException, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
