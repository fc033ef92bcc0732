"""A town of release 0.2 is upgraded while data waits, and goes back: real processes of both, one data folder."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import commonwatt
from harness.network.waiting import eventually
from harness.real.releases import RELEASE_0_2, old_release

TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 2\npush_share = 1.0\n'
WAITING = "SELECT count(*) FROM part WHERE relayed NOT IN (5, 6)"
HERE = Path(commonwatt.__file__).parents[1]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return old_release(RELEASE_0_2, tmp_path / "0.2")


def command(release: Path, *words: str) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "commonwatt", *words], os.environ | {"PYTHONPATH": str(release)}


def run(release: Path, *words: str) -> str:
    """Run a command of a release to its good end; ``demo`` ends well if its audit is good."""
    line, environment = command(release, *words)
    done = subprocess.run(line, env=environment, cwd=release, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(release: Path, *words: str) -> Iterator[None]:
    """Run a command of a release, then kill it with all processes that it started."""
    line, environment = command(release, *words)
    process = subprocess.Popen(line, env=environment, cwd=release, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def asked(store: Path, sql: str) -> int:
    """Return the number that a query of a store gives; 0 while there is none."""
    if not store.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            return int(connection.execute(sql).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_row_29_an_upgrade_and_its_reversal_while_data_waits(tmp_path: Path, old: Path) -> None:
    (tmp_path / "town.toml").write_text(TOWN)
    data = tmp_path / "town"
    demo = ("demo", "--town", str(tmp_path / "town.toml"), "--speed", "120", "--data", str(data))
    config = ("--config", str(data / "utility" / "utility.toml"))
    store = data / "r001" / "gateway.db"
    with running(old, *demo):
        # On a busy machine there may be no moment without any part that waits.
        eventually(lambda: asked(store, "SELECT count(*) > 20 FROM part WHERE relayed IN (5, 6)"))
        run(old, "utility", "backup", str(tmp_path / "backup.db"), *config)
        shutil.copy(data / "head-end" / "devices.json", tmp_path)
        eventually(lambda: asked(store, WAITING))
    assert asked(store, WAITING), "data waits for the utility"

    assert "nothing lost, nothing counted twice" in run(HERE, *demo, "--for", "5s")

    with running(HERE, *demo):
        before = asked(store, "SELECT max(id) FROM part")
        eventually(lambda: asked(store, f"SELECT max(id) > {before} AND ({WAITING}) > 0 FROM part"))
    # The way back says so: 0.2 refuses settings that it does not have.
    settings = data / "utility" / "utility.toml"
    kept = [line for line in settings.read_text().splitlines() if not line.startswith("second_")]
    settings.write_text("\n".join(kept) + "\n")
    run(old, "utility", "restore", str(tmp_path / "backup.db"), "--replace", *config)
    shutil.copy(tmp_path / "devices.json", data / "head-end")
    assert "nothing lost, nothing counted twice" in run(old, *demo, "--for", "5s")
