"""Clocks. A shell reads one clock, which it gets as an argument, and passes the time to its cores."""

import ctypes
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time import MachineClocks
from commonwatt.model.units import MAX_EPOCH
from commonwatt.runtime.files import read_object, write_private

LOOK_EVERY_S = 0.02  # real seconds between two looks at the file of a clock that stands still


@dataclass
class Clock:
    """Epoch seconds as ``origin`` + ``speed`` * (monotonic now - ``monotonic_origin``).

    All processes of a machine have the same monotonic clock, so the processes of a demonstration that read one clock
    file agree on the time, and a step of the wall clock disturbs none of them. Time stands still before
    ``monotonic_origin``, and at ``ceiling`` until the file has a later one: the file's writer starts the clock when
    all processes are ready and keeps raising the ceiling. After its own crash the writer reads from the file
    a time that no process has passed.
    """

    origin: float  # epoch seconds at ``monotonic_origin``
    monotonic_origin: float  # ``time.monotonic()`` at ``origin``
    speed: float = 1.0  # clock seconds in one real second
    ceiling: float | None = None  # epoch seconds at which time stands still; ``None``: never
    meters_stop_at: int | None = None  # meters make no records for slots that end after this; ``None``: for ever
    path: Path | None = None  # the file it was read from; ``None``: none
    _looked_at: float = field(default=-math.inf, compare=False, repr=False)  # monotonic time of the last look at it

    def now(self) -> float:
        """Return the epoch seconds on this clock."""
        if self.path is not None and self._reckon() in (self.origin, self.ceiling) and self._may_look():
            # The clock stands still: read the file again for a later ceiling.
            follow = load_clock(self.path)
            self.monotonic_origin, self.ceiling = follow.monotonic_origin, follow.ceiling
        return self._reckon()

    def _may_look(self) -> bool:
        """Return whether the last look is long enough ago: a host asks for the time thousands of times a second."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return False
        self._looked_at = now
        return True

    def _reckon(self) -> float:
        moment = self.origin + self.speed * max(0.0, time.monotonic() - self.monotonic_origin)
        return moment if self.ceiling is None else min(moment, self.ceiling)

    def follow(self, wall: float) -> None:
        """Set the clock to the machine's time; only for a clock without a file."""
        # One assignment: another thread that reads the clock sees the time before it or after it.
        self.origin = wall - self.speed * (time.monotonic() - self.monotonic_origin)

    def real_s(self, seconds: float) -> float:
        """Convert seconds of this clock to real seconds."""
        return seconds / self.speed

    def real_s_until(self, moment: float) -> float:
        """Return the real seconds from now until ``moment``, never negative."""
        return max(0.0, self.real_s(moment - self.now()))


_FIELDS = ("origin", "monotonic_origin", "speed", "ceiling", "meters_stop_at")


def machine_now() -> float:
    """Return the machine's epoch seconds, also in a demonstration with a clock of its own."""
    return time.time()


def machine_s() -> int:
    """Return the machine's whole epoch seconds, also in a demonstration."""
    return int(machine_now())


def wall_clock() -> Clock:
    """Return a clock that starts at the machine's time and runs at the speed of its monotonic clock."""
    return Clock(origin=_named(time.time()), monotonic_origin=time.monotonic())


def _named(wall: float) -> float:
    """Return the machine's time; 0, as without a clock battery, if it is after 2106, which no record can name."""
    return wall if wall <= MAX_EPOCH else 0.0


def read_machine(clock: Clock) -> MachineClocks:
    """Read the machine's clocks."""
    return MachineClocks(
        raw=clock.now(),
        wall=_named(time.time()),
        since_boot_s=time.clock_gettime(time.CLOCK_BOOTTIME),
        boot=boot_id(),
        synchronised=_synchronised(),
        has_hardware_clock=_first_line(Path("/sys/class/rtc/rtc0/hctosys")) == "1",
    )


_TIME_ERROR = 5
_TIMEX_BYTES = 512


def _synchronised() -> bool:
    """Return whether the kernel reports the clock as synchronised (adjtimex(2), read-only); False without an answer."""
    answer: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return 0 <= answer < _TIME_ERROR


def save_clock(path: Path, clock: Clock) -> None:
    """Write a clock for other processes of this machine to follow."""
    fields = {name: getattr(clock, name) for name in _FIELDS}
    write_private(path, json.dumps({"boot": boot_id(), **fields}) + "\n")


def load_clock(path: Path | None) -> Clock:
    """Read a demonstration's clock; without ``path``, return the machine's clock.

    Raises:
        ConfigError: The file is missing, malformed, or of an earlier boot of this machine.
    """
    if path is None:
        return wall_clock()
    content = read_object(path, "a clock file", "the demonstration makes it")
    if missing := {"boot", *_FIELDS} - content.keys():
        raise ConfigError(f"{path}: not a clock file ({min(missing)} is missing); the demonstration makes it")
    numbers: dict[str, Any] = {name: content[name] for name in _FIELDS}
    if wrong := [name for name, value in numbers.items() if not _is_time(name, value)]:
        raise ConfigError(f"{path}: not a clock file ({wrong[0]} is no number it can be); the demonstration makes it")
    clock = Clock(**numbers, path=path)
    if content["boot"] != boot_id():
        raise ConfigError(f"{path}: made before this machine restarted; start the demonstration, which makes a new one")
    return clock


def _is_time(name: str, value: object) -> bool:
    if value is None:
        return name in ("ceiling", "meters_stop_at")
    lowest = 0 if name != "speed" else 1e-6
    return type(value) in (int, float) and lowest <= float(str(value)) <= MAX_EPOCH


def boot_id() -> str:
    """Return the id of this machine's last start."""
    return _first_line(Path("/proc/sys/kernel/random/boot_id")) or "unknown"


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
