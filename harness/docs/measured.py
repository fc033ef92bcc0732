"""Results of benchmarks: their models, their files (``benchmarks/results/``) and their page (``make docs``)."""

import os
import platform
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest
from pydantic import BaseModel, ConfigDict

from commonwatt.runtime.clock import wall_clock
from harness.real.parts import real_part

# The results, one file for each benchmark; ``make docs`` makes the page from them without measuring.
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
OWN = Path("bench-results")  # those of a run that is not kept
LOOK_S = 0.5  # seconds for which the machine's load is measured before a benchmark

BENCHMARKS: dict[str, float] = {
    "codec": 0.2,
    "physics": 2,
    "gateway_store": 0.3,
    "store": 3.5,
    "gateway_live": 4.5,
    "card": 17,
    "own_street": 8,
    "latency": 17,
    "island_latency": 8,
    "takeover": 12,
    "backlog": 3,
    "town_load": 11,
    "adapter": 3.5,
    "export": 2,
    "settlement": 4,
    "billing": 0.5,
    "console": 16,
}
"""Approximate duration of each benchmark in minutes, by module, in the order of the page."""

BEGIN = "<!-- made from benchmarks/results by `make docs`: what is written here is lost -->"
END = "<!-- end of what is made -->"


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Goal(_Kept):
    """A goal, and the measured value."""

    what: str  # what was measured
    value: float  # the measured value
    unit: str  # unit of ``value`` and of the goal
    at_least: float | None = None  # the goal, if more is better
    at_most: float | None = None  # the goal, if less is better
    limited_by: str  # the present limit, one sentence; shown if the goal was missed

    @property
    def met(self) -> bool:
        """Whether the goal was reached."""
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    def line(self) -> str:
        """Return the goal as an item of a list."""
        bound = (
            f"at least {number(self.at_least)}" if self.at_least is not None else f"at most {number(self.at_most or 0)}"
        )
        text = f"- {self.what}: {number(self.value)} {self.unit}; goal {bound}: "
        return text + ("met." if self.met else f"**missed**. {self.limited_by}")


class Table(_Kept):
    """A table of formatted figures."""

    title: str  # its title
    columns: tuple[str, ...]  # the heads of its columns
    rows: tuple[tuple[str, ...], ...]  # its rows, one text for each column

    def markdown(self) -> str:
        """Return the title and the table."""
        lines = [f"**{self.title}**", "", _row(self.columns), "|" + "---|" * len(self.columns)]
        return "\n".join([*lines, *map(_row, self.rows)])


class Section(_Kept):
    """The section of one benchmark."""

    title: str  # its title
    about: str  # the method, one paragraph
    tables: tuple[Table, ...]  # the figures
    goals: tuple[Goal, ...] = ()  # the goals
    notes: tuple[str, ...] = ()  # notes on the figures, a sentence or two each


class Machine(_Kept):
    """The machine of a measurement."""

    cpu: str  # the processor
    cores: int  # number of cores
    memory_gib: float  # memory, GiB
    kernel: str  # version of Linux
    python: str  # version of Python
    sqlite: str  # version of SQLite
    postgresql: str  # version of PostgreSQL; ``none`` without one
    mosquitto: str  # version of Mosquitto; ``none`` without one
    sync_ms: float  # median time in which the disk makes four kilobytes durable, milliseconds
    busy: float  # cores that other processes kept busy just before

    def line(self) -> str:
        """Return the machine as a sentence."""
        return (
            f"{self.cores} cores of {self.cpu}, {self.memory_gib:.0f} GiB, Linux {self.kernel}; Python {self.python}, "
            f"SQLite {self.sqlite}, PostgreSQL {self.postgresql}, Mosquitto {self.mosquitto}; a sync of the disk takes "
            f"{self.sync_ms:.2f} ms; {self.busy:.1f} cores were busy with something else just before"
        )


