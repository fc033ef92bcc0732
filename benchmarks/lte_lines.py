"""Controllers' LTE lines of real processes after each step of economy: what they carry, packet by packet."""

import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commonwatt.identity.authority import Authority, Wanted
from commonwatt.identity.certificates import Kind
from commonwatt.model.byte_count import ByteCount
from commonwatt.model.control.relaying import PUT_S
from commonwatt.runtime.clock import wall_clock
from commonwatt.town.loading import load_town
from commonwatt.town.town import Function, Meter
from harness.network.loopback import Scales, bring_up, ports_of
from harness.network.waiting import eventually
from harness.real.site import Site

MTU = 1400
COME_S = 10  # real seconds in which the silent sessions begin, too
TIMESTAMPS = Path("/proc/sys/net/ipv4/tcp_timestamps")

CONNECTIONS = "commonwatt_gateway_connections"
DAY_S, MONTH_DAYS = 86_400, 30
COMINGS_A_DAY = 4  # reconnections of a meter a day (``failures_per_day``)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of economy, on top of all earlier ones."""

    name: str  # its name
    timestamps: bool = False  # whether TCP has timestamps
    # Constants of our modules that differ from the product's, by part.
    constants: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    settings: Mapping[str, int | str] = field(default_factory=dict)  # the gateway's settings

    @property
    def age_s(self) -> int:
        """The seconds from a slot's end until its reading is at the utility, at most."""
        return int(self.settings.get("put_s", PUT_S)) + int(self.settings.get("relay_s", 60))


_GATEWAY: dict[str, object] = {
    "gateway.collect.collector.ACK_QOS": 1,
    "gateway.control.requests.LEVELS_QOS": 1,
    "gateway.control.requests.COLLECTING": {},
    "gateway.control.requests.COLLECT_QOS": 1,
}
_PUTS = {"meters": {"commonwatt.device.meter.PUT_QOS": 1, "commonwatt.device.shell.KEEPALIVE_S": 60}}


def _before(done: int) -> dict[str, Mapping[str, object]]:
    """Return the constants of the first steps, of which so many are done."""
    return {"gateway": dict(list(_GATEWAY.items())[done:]), **_PUTS}


QUARTERS: dict[str, int | str] = {"relay_s": 900}
LOSSLESS: dict[str, int | str] = {**QUARTERS, "meters": '"lossless"'}


def puts_every(put_s: int) -> Step:
    """Return the last step, with a period of puts."""
    periods = dict.fromkeys(("put_s", "collect_s", "levels_s"), put_s)
    return Step(name=f"puts, collections and levels every {put_s} s", settings=LOSSLESS | periods)


STEPS = (
    Step(name="as before", timestamps=True, constants=_before(0)),
    Step(name="TCP timestamps off", constants=_before(0)),
    Step(name="acknowledgements by QoS 0", constants=_before(1)),
    Step(name="requests of levels by QoS 0", constants=_before(2)),
    Step(name="collected without outcomes", constants=_before(3)),
    Step(name="requests of records by QoS 0", constants=_before(4)),
    Step(name="puts by QoS 0"),
    Step(name="relay every 900 s", settings=QUARTERS),
    Step(name="lossless at the meters", settings=LOSSLESS),
    *map(puts_every, (120, 300, 900)),
)
"""All steps in their order; the product has the constants of the last ones."""

KINDS = {
    "homes": ("residential", 'kind = "residential"\nhouses = 10\n'),
    "spread": ("apartments, 21 meters a line", 'kind = "apartment"\nbuildings = 1\napartments = 20\n'),
    "large": ("apartments, 32 meters a line", 'kind = "apartment"\nbuildings = 1\napartments = 31\n'),
    "apartments": ("apartments on one line", 'kind = "apartment"\nbuildings = 3\napartments = 100\n'),
}
"""By name, the kind of a line in words, and the town's part."""

PLAN = {"homes": range(len(STEPS)), "spread": range(len(STEPS)), "large": (6, 8, 10), "apartments": (0, 6, 8, 10)}
"""The steps that are measured, by kind of line."""


def place_of(kind: str, step: int) -> str:
    """Return the name of the microgrid that shows a kind of line after a step."""
    return f"{kind}{step}"


PLACES = {place_of(kind, step): (kind, step) for kind, steps in PLAN.items() for step in steps}


