"""Processor time and memory of processes and all of their children, from the kernel's counts."""

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from time import monotonic

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _FRAME = 1 << 63, (1 << 55) - 1

MIB = 1 << 20


def family(pid: int) -> list[int]:
    """Return a process and its descendants; for this process only itself, since it starts the measured ones."""
    if pid == os.getpid():
        return [pid]
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        if fields := _stat(path):
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and its descendants, also of ended ones, seconds."""
    paths = (Path(f"/proc/{one}/stat") for one in family(pid))
    # User and system, and both of the children that have ended.
    last = 13 if pid == os.getpid() else 15
    return sum(sum(map(int, fields[11:last])) for path in paths if (fields := _stat(path))) / _TICKS_PER_S


def memory_bytes(pid: int) -> int:
    """Return the proportional memory (PSS) of a process and its descendants, bytes."""
    return sum(map(_pss_bytes, family(pid)))


def frames_bytes(pids: Iterable[int]) -> int:
    """Return the memory of some processes together, bytes: a page frame that several have counts once (needs root)."""
    frames: set[int] = set()
    for pid in pids:
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
            for line in maps:
                first, last = (int(bound, 16) // _PAGE_BYTES for bound in line.split()[0].split("-"))
                entries = array("Q", os.pread(pagemap.fileno(), 8 * (last - first), 8 * first))
                frames.update(entry & _FRAME for entry in entries if entry & _PRESENT)
    return len(frames) * _PAGE_BYTES


def peak_mb(pid: int) -> float:
    """Return the most memory of a running process so far, megabytes; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), 0.0)


class Costs:
    """Processor time of some processes from now on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self.pids = dict(pids)  # which, by name
        self._since = {name: cpu_s(pid) for name, pid in self.pids.items()}
        self._started = monotonic()

    def cpu_s(self) -> dict[str, float]:
        """Return the processor time of each, seconds."""
        return {name: cpu_s(pid) - self._since[name] for name, pid in self.pids.items()}

    def cores(self) -> dict[str, float]:
        """Return the average busy cores of each."""
        elapsed_s = monotonic() - self._started
        return {name: taken_s / elapsed_s for name, taken_s in self.cpu_s().items()}

    def memory_bytes(self) -> dict[str, int]:
        """Return the present memory of each."""
        return {name: memory_bytes(pid) for name, pid in self.pids.items()}


def _stat(path: Path) -> list[str]:
    """Return the fields of a stat file from the state on; none for an ended process."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _pss_bytes(pid: int) -> int:
    return sum(1024 * kib for kib in _pss_kib(pid))


def _pss_kib(pid: int) -> Iterator[int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return
    yield from (int(line.split()[1]) for line in lines if line.startswith("Pss:"))
