"""What a residential controller asks of its machine: writes to its card, memory, the time of a start."""

import os
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from compileall import compile_dir
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Event
from types import TracebackType
from typing import Self

from benchmarks.processes import cpu_s, frames_bytes, memory_bytes
from deploy.debian.package import DEPLOY, SYSCTL
from gateway.store.tables import CHECKPOINT_BYTES
from harness.docs.measured import Goal, Section, Table, number, spread
from harness.network.waiting import eventually
from harness.real.parts import need_root
from harness.real.site import Site

SECTOR = 512
SIZE_MIB = 256


class Card:
    """An ext4 file system of its own, mounted while the block runs; it needs root.

    Args:
        image: The file that holds it; made.
        folder: Where it is mounted; made.
        options: Further options of the mount, separated by commas.
    """

    def __init__(self, image: Path, folder: Path, options: str = "") -> None:
        self.folder = folder  # where it is mounted
        self._image = image
        self._options = options

    def __enter__(self) -> Self:
        with self._image.open("wb") as image:
            image.truncate(SIZE_MIB << 20)
        # Without initialising the rest of the file system in the background, which would be counted.
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        subprocess.run(["mkfs.ext4", "-q", "-E", lazy, self._image], check=True)
        self.folder.mkdir()
        options = ",".join(filter(None, ("loop", self._options)))
        subprocess.run(["mount", "-o", options, self._image, self.folder], check=True)
        device = self.folder.stat().st_dev
        self._counts = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
        return self

    def written_bytes(self) -> int:
        """Return the bytes written to the device since it exists."""
        return int(self._counts.read_text().split()[6]) * SECTOR

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(["umount", self.folder], check=True)


TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = {}\n'
HOUSES = 10

SETTLE_S = 90.0
RUN_S = 900.0  # a quarter-hour at real speed: what is done every quarter of an hour, such as compaction, is done once

STARTS = 5
DAY_S = 86_400
MB = 1e6


PARTS = ("gateway", "broker")
CASES = {"mounted with commit=600": "commit=600", "mounted with the default options": ""}
"""By name: options of the card's mount."""
EXPIRE = Path("/proc/sys/vm/dirty_expire_centisecs")


@dataclass(frozen=True, kw_only=True)
class Written:
    """What one gateway wrote."""

    seconds: float  # duration
    device_bytes: int  # bytes written to the card, with a checkpoint
    checkpoint_bytes: int  # those of the checkpoint

    def a_day(self, count: float) -> float:
        """Return a count as a day's."""
        return count / self.seconds * DAY_S


@dataclass(frozen=True, kw_only=True)
class Start:
    """A start, until the process listens."""

    seconds: float  # its duration
    cpu_s: float  # its processor time


class Controller:
    """A residential microgrid whose gateway has its store on a card of its own."""

    def __init__(self, folder: Path, options: str, houses: int, stack: ExitStack) -> None:
        folder.mkdir()
        self.site = Site(folder / "town", TOWN.format(houses), speed=1)
        self._card = stack.enter_context(Card(folder / "card.img", folder / "card", options))
        stack.enter_context(self.site)  # The gateway ends before its card is unmounted.
        self._store = folder / "card" / "gateway.db"
        # By the machine's clock: so it stores the time, too.
        config = self.site.layout.part("r001 gateway").config
        lines = [each for each in config.read_text().splitlines() if not each.startswith("clock")]
        config.write_text("\n".join([*lines, f'store = "{self._store}"']))

    def start(self) -> None:
        """Start every part."""
        self.site.start(*(part.name for part in self.site.layout.processes))

    def begin(self) -> None:
        """Begin to count, with a write-ahead log of its full size, as after the first hour, and nothing in it."""
        log = self._store.with_name(f"{self._store.name}-wal")
        with log.open("ab") as file:
            file.write(bytes(max(0, CHECKPOINT_BYTES - log.stat().st_size)))
        self._checkpoint()
        os.sync()
        self._since = time.monotonic(), self._card.written_bytes()

    def end(self) -> Written:
        """Return what was written since ``begin``."""
        os.sync()
        began, device_bytes = self._since
        seconds, before = time.monotonic() - began, self._card.written_bytes()
        self._checkpoint()
        os.sync()
        return Written(
            seconds=seconds,
            device_bytes=self._card.written_bytes() - device_bytes,
            checkpoint_bytes=self._card.written_bytes() - before,
        )

    def memory(self) -> dict[str, float]:
        """Return the memory of gateway, broker, and both together without counting a page twice, megabytes."""
        pids = {part: self.site.processes[f"r001 {part}"].pid for part in PARTS}
        each = {part: memory_bytes(pid) / MB for part, pid in pids.items()}
        return {**each, "together": frames_bytes(list(pids.values())) / MB}

    def starts(self, times: int) -> dict[str, list[Start]]:
        """Stop gateway and broker, and start them again and again; return each one's starts."""
        self.site.stop("r001 gateway", "r001 broker")
        found: dict[str, list[Start]] = {part: [] for part in PARTS}
        for _ in range(times):
            for part, key in (("broker", "listen"), ("gateway", "http")):
                found[part].append(_start(self.site, f"r001 {part}", key))
            self.site.stop("r001 gateway", "r001 broker")
        return found

    def _checkpoint(self) -> None:
        with closing(sqlite3.connect(self._store)) as store:
            store.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _start(site: Site, name: str, key: str) -> Start:
    """Start a part as its unit does, until its address accepts a connection."""
    part = site.layout.part(name)
    began = time.monotonic()
    with part.log.open("ab") as log:
        site.processes[name] = subprocess.Popen(part.command, stdout=log, stderr=log)
    eventually(lambda: _listens(site.address(name, key)))
    return Start(seconds=time.monotonic() - began, cpu_s=cpu_s(site.processes[name].pid))


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def kernel_as_packaged() -> Iterator[None]:
    """Let the kernel write changed pages when a controller's package lets it."""
    settings = (DEPLOY / "sysctl" / SYSCTL).read_text().splitlines()
    before = EXPIRE.read_text()
    EXPIRE.write_text(
        next(line.rpartition("=")[2].strip() for line in settings if line.startswith(f"vm.{EXPIRE.name}"))
    )
    try:
        yield
    finally:
        EXPIRE.write_text(before)