class Result(_Kept):
    """The result of one benchmark."""

    machine: Machine  # the machine
    day: str  # the day of the run (UTC)
    took_s: float  # its duration, seconds
    section: Section  # its section of the page

    def markdown(self, name: str) -> str:
        """Return its section of the page."""
        section = self.section
        blocks = [f"### {section.title}", section.about, *(table.markdown() for table in section.tables)]
        if section.goals:
            blocks.append("\n".join(goal.line() for goal in section.goals))
        blocks += section.notes
        again = f"`make bench BENCH={name}`, {max(1, round(self.took_s / 60))} min"
        blocks.append(f"*{self.day}; {again}. {self.machine.line()}.*")
        return "\n\n".join(blocks)


def measure(benchmark: Callable[[], Section]) -> Result:
    """Run a benchmark; return its result with machine and day."""
    machine = this_machine()
    started = time.monotonic()
    section = benchmark()
    day = datetime.fromtimestamp(wall_clock().now(), UTC).date().isoformat()
    return Result(machine=machine, day=day, took_s=round(time.monotonic() - started, 1), section=section)


def keep(name: str, result: Result, folder: Path = RESULTS) -> None:
    """Write a result in place of the last one."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def kept(names: Sequence[str], folder: Path = RESULTS) -> dict[str, Result]:
    """Return the stored results, in the order of ``names``."""
    paths = {name: folder / f"{name}.json" for name in names}
    return {n: Result.model_validate_json(p.read_text(encoding="utf-8")) for n, p in paths.items() if p.exists()}


def made_page(page: str, results: dict[str, Result]) -> str:
    """Return ``page`` with its generated part made from ``results``."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    parts = [result.markdown(name) for name, result in results.items()] or ["Nothing was measured yet."]
    return "\n\n".join([before + BEGIN, *parts, END]) + after


def this_machine() -> Machine:
    """Describe the machine."""
    memory_kib = int(_line_of(Path("/proc/meminfo"), "MemTotal").split()[0])
    return Machine(
        cpu=_line_of(Path("/proc/cpuinfo"), "model name"),
        cores=os.cpu_count() or 1,
        memory_gib=round(memory_kib / (1 << 20), 1),
        kernel=platform.release(),
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        postgresql=_version("initdb", "--version"),
        mosquitto=_version("mosquitto", "-h"),
        sync_ms=round(1000 * statistics.median(_sync_s() for _ in range(50)), 3),
        busy=round(_busy_cores(), 2),
    )


def _line_of(path: Path, key: str) -> str:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "unknown")


def _version(program: str, option: str) -> str:
    try:
        done = subprocess.run([real_part(program), option], capture_output=True, text=True, check=False)
    except pytest.skip.Exception:
        return "none"
    words = (done.stdout + done.stderr).split()
    return next((word for word in words if word[0].isdigit()), "unknown")


def _busy_cores() -> float:
    def spent() -> tuple[int, int]:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(ticks), sum(ticks) - ticks[3] - ticks[4]  # idle, and waiting for a disk

    total, busy = spent()
    Event().wait(LOOK_S)
    later, then_busy = spent()
    return (os.cpu_count() or 1) * (then_busy - busy) / max(1, later - total)


def _sync_s() -> float:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(4096))
        file.flush()
        started = time.perf_counter()
        os.fdatasync(file.fileno())
        return time.perf_counter() - started


# Formatted figures


def number(value: float) -> str:
    """Return a number with three significant digits and separated thousands."""
    if abs(value) >= 1000:
        digits = len(str(int(abs(value))))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.3g}"


def spread(samples: Sequence[float], unit: str = "") -> str:
    """Return the median of runs, with the least and the most."""
    middle = f"{number(statistics.median(samples))} {unit}".strip()
    return middle if min(samples) == max(samples) else f"{middle} ({number(min(samples))} to {number(max(samples))})"


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the value that ``percent`` percent of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
