"""The monthly LTE traffic of a controller's line, in each direction.

Microgrids of real processes at real speed, in a network namespace of their own with LTE's packet size (1,400
bytes); every packet is counted. ``python -m benchmarks.lte`` only prints the table.
"""

import argparse
import json
import re
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import Goal, Section, Table
from commonwatt.identity.authority import Authority, Wanted
from commonwatt.identity.certificates import Kind
from commonwatt.model.byte_count import ByteCount
from commonwatt.runtime.clock import wall_clock
from commonwatt.town.town import Function
from harness.network.loopback import Scales, bring_up, ports_of, run_alone
from harness.network.waiting import eventually
from harness.real.site import Site

MTU = 1400
SETTLE_S = 90  # real seconds until the messages of a start are over: a gateway requests all states within a minute
START_S = 300.0  # real seconds that starting and stopping may take
ALLOWANCE_GB = 2.0  # T9: a line's plan, each way

CONNECTIONS = "commonwatt_gateway_connections"
DAY_S, MONTH_DAYS = 86_400, 30
COMINGS_A_DAY = 4  # reconnections of a meter a day (``failures_per_day``)

TOWNS = {
    "homes": 'kind = "residential"\nhouses = 10\n',
    "apartments": 'kind = "apartment"\nbuildings = 3\napartments = 100\n',
    "spread": 'kind = "apartment"\nbuildings = 1\napartments = 20\n',
}
PLACES = {
    "homes": "residential microgrid",
    "apartments": "apartments on one line",
    "spread": "apartments, 21 meters a line",
}

RECORD_BYTES, SLOTS_A_DAY = 36, 5760
# Records a slot of each line's meters: three of a meter with a battery, one of others.
RAW = {"homes": 10 * 3 + 10, "apartments": 300 + 3 * 3, "spread": 20 + 3}
# P9's figures, GB, both ways together; a clique has three microgrids.
CLIQUES = {"homes": ("RAnGeRS, house clique", 1.51), "apartments": ("RAnGeRS, apartment clique", 1.72)}

NOTE = (
    "ACES' figures are its formula for the same number of meters (0.1 + 0.078 + 0.029 D + 0.155 GB up, 0.1 + 0.065 + "
    "0.049 D + 0.155 GB down). RAnGeRS' figures are its plan for a clique of three microgrids, both directions "
    "together. Both were calculated, not measured, and without encryption."
)


@dataclass(frozen=True)
class Line:
    """One controller's line, in bytes up (sent by the controller) and down."""

    place: str  # name of the microgrid
    meters: int  # meters on the line
    seconds: float  # duration of the count
    to_meters: tuple[int, int]  # bytes on the meters' side, up and down
    to_utility: tuple[int, int]  # bytes on the utility's side, up and down
    coming: tuple[int, int]  # bytes of one meter's connecting, counted while all connected at once

    def month(self) -> tuple[float, float]:
        """Return the bytes of a month, up and down."""
        return tuple(  # type: ignore[return-value]
            MONTH_DAYS * ((a + b) / self.seconds * DAY_S + self.meters * COMINGS_A_DAY * c)
            for a, b, c in zip(self.to_meters, self.to_utility, self.coming, strict=True)
        )


