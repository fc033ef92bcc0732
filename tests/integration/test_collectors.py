"""A demonstration whose apartments have collectors: meters move to them, and nothing is lost or doubled (A1)."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from harness.real.demonstration import FORKING

TOWN = """
[[microgrid]]
id = "r"
kind = "residential"
count = 3
houses = 1
[[microgrid]]
id = "a001"
kind = "apartment"
buildings = 1
apartments = 39
push_share = 1.0
[[collectors]]
microgrid = "a001"
controllers = ["r001", "r002", "r003"]
"""


def rows(store: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def test_meters_of_a_crowded_line_send_to_collectors_and_the_audit_is_good(tmp_path: Path) -> None:  # req: A1
    (tmp_path / "town.toml").write_text(TOWN)
    data = tmp_path / "data"
    words = ["demo", "--town", str(tmp_path / "town.toml"), "--data", str(data), "--speed", "120", "--for", "20s"]
    done = subprocess.run([*FORKING, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing lost, nothing counted twice" in done.stdout
    database = data / "utility" / "utility.db"
    told = rows(database, "SELECT state, result FROM command WHERE id LIKE 'assign-%'")
    assert ("done", "done") in told, "the manager was told"
    moved = rows(database, "SELECT brokers FROM broker_order")
    assert moved
    first = str(moved[0][0]).split(",")[0]
    assert rows(data / first / "gateway-a001.db", "SELECT count(*) FROM part")[0][0], "a collector has records"