def bench(*, smoke: bool = False) -> Section:
    """Measure all three."""
    need_root("it mounts a file system")
    pause: Callable[[float], object] = Event().wait
    for package in ("commonwatt", *PARTS):
        compile_dir(DEPLOY.parent / package, quiet=1)  # as at the installation of a package
    with tempfile.TemporaryDirectory() as name, kernel_as_packaged(), ExitStack() as stack:
        folder = Path(name)
        running = {
            case: Controller(folder / str(number), options, 1 if smoke else HOUSES, stack)
            for number, (case, options) in enumerate(list(CASES.items())[: 1 if smoke else None])
        }
        for controller in running.values():
            controller.start()
        pause(0.2 if smoke else SETTLE_S)
        for controller in running.values():
            controller.begin()
        pause(0.5 if smoke else RUN_S)
        found = {case: controller.end() for case, controller in running.items()}
        first = next(iter(running.values()))
        memory = first.memory()
        starts = first.starts(1 if smoke else STARTS)
    return Section(
        title="A controller's card, memory and start",
        about=(
            f"A residential microgrid of {HOUSES} houses, 22 meters, at real speed, with real meters, broker, gateway, "
            "head-end and utility. The gateway's store is alone on an ext4 file system with blocks of 1 KiB in a loop "
            f"device, whose counter tells what is written; {RUN_S / 60:.0f} min after {SETTLE_S:.0f} s to settle, "
            "times 96. The kernel has the settings of a controller's package. "
            "The write-ahead log has its full size, as after the first hour, and a checkpoint is made at the "
            "end, which otherwise comes about once an hour. Memory: page frames of the "
            "two processes, shared ones once. Start: from the start of the process, with its files in the page cache, "
            "to the first accepted connection."
        ),
        tables=(_writes(found), _machine(memory, starts)),
        goals=tuple(_goals(found, memory, starts)),
    )


def _writes(found: Mapping[str, Written]) -> Table:
    counts = {case: (each.device_bytes, each.checkpoint_bytes) for case, each in found.items()}
    return Table(
        title="Written in a day, MB",
        columns=("card", "to the card", "of it: checkpoints"),
        rows=tuple((case, *(number(found[case].a_day(n) / MB) for n in each)) for case, each in counts.items()),
    )


def _machine(memory: Mapping[str, float], starts: Mapping[str, list[Start]]) -> Table:
    return Table(
        title="Memory after the run, and start",
        columns=("part", "memory (PSS)", "until it listens", "processor time of it"),
        rows=(
            *(
                (
                    part,
                    f"{memory[part]:.0f} MB",
                    spread([start.seconds for start in starts[part]], "s"),
                    spread([start.cpu_s for start in starts[part]], "s"),
                )
                for part in PARTS
            ),
            ("together", f"{memory['together']:.0f} MB, no page twice", "", ""),
        ),
    )


def _goals(
    found: Mapping[str, Written], memory: Mapping[str, float], starts: Mapping[str, list[Start]]
) -> Iterator[Goal]:
    for (case, each), most in zip(found.items(), (60, 90), strict=False):
        yield Goal(
            what=f"writes in a day to a card {case}",
            value=each.a_day(each.device_bytes) / MB,
            unit="MB",
            at_most=most,
            limited_by="Each commit rewrites a page of each index that it adds to, and whole blocks of the card.",
        )
    yield Goal(
        what="memory of gateway and broker together",
        value=memory["together"],
        unit="MB",
        at_most=90,
        limited_by="Modules take 61 MB of a gateway's and 41 MB of a broker's before they run.",
    )
    for part in PARTS:
        yield Goal(
            what=f"start of the {part}",
            value=median(start.seconds for start in starts[part]),
            unit="s",
            at_most=1,
            limited_by="Loading the modules takes most of it, and the other processes of this machine.",
        )