def measure(places: Sequence[str], seconds: float, settle_s: float = SETTLE_S) -> list[Line]:
    """Return each line, counted for ``seconds`` real seconds."""
    arguments = ["--alone", ",".join(places), "--seconds", str(seconds), "--settle", str(settle_s)]
    done = run_alone("benchmarks.lte", arguments, seconds + settle_s + START_S)
    return [Line(**{key: _pair(value) for key, value in row.items()}) for row in json.loads(done)]


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Weighing:
    """The three microgrids, in a network namespace of their own, with the count of their lines."""

    def __init__(self, site: Site, scales: Scales, places: Sequence[str]) -> None:
        self.site = site
        self.places = places
        self._scales = scales
        self._head_end = site.address("head-end")[1]
        self._brokers = {place: site.address(f"{place} broker")[1] for place in places}
        self._gateways: dict[str, set[int]] = {}
        self._boundary: dict[str, set[int]] = {place: set() for place in places}

    def begin(self) -> dict[str, tuple[int, int]]:
        """Start everything; return the bytes of one meter's connecting, by place, after all have connected."""
        self.site.start("head-end", "utility", *(f"{place} broker" for place in self.places))
        self.site.start(*(f"{place} meters" for place in self.places))
        self.site.start(*(f"{place} gateway" for place in self.places))
        eventually(lambda: all(self.site.metric(f"{p} gateway", CONNECTIONS) == 2 for p in self.places))
        self._gateways = {place: ports_of(self.site.processes[f"{place} gateway"].pid) for place in self.places}
        eventually(lambda: all(self._all_came(place) for place in self.places))
        self._boundary = {place: self._boundary_ports(place) for place in self.places}
        came = {place: self.weigh(place)[0] for place in self.places}
        return {
            p: (byte_count.sent // self.meters(p), byte_count.received // self.meters(p))
            for p, byte_count in came.items()
        }

    def status(self, place: str) -> dict[str, Any]:
        """Return a gateway's /status."""
        return self.site.status(f"{place} gateway") or {}

    def meters(self, place: str) -> int:
        """Return the number of meters on a line: all except the boundary's two."""
        return int(self.status(place)["meters"]["registered"]) - 2

    def _all_came(self, place: str) -> bool:
        """Whether all meters, and the gateway, are connected."""
        broker = self.site.status(f"{place} broker") or {}
        return bool(broker["connections"] == broker["devices"])

    def _boundary_ports(self, place: str) -> set[int]:
        """Return the ports of the boundary meters' connections, from the broker's log."""
        meters = json.loads((self.site.folder / place / "registry.json").read_text())["meters"]
        boundary = {meter["id"] for meter in meters if meter["function"] == Function.BOUNDARY}
        came = re.findall(r"(\d+) connected from \('[^']*', (\d+)\)", self.site.log(f"{place} broker"))
        return {int(port) for meter, port in came if meter in boundary}

    def weigh(self, place: str) -> tuple[ByteCount, ByteCount]:
        """Return the bytes of a line so far: to and from its meters, and to and from the utility."""
        meters = self._scales.byte_count(self._brokers[place], without=self._gateways[place] | self._boundary[place])
        utility = self._scales.byte_count(self._head_end, only=self._gateways[place])
        return meters, ByteCount(utility.received, utility.sent)


def weigh_alone(places: Sequence[str], seconds: float, settle_s: float) -> list[Line]:
    """Count the lines, in a network namespace of this process."""
    bring_up(MTU)
    pause = threading.Event()
    town = "".join(f'[[microgrid]]\nid = "{place}"\n{TOWNS[place]}' for place in places)
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder) / "site", town, speed=1, plain_text=False) as site:
        for place in places:
            speak_tls(site, place)
        weighing = Weighing(site, Scales(), places)
        coming = weighing.begin()
        pause.wait(settle_s)
        start, first = time.monotonic(), {place: weighing.weigh(place) for place in places}
        pause.wait(seconds)
        took_s, last = time.monotonic() - start, {place: weighing.weigh(place) for place in places}
        return [
            Line(
                place=place,
                meters=weighing.meters(place),
                seconds=took_s,
                to_meters=_less(last[place][0], first[place][0]),
                to_utility=_less(last[place][1], first[place][1]),
                coming=coming[place],
            )
            for place in places
        ]