@dataclass(frozen=True)
class Line:
    """One controller's line, in bytes up (sent by the controller) and down."""

    place: str  # name of the microgrid
    meters: int  # meters on the line
    sessions: int  # sessions of meters with its broker: its own, and the silent ones of its clique's
    seconds: float  # duration of the count
    to_meters: tuple[int, int]  # bytes on the meters' side, up and down
    to_utility: tuple[int, int]  # bytes on the utility's side, up and down
    beats: tuple[int, int]  # bytes of datagrams, up and down
    coming: tuple[int, int]  # bytes of one session's beginning, counted while all began at once

    @property
    def kind(self) -> str:
        """The kind of line."""
        return PLACES[self.place][0]

    @property
    def step(self) -> Step:
        """The step that it shows."""
        return STEPS[PLACES[self.place][1]]

    def month(self) -> tuple[float, float]:
        """Return the GB of a month, up and down."""
        counted = zip(self.to_meters, self.to_utility, self.beats, self.coming, strict=True)
        return tuple(  # type: ignore[return-value]
            MONTH_DAYS * (sum(sides) / self.seconds * DAY_S + self.sessions * COMINGS_A_DAY * c) / 1e9
            for *sides, c in counted
        )


class Weighing:
    """The microgrids, in a network namespace of their own, with the count of their lines."""

    def __init__(self, site: Site, scales: Scales, places: Sequence[str]) -> None:
        self.site = site
        self.places = places
        self._scales = scales
        self._head_end = site.address("head-end")[1]
        self._brokers = {place: site.address(f"{place} broker")[1] for place in places}
        self._beats = {place: _beats_port(site, place) for place in places}
        self._gateways: dict[str, set[int]] = {}
        self._boundary: dict[str, set[int]] = {}

    def begin(self) -> dict[str, tuple[int, int]]:
        """Start everything; return the bytes of one session's beginning, by place, after all have begun."""
        self.site.start("head-end", "utility")
        # A connection has timestamps if both ends had them when it was opened.
        for timestamps in (True, False):
            TIMESTAMPS.write_text(str(int(timestamps)))
            places = [place for place in self.places if STEPS[PLACES[place][1]].timestamps is timestamps]
            for part in ("broker", "meters", "gateway"):
                self.site.start(*(f"{place} {part}" for place in places))
            eventually(lambda places=places: all(map(self._all_came, places)))  # type: ignore[misc]
        threading.Event().wait(COME_S)
        self._gateways = {place: ports_of(self.site.processes[f"{place} gateway"].pid) for place in self.places}
        self._boundary = {place: self._boundary_ports(place) for place in self.places}
        return {place: self._coming(place) for place in self.places}

    def _coming(self, place: str) -> tuple[int, int]:
        came, sessions = self.weigh(place)[0], self.sessions(place)
        return came.sent // sessions, came.received // sessions

    def sessions(self, place: str) -> int:
        """Return the number of sessions of meters at a line's broker, without the boundary's two."""
        return int((self.site.status(f"{place} broker") or {})["connections"]) - 3

    def meters(self, place: str) -> int:
        """Return the number of meters on a line: all except the boundary's two."""
        return len(_registry(self.site, place)) - 2

    def _all_came(self, place: str) -> bool:
        """Whether the meters, and the gateway at both brokers, are connected."""
        broker = self.site.status(f"{place} broker") or {}
        own = len(_registry(self.site, place)) + 1
        return broker["connections"] >= own and self.site.metric(f"{place} gateway", CONNECTIONS) == 2

    def _boundary_ports(self, place: str) -> set[int]:
        """Return the ports of the boundary meters' connections, from the broker's log."""
        boundary = {meter["id"] for meter in _registry(self.site, place) if meter["function"] == Function.BOUNDARY}
        came = re.findall(r"(\d+) connected from \('[^']*', (\d+)\)", self.site.log(f"{place} broker"))
        return {int(port) for meter, port in came if meter in boundary}

    def weigh(self, place: str) -> tuple[ByteCount, ByteCount, ByteCount]:
        """Return the bytes of a line so far: to and from its meters, to and from the utility, and datagrams."""
        local = self._gateways[place] | self._boundary[place]
        meters = self._scales.byte_count(self._brokers[place], without=local)
        utility = self._scales.byte_count(self._head_end, only=self._gateways[place])
        port = self._beats[place]
        beats = ByteCount(0, 0) if port is None else self._scales.datagram_count(port)
        return meters, ByteCount(utility.received, utility.sent), beats

    def line(self, place: str, before: Sequence[ByteCount], seconds: float, coming: tuple[int, int]) -> Line:
        """Return what a line carried since ``before``."""
        meters, utility, beats = (
            (now.sent - then.sent, now.received - then.received)
            for now, then in zip(self.weigh(place), before, strict=True)
        )
        return Line(place, self.meters(place), self.sessions(place), seconds, meters, utility, beats, coming)


