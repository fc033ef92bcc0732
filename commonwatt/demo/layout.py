"""The demonstration's data folder: each part's place, port and file.

``town.toml`` and ``clock.json`` at the top; a folder with configuration, databases and tokens for each
microgrid, ``head-end`` and ``utility``; ``logs``; ``processes.json`` lists processes, ``prometheus-targets.json`` the
addresses of their metrics.
"""

import json
import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from commonwatt.audit.folder import DATABASE
from commonwatt.config.database_url import sqlite_url
from commonwatt.demo.large import ALONE, require_servers
from commonwatt.demo.parts import unpack, write_parts, write_targets
from commonwatt.identity.authority import FOLDER, Authority, WantedCertificate
from commonwatt.identity.certificates import Purpose
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import SLOT_S, EpochSeconds
from commonwatt.protocol.topics import PLANT, UTILITY
from commonwatt.runtime.clock import Clock, save_clock, wall_clock
from commonwatt.runtime.postgres import PrivatePostgres
from commonwatt.runtime.service import only_one
from commonwatt.runtime.supervisor import SupervisedPart, free_ports
from commonwatt.site.office import register
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town

BUILT_IN_TOWN = Path(__file__).with_name("town.toml")

STARTS_AT = 1_781_964_000  # 20 June 2026, 10:00 in Centertown: a summer morning with solar energy to share
# Most real seconds for which the clock stands still while the processes start, so that no slot is missed.
START_UP_S = 60.0
LARGE_START_UP_S = 600.0  # the same in a town whose microgrids share processes
CEILING_S = 5.0  # real seconds for which the clock runs on after the demonstration stops; it then stands still

CLOCK_FILE = "clock.json"
BEGAN_FILE = "began.json"

_CERTIFIED_S = 90 * 86_400


@dataclass(frozen=True, kw_only=True)
class DemoFolder:
    """A prepared data folder."""

    data: Path  # the folder
    town: Town  # the town of the demonstration
    clock: Clock  # the clock of all parts
    # The processes, in the order they are started, and the parts that one of them runs.
    parts: tuple[SupervisedPart, ...]
    began: EpochSeconds = 0  # town time at which the folder's first run began
    large: bool = False  # whether microgrids share brokers and hosts of gateways
    start_up_s: float = START_UP_S  # most real seconds for which the clock waits for the processes

    @property
    def begun(self) -> bool:
        """Whether the clock has started."""
        return self.clock.ceiling is None

    @property
    def processes(self) -> tuple[SupervisedPart, ...]:
        """The parts that are processes of their own, in the order they are started."""
        return tuple(part for part in self.parts if not part.hosted)

    def part(self, name: str) -> SupervisedPart:
        """Return the part called ``name``."""
        return next(part for part in self.parts if part.name == name)


def prepare(
    data: Path,
    town_file: Path | None,
    speed: float,
    for_s: float | None,
    *,
    plain_text: bool = False,
    starts_at: EpochSeconds | None = None,
    apart: bool = False,
) -> DemoFolder:
    """Prepare the folder ``data``; a later run continues where the earlier one stopped.

    Args:
        data: The folder; made when missing.
        town_file: The town file; ``None``: the file in ``data``, or the built-in town.
        speed: Clock seconds in a real second.
        for_s: Real seconds after which the meters make no more records; ``None``: no end.
        plain_text: No TLS at the head-end, for tests that read its traffic.
        starts_at: Town time at which a new folder begins; ``None``: the default.
        apart: Whether each microgrid of a large town has a broker and a gateway of its own, too.

    Raises:
        ConfigError: The folder holds another town, or the town can't be registered.
    """
    data.mkdir(parents=True, exist_ok=True)
    town_path = data / "town.toml"
    _place_town(town_path, town_file)
    town = load_town(town_path)
    large = not apart and len(town.microgrids) > ALONE
    if large:
        require_servers()
    origin = _resume_at(data, speed, starts_at)
    if origin == STARTS_AT and not (data / CLOCK_FILE).exists() and _contents(town_path) == _contents(BUILT_IN_TOWN):
        unpack(data)
    database = PrivatePostgres((data / DATABASE).resolve()) if large else None
    with nullcontext() if database is None else database.answering_at(free_ports(1)[0]):
        url = database.url if database is not None else sqlite_url((data / "utility" / "utility.db").resolve())
        register(town_path, data, url)
        if not plain_text:
            with only_one(data / FOLDER, "another enrolment"):
                _enroll(data, town)
        parts = write_parts(data, town, speed, plain_text=plain_text, database=database)
    write_targets(data, parts)
    start_up_s = LARGE_START_UP_S if large else START_UP_S
    began = _began(data / BEGAN_FILE, int(origin))
    stop_at = None if for_s is None else int(origin + for_s * speed) // SLOT_S * SLOT_S
    clock = Clock(
        origin=origin,
        monotonic_origin=time.monotonic() + start_up_s,
        speed=speed,
        ceiling=origin,
        meters_stop_at=stop_at,
    )
    save_clock(data / CLOCK_FILE, clock)
    return DemoFolder(data=data, town=town, clock=clock, parts=parts, began=began, start_up_s=start_up_s, large=large)


