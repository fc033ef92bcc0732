"""The tables of the three stores stand in docs/protocol.md, with every column."""

import re
import sqlite3
from pathlib import Path

import pytest

from commonwatt.device.store import open_store
from gateway.store.store import Store
from harness.docs.marked import DOCS
from meter_sim.truth import TRUTH
from utility.assembly.tables import metadata

Tables = dict[str, list[str]]


def tables_of(path: Path) -> Tables:
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {
        name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
        for name in names
        if not name.startswith("sqlite_")
    }
    connection.close()
    return found


def gateway_tables(folder: Path) -> Tables:
    Store.open(folder / "gateway.db").close()
    return tables_of(folder / "gateway.db")


def meters_tables(folder: Path) -> Tables:
    open_store(folder / "meters.db", TRUTH).close()
    return tables_of(folder / "meters.db")


def utility_tables(folder: Path) -> Tables:
    del folder
    return {table.name: [column.name for column in table.columns] for table in metadata.sorted_tables}


def documented(heading: str) -> Tables:
    """The tables in the section under ``heading``: rows of | `table` | `column`, `column` ... | what for |."""
    _, _, section = (DOCS / "stores.md").read_text().partition(f"\n### {heading}\n")
    section = re.split(r"^#{2,3} ", section, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", section, flags=re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", columns) for name, columns in rows}


@pytest.mark.parametrize(
    ("heading", "tables"),
    [("Tables of a gateway", gateway_tables), ("Tables of the meters", meters_tables),
     ("Tables of the utility", utility_tables)],
)  # fmt: skip
def test_every_table_and_column_is_described(heading: str, tables: object, tmp_path: Path) -> None:
    assert callable(tables)
    assert documented(heading) == tables(tmp_path), "describe it in docs/stores.md, section Tables"