def _registry(site: Site, place: str) -> list[dict[str, Any]]:
    meters: list[dict[str, Any]] = json.loads((site.folder / place / "registry.json").read_text())["meters"]
    return meters


def _beats_port(site: Site, place: str) -> int | None:
    found = re.search(r'^beats = "[^"]*:(\d+)"', site.layout.part(f"{place} gateway").config.read_text(), re.MULTILINE)
    return None if found is None else int(found[1])


def weigh_alone(places: Sequence[str], seconds: float, settle_s: float) -> list[Line]:
    """Count the lines, in a network namespace of this process."""
    bring_up(MTU)
    pause = threading.Event()
    town = "".join(f'[[microgrid]]\nid = "{place}"\n{KINDS[PLACES[place][0]][1]}' for place in places)
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder) / "site", town, speed=1, plain_text=False) as site:
        levels = {str(meter.id): level for meter, level in _levels(site).items()}
        (site.folder / "levels.json").write_text(json.dumps(levels))
        for place in places:
            speak_tls(site, place)
            take(site, place, STEPS[PLACES[place][1]])
        scales = Scales()
        weighing = Weighing(site, scales, places)
        coming = weighing.begin()
        pause.wait(settle_s)
        scales.lost()
        start, first = time.monotonic(), {place: weighing.weigh(place) for place in places}
        pause.wait(seconds)
        took_s = time.monotonic() - start
        assert not scales.lost(), "the machine is too busy to weigh every packet"
        return [weighing.line(place, first[place], took_s, coming[place]) for place in places]


def _levels(site: Site) -> dict[Meter, int]:
    """Return the batteries' levels: in each microgrid the first is low and asked for its level every 15 s (N1)."""
    levels = {}
    for microgrid in load_town(site.town_file).microgrids.values():
        batteries = [meter for meter in microgrid.meters if meter.battery is not None]
        for meter in batteries:
            assert meter.battery is not None
            levels[meter] = meter.battery.capacity * (25 if meter is batteries[0] else 90) // 100
    return levels


def take(site: Site, place: str, step: Step) -> None:
    """Give a microgrid's parts what a step changes."""
    add(site, f"{place} gateway", *(f"{name} = {value}" for name, value in step.settings.items()))
    add(site, f"{place} meters", 'levels = "../levels.json"')
    for part, constants in step.constants.items():
        name = f"{place} {part}"
        lines = [f"import {at.rpartition('.')[0]}; {at} = {value!r}" for at, value in constants.items()]
        code = "\n".join([*lines, "from commonwatt.cli.main import main; main()"])
        site.commands[name] = [sys.executable, "-c", code, *site.layout.part(name).command[3:]]


def speak_tls(site: Site, place: str) -> None:
    """Make a microgrid's broker, its gateway and its meters use TLS."""
    authority = Authority.load(site.folder)
    addresses = ("127.0.0.1", "localhost")
    wanted = Wanted(kind=Kind.BROKER, name=place, file=f"{place}/broker.pem", lifetime_s=DAY_S, addresses=addresses)
    authority.issue([wanted], int(wall_clock().now()))
    for part, line in (("broker", 'certificate = "broker.pem"'), ("gateway", _CA), ("meters", _CA)):
        add(site, f"{place} {part}", line)


_CA = 'broker_ca = "ca.pem"'


def add(site: Site, name: str, *lines: str) -> None:
    """Add settings to a part's table, which other tables may follow."""
    part = site.layout.part(name)
    head = f"[{part.kind}]\n"
    part.config.write_text(part.config.read_text().replace(head, head + "".join(f"{line}\n" for line in lines), 1))