def let_time_begin(layout: DemoFolder) -> DemoFolder:
    """Start the clock; every part is ready."""
    begun = replace(layout, clock=replace(layout.clock, monotonic_origin=time.monotonic(), ceiling=None))
    set_ceiling(begun, begun.clock.now() + CEILING_S * begun.clock.speed)
    return begun


def set_ceiling(layout: DemoFolder, ceiling: float) -> None:
    """Set the shared clock's ceiling; no process's time exceeds it, and the next run starts there."""
    save_clock(layout.data / CLOCK_FILE, replace(layout.clock, ceiling=ceiling))


def end_time(layout: DemoFolder) -> int:
    """Save and return the town time at which the clock stopped; all parts have ended."""
    moment = layout.clock.now()
    save_clock(layout.data / CLOCK_FILE, replace(layout.clock, ceiling=moment))
    return int(moment)


def _resume_at(data: Path, speed: float, starts_at: EpochSeconds | None) -> float:
    """Return the town time at which an earlier run stopped; in a new folder its start, or now at speed 1."""
    path = data / CLOCK_FILE
    if path.exists():
        return float(json.loads(path.read_text())["ceiling"])
    if starts_at is not None:
        return float(starts_at)
    return wall_clock().now() if speed == 1 else float(STARTS_AT)


def _began(path: Path, origin: EpochSeconds) -> EpochSeconds:
    """Return the town time at which the folder's first run began; this is the first run if there is no file."""
    if not path.exists():
        path.write_text(json.dumps({"time": origin}) + "\n")
    return int(json.loads(path.read_text())["time"])


def _place_town(path: Path, town_file: Path | None) -> None:
    if not path.exists():
        town, *tables = _files_of(town_file or BUILT_IN_TOWN)
        for table in tables:
            shutil.copyfile(table, path.parent / table.name)
        shutil.copyfile(town, path)
    elif town_file is not None and _contents(town_file) != _contents(path):
        raise ConfigError(f"{path}: holds another town than {town_file}; choose another --data, or change that file")


def _files_of(town_file: Path) -> list[Path]:
    """Return a town file, and its table of places if it has one."""
    places = load_town(town_file).table.places
    return [town_file] if places is None else [town_file, town_file.parent / places]


def _contents(town_file: Path) -> list[bytes]:
    return [file.read_bytes() for file in _files_of(town_file)]


def _enroll(data: Path, town: Town) -> None:
    """Issue the certificates of the head-end and its clients, or renew certificates that expire soon."""
    now = int(wall_clock().now())
    authority = Authority.load(data) if (data / FOLDER).exists() else Authority.create(data, "Demonstration", now)
    gateways = [(name, f"{name}/gateway.pem") for name in town.microgrids]
    wanted = [
        WantedCertificate(kind=Purpose.DEVICE, name=name, file=file, lifetime_s=_CERTIFIED_S)
        for name, file in [*gateways, (UTILITY, "utility/utility.pem"), (PLANT, "plant/plant.pem")]
    ]
    addresses = ("127.0.0.1", "localhost")
    wanted.append(
        WantedCertificate(
            kind=Purpose.BROKER,
            name="head-end",
            file="head-end/broker.pem",
            lifetime_s=_CERTIFIED_S,
            addresses=addresses,
        )
    )
    authority.issue_missing(wanted, now)
    authority.renew(now, _CERTIFIED_S // 2)