def speak_tls(site: Site, place: str) -> None:
    """Make a microgrid's broker, its gateway and its meters use TLS."""
    authority = Authority.load(site.folder)
    addresses = ("127.0.0.1", "localhost")
    wanted = Wanted(kind=Kind.BROKER, name=place, file=f"{place}/broker.pem", lifetime_s=DAY_S, addresses=addresses)
    authority.issue([wanted], int(wall_clock().now()))
    for part, line in (("broker", 'certificate = "broker.pem"'), ("gateway", _CA), ("meters", _CA)):
        with site.layout.part(f"{place} {part}").config.open("a") as config:
            config.write(line + "\n")


_CA = 'broker_ca = "ca.pem"'


def _less(last: ByteCount, first: ByteCount) -> tuple[int, int]:
    return last.sent - first.sent, last.received - first.received


def bench(*, smoke: bool = False) -> Section:
    """Count the three kinds of lines for two minutes."""
    lines = measure(["spread"], 1, 0) if smoke else measure(list(TOWNS), 120)
    table = Table(
        title="GB (10^9 bytes, with all headers) a month of 30 days",
        columns=("line", "up, from the controller", "down", "both"),
        rows=tuple(row for line in lines for row in rows(line)),
    )
    goals = [
        Goal(
            what=f"{PLACES[line.place]}, the fuller direction",
            value=max(line.month()) / 1e9,
            unit="GB a month",
            at_most=ALLOWANCE_GB,
            limited_by="Meters put 36 bytes a record once a minute, and only the meters could change that.",
        )
        for line in lines
    ]
    return Section(
        title="What a controller's LTE line carries",
        about="Real processes at real speed, in a network namespace of their own with LTE's packets of 1,400 bytes; "
        "TLS on all connections, with tokens; each packet is counted in whole minutes of normal operation. A month "
        f"is 30 * (counted bytes / seconds * 86,400 + meters * {COMINGS_A_DAY} * bytes of one meter's connecting), "
        "since each meter reconnects so often a day. Not included: outages, requests for missing readings, commands "
        "of the utility, and the boundary's two meters, which are at the controller itself.",
        tables=(table,),
        goals=tuple(goals),
        notes=(NOTE,),
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="how long is weighed, whole minutes")
    parser.add_argument("--settle", type=float, default=SETTLE_S, help="how long before that is not")
    parser.add_argument("--alone", metavar="PLACES", help="the lines; the process has a network namespace already")
    arguments = parser.parse_args()
    if arguments.alone:
        lines = weigh_alone(arguments.alone.split(","), arguments.seconds, arguments.settle)
        print(json.dumps([asdict(line) for line in lines]))
    else:
        for line in measure(list(TOWNS), arguments.seconds, arguments.settle):
            for row in rows(line):
                print(" | ".join(row))


def aces(meters: int) -> tuple[float, float]:
    """Return A10's GB a month, up and down, of a controller with one microgrid of ``meters`` meters."""
    return 0.1 + 0.078 + 0.029 * meters + 0.155, 0.1 + 0.065 + 0.049 * meters + 0.155


def rows(line: Line) -> list[tuple[str, ...]]:
    """Return a line's figures, and the published figures beside them."""
    raw = RAW[line.place] * RECORD_BYTES * SLOTS_A_DAY * MONTH_DAYS / 1e9
    utility = (MONTH_DAYS * count / line.seconds * DAY_S / 1e9 for count in line.to_utility)
    found = [
        _row(f"**{PLACES[line.place]}, {line.meters} meters**", *(count / 1e9 for count in line.month())),
        _row("of it with the utility", *utility),
        _row("the raw records of its meters, without anything", 0, raw),
        _row("ACES, one microgrid and as many meters", *aces(line.meters)),
    ]
    if line.place in CLIQUES:
        name, both = CLIQUES[line.place]
        found.append((f"{name}, three microgrids", "", "", f"{both:.2f}"))
    return found


def _row(name: str, up: float, down: float) -> tuple[str, ...]:
    return name, f"{up:.3f}", f"{down:.3f}", f"{up + down:.3f}"


if __name__ == "__main__":
    main()
