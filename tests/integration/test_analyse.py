"""Settled days over towns: the same rows by DuckDB here and by a Dask cluster, of which a worker is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from distributed import Client

from harness.network.waiting import eventually, free_port
from harness.surroundings.stored import make_exports, towns_table

pytestmark = pytest.mark.real

TOWNS = 9
SCHEDULER = "scheduler"
DAYS = "SELECT start_utc::DATE AS day, sum(imported_milliwatt_hours) AS taken FROM settled GROUP BY day ORDER BY day"
# Each town's query takes most of a second, so that a worker is killed during one.
LONG = f"SELECT * FROM ({DAYS}), (SELECT count(DISTINCT hash(range)) AS work FROM range(2_000_000)) ORDER BY day"
THEN = "SELECT day, count(*) AS towns, sum(taken) AS taken FROM each GROUP BY day ORDER BY day"


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towns")
    for number in range(3):
        make_exports(folder / f"files-{number}", 8 + number, number)
    return towns_table(folder / "towns.toml", {f"t{n}": folder / f"files-{n % 3}" for n in range(TOWNS)})


class Cluster:
    """A Dask scheduler and two workers of a thread each.

    Args:
        folder: Gets the workers' files.
    """

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.address = f"tcp://127.0.0.1:{port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder))
        self._commands: dict[str, tuple[str, ...]] = {
            name: ("distributed.cli.dask_worker", self.address, "--name", name, *options) for name in ("one", "two")
        }
        words = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show")
        self._commands[SCHEDULER] = ("distributed.cli.dask_scheduler", *words)

    def start(self) -> None:
        """Start what does not run."""
        for name, words in self._commands.items():
            if name not in self.processes or self.processes[name].poll() is not None:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-m", *words], stderr=subprocess.DEVNULL, start_new_session=True
                )

    def close(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with closing(Cluster(tmp_path_factory.mktemp("workers"))) as cluster:
        yield cluster


@pytest.fixture
def cluster(started: Cluster) -> tuple[str, dict[str, "subprocess.Popen[bytes]"]]:
    """Return the address of a cluster that runs, and its processes by their names."""
    started.start()
    return started.address, started.processes


def command(towns: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "commonwatt", "analyse", "--towns", str(towns), *words]


def done(towns: Path, *words: str) -> str:
    made = subprocess.run(command(towns, *words), capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr
    return made.stderr


def test_rows_are_the_same_here_and_on_a_cluster_whose_worker_is_killed(
    towns: Path, tmp_path: Path, cluster: tuple[str, dict[str, "subprocess.Popen[bytes]"]]
) -> None:
    address, workers = cluster
    here, there, again = (tmp_path / name for name in ("here.parquet", "there.parquet", "each.parquet"))
    done(towns, "--each-town", LONG, "--then", THEN, "--out", str(here))
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        at, held = next(
            (at, workers[each["name"]].pid) for at, each in client.scheduler_info(n_workers=-1)["workers"].items()
        )
        os.kill(held, signal.SIGSTOP)  # whatever it is given, it can't have done before it is killed
        with subprocess.Popen(
            command(towns, "--each-town", LONG, "--then", THEN, "--scheduler", address, "--out", str(there))
        ) as process:
            eventually(lambda: client.run_on_scheduler(_running)[at] > 0, 60)
            os.kill(held, signal.SIGKILL)
            assert process.wait(120) == 0
    assert pq.read_table(there).to_pylist() == (rows := pq.read_table(here).to_pylist())
    assert [row["towns"] for row in rows] == [TOWNS] * 6
    done(towns, "--each-town", DAYS, "--scheduler", address, "--out", str(again))
    names = pq.read_table(again)["town"].to_pylist()
    assert names == [f"t{n}" for n in range(TOWNS) for _ in range(6)], "each town once, in the table's order"


def _running(dask_scheduler: object) -> dict[str, int]:
    workers = dask_scheduler.workers  # type: ignore[attr-defined]
    return {at: len(one.processing) for at, one in workers.items()}


def test_ctrl_c_cancels_the_tasks_of_the_cluster(
    towns: Path, cluster: tuple[str, dict[str, "subprocess.Popen[bytes]"]]
) -> None:
    address, _ = cluster
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        with subprocess.Popen(
            command(towns, "--each-town", LONG, "--scheduler", address), stderr=subprocess.PIPE, text=True
        ) as process:
            eventually(lambda: sum(client.run_on_scheduler(_running).values()) > 1, 60)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert (process.returncode, said.splitlines()[-1]) == (130, "stopped; there is no result")
        eventually(lambda: client.run_on_scheduler(_tasks) == 0, 60)


def _tasks(dask_scheduler: object) -> int:
    return sum("analyse" in str(key) for key in dask_scheduler.tasks)  # type: ignore[attr-defined]


def test_a_town_whose_files_a_worker_can_not_read_is_named(
    towns: Path, tmp_path: Path, cluster: tuple[str, dict[str, "subprocess.Popen[bytes]"]]
) -> None:
    address, _ = cluster
    make_exports(tmp_path / "bad", 7, 1)
    file = next((tmp_path / "bad" / "exports").glob("*/*.parquet"))
    file.write_bytes(b"x" * file.stat().st_size)
    table = towns_table(tmp_path / "towns.toml", {"good": towns.parent / "files-1", "bad": tmp_path / "bad"})
    process = subprocess.run(
        command(table, "--each-town", DAYS, "--scheduler", address), capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert "town bad: " in process.stderr
    assert file.name in process.stderr
    assert not process.stdout, "no rows of the other town"


def test_the_end_of_the_scheduler_is_told(
    towns: Path, cluster: tuple[str, dict[str, "subprocess.Popen[bytes]"]]
) -> None:
    address, processes = cluster
    with subprocess.Popen(
        command(towns, "--each-town", LONG, "--scheduler", address), stderr=subprocess.PIPE, text=True
    ) as process:
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            eventually(lambda: sum(client.run_on_scheduler(_running).values()) > 1, 60)
        os.kill(processes[SCHEDULER].pid, signal.SIGKILL)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "the cluster lost the tasks; give the command again" in said


def test_no_scheduler_is_told(towns: Path) -> None:
    process = subprocess.run(
        command(towns, "--each-town", DAYS, "--scheduler", f"tcp://127.0.0.1:{free_port()}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert "no Dask scheduler answers" in process.stderr
    assert not process.stdout


def test_ctrl_c_ends_a_query_here(towns: Path) -> None:
    endless = "SELECT count(*) FROM range(1_000_000_000_000) AS r, settled WHERE r.range % 7 = 3"
    with subprocess.Popen(command(towns, "--each-town", endless), stderr=subprocess.PIPE, text=True) as process:
        busy = Path(f"/proc/{process.pid}/stat")
        # Four seconds of CPU time: the modules need two.
        eventually(lambda: sum(map(int, busy.read_text().split()[13:15])) > 4 * os.sysconf("SC_CLK_TCK"), 60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[-1]) == (130, "stopped; there is no result")
