"""The parts of the demonstration: its processes, each with its configuration file, and its past.

The past of the demonstration's own town: months of settled days, bills and readings, in an archive of this package.
It is emulated; ``python -m harness.past`` makes the archive anew, the same bytes each time (docs/scenarios.md).
"""

import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard

from commonwatt.clique.cliques import CLIQUE_FILE, orders_of, write_clique_files
from commonwatt.config.files import toml_table
from commonwatt.config.settings import command_of
from commonwatt.demo.large import TownProcesses, mosquitto, placed
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.topics import PLANT, UTILITY
from commonwatt.runtime.postgres import PrivatePostgres
from commonwatt.runtime.supervisor import SupervisedPart, free_ports
from commonwatt.town.town import Town

SHIPPED = Path(__file__).with_name("past.tar.zst")
LEVELS = "levels.json"  # the file of the levels of batteries at the past's end, in the data folder
WINDOW_BYTES = 1 << 27  # how far back the archive's compression refers


def unpack(data: Path) -> None:
    """Unpack the past into a data folder; nothing is left of an unpacking that was interrupted."""
    with tempfile.TemporaryDirectory(dir=data, prefix=".past-") as name:
        plain = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
        with (
            SHIPPED.open("rb") as file,
            plain.stream_reader(file) as reader,
            tarfile.open(fileobj=reader, mode="r|") as archive,
        ):
            archive.extractall(name, filter="data")
        shutil.copytree(name, data, dirs_exist_ok=True)


@dataclass(frozen=True, kw_only=True)
class _Town:
    """A town whose parts are written, with their addresses."""

    data: Path
    town: Town
    speed: float
    plain_text: bool
    places: TownProcesses | None  # of a large town
    orders: Mapping[MicrogridId, Sequence[MicrogridId]]  # of each microgrid with others: who takes over, in order
    head_end: str
    brokers: Mapping[MicrogridId, str]
    beats: Mapping[MicrogridId, str]
    address: Callable[[], str]  # returns one that is free

    def client_tls(self, kind: str) -> dict[str, object]:
        """Return the settings of a part's TLS as a client."""
        files = {"head_end_ca": "ca.pem", "head_end_revoked": "revoked.pem", "certificate": f"{kind}.pem"}
        return {} if self.plain_text else dict(files)


_CLOCK = {"clock": "../clock.json"}


def write_parts(
    data: Path, town: Town, speed: float, *, plain_text: bool, database: PrivatePostgres | None = None
) -> tuple[SupervisedPart, ...]:
    """Write every part's configuration file, with ports that are free now; return the parts in starting order.

    One process, ``meters``, runs the meters of all microgrids and the plant. Each microgrid's meters can also run
    alone, by their own file. In a large town, which has a ``database`` of its own, microgrids share brokers and hosts,
    and there are several fleets.
    """
    orders = {name: order for name, order in orders_of(town, data).items() if len(order) > 1}
    places = None if database is None else placed(town, orders)
    ports = iter(free_ports(5 + (5 if places is None else 2) * len(town.microgrids)))

    def address() -> str:
        return f"127.0.0.1:{next(ports)}"

    head_end = address()
    # The controllers take over for each other; in a town of one microgrid there is no other one.
    if places is None:
        brokers = {name: address() for name in town.microgrids}
    else:
        brokers = {name: at for some in places.brokers for at in [address()] for name in some}
    beats = {name: address() for name in (*town.microgrids, UTILITY)} if orders else {}
    write_clique_files(town, data, beats)
    of = _Town(
        data=data,
        town=town,
        speed=speed,
        plain_text=plain_text,
        places=places,
        orders=orders,
        head_end=head_end,
        brokers=brokers,
        beats=beats,
        address=address,
    )
    parts = _central_parts(of, "sqlite:///utility.db" if database is None else database.url)
    if database is not None and places is not None:
        parts = [_of_database(data, database), parts[0], *_shared_brokers(data, places, brokers), parts[1]]
    parts += [part for name in town.microgrids for part in _microgrid_parts(of, name)]
    for number, names in enumerate([] if places is None else places.hosts, 1):
        parts.append(_write(data, f"host_{number}", "host", address(), {"controllers": list(names), **_CLOCK}))
    return (*parts, *_fleets(of))


def _central_parts(layout: _Town, url: str) -> list[SupervisedPart]:
    """Write the head-end's broker and the utility."""
    tls = {"certificate": "broker.pem", "clients_ca": "ca.pem", "clients_revoked": "revoked.pem"}
    utility: dict[str, object] = {"database": url, "head_end": layout.head_end, "gaps_s": 60, "gap_age_s": 900}
    # A visitor who tries two people has no authenticator app at hand, and no days to wait.
    utility |= {"second_factor": "optional", "second_person_wait_days": 0}
    utility |= {"cliques": CLIQUE_FILE, "beats": layout.beats[UTILITY]} if layout.orders else {}
    broker: dict[str, object] = {"listen": layout.head_end, **({} if layout.plain_text else tls)}
    return [
        _write(layout.data, "head-end", "broker", layout.address(), broker),
        _write(
            layout.data, "utility", "utility", layout.address(), {**utility, **_CLOCK, **layout.client_tls("utility")}
        ),
    ]


def _microgrid_parts(layout: _Town, name: MicrogridId) -> Iterator[SupervisedPart]:
    """Write the broker, the gateway and the meters of a microgrid."""
    town, broker, order = layout.town, layout.brokers[name], layout.orders.get(name, ())
    ours: dict[str, object] = {"microgrid": name, "broker": broker, **_CLOCK}
    gateway = {**ours, "head_end": layout.head_end, "timezone": town.table.timezone, **layout.client_tls("gateway")}
    gateway |= {"clique": CLIQUE_FILE, "beats": layout.beats[name]} if order else {}
    gateway |= {"collects": some} if (some := town.collected_by(name)) else {}
    ranks = {controller: town.microgrids[controller].number for controller in order}
    further: list[dict[str, object]] = [
        {"name": n, "address": layout.brokers[n], "rank": ranks[n], "warm": True} for n in order[1:]
    ]
    collectors = [n for n in town.collectors.get(name, ()) if n not in order]
    further += [{"name": n, "address": layout.brokers[n]} for n in collectors]
    takes_over: dict[str, object] = {"clique": list(order), "broker_rank": ranks[name]} if order else {}
    takes_over |= {} if layout.plain_text or not order else {"authority": "ca.pem"}
    takes_over |= {"clique": [name]} if collectors and not order else {}
    is_alone = layout.places is None
    if is_alone:
        # A meter in a fast demonstration sends as much in a real second as a real meter sends in minutes.
        limits = {"listen": broker, "packets_per_s": max(100, layout.speed)}
        yield _write(layout.data, name, "broker", layout.address(), limits)
    meters = {**ours, "town": "../town.toml", **takes_over}
    # A process of several microgrids answers for all.
    yield _write(layout.data, name, "gateway", layout.address() if is_alone else None, gateway, hosted=not is_alone)
    http = layout.address() if is_alone else None
    yield _write(layout.data, name, "meters", http, meters, hosted=True, lists={"brokers": further})


def _fleets(layout: _Town) -> Iterator[SupervisedPart]:
    """Write the processes of meters; the first has the plant."""
    fleets: Sequence[Sequence[MicrogridId]] = (
        [list(layout.town.microgrids)] if layout.places is None else layout.places.fleets
    )
    for number, names in enumerate(fleets, 1):
        everything: dict[str, object] = {"microgrids": list(names), "town": "../town.toml", **_CLOCK}
        if (layout.data / LEVELS).exists():
            everything["levels"] = f"../{LEVELS}"
        plant = {"head_end": layout.head_end, "tokens": "plant-tokens.json", **layout.client_tls("plant")}
        everything |= {"plant": plant} if number == 1 else {}
        folder, title = (
            PLANT if number == 1 else f"fleet_{number}",
            "meters" if layout.places is None else f"fleet {number}",
        )
        yield _write(layout.data, folder, "meters", layout.address(), everything, name=title)


def _of_database(data: Path, database: PrivatePostgres) -> SupervisedPart:
    log, command = data / "logs" / "database.log", tuple(database.command)
    config = database.folder / "postgresql.conf"
    return SupervisedPart(
        name="database", kind="database", config=config, http=None, log=log, command=command, user=database.user
    )


def _shared_brokers(data: Path, places: TownProcesses, addresses: Mapping[ControllerId, str]) -> list[SupervisedPart]:
    """Write the files of each Mosquitto of several microgrids; a folder with _ is no microgrid's."""
    made = []
    for number, names in enumerate(places.brokers, 1):
        part = _write(data, f"broker_{number}", "broker", None, {"listen": addresses[names[0]]})
        command = mosquitto(part.config, [data / name / "devices.json" for name in names])
        made.append(replace(part, command=tuple(command)))
    return made


def write_targets(data: Path, parts: tuple[SupervisedPart, ...]) -> None:
    """Write the addresses of the parts' metrics for Prometheus (``file_sd_configs``); see docs/operations.md."""
    targets = [
        {"targets": [part.http], "labels": {"part": part.kind, "place": part.config.parent.name}}
        for part in parts
        if part.http is not None
    ]
    (data / "prometheus-targets.json").write_text(json.dumps(targets, indent=1) + "\n")


def _write(
    data: Path,
    folder: str,
    kind: str,
    http: str | None,
    keys: dict[str, object],
    *,
    name: str | None = None,
    hosted: bool = False,
    lists: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
) -> SupervisedPart:
    path = data / folder / f"{kind}.toml"
    first = f"# Written anew by each `commonwatt demo`; see: commonwatt config example {kind}\n"
    path.parent.mkdir(exist_ok=True)
    tables = [toml_table(f"[[{name}]]", each) for name, every in (lists or {}).items() for each in every]
    keys = keys if http is None else {**keys, "http": http}
    path.write_text("\n".join([first + toml_table(f"[{kind}]", keys), *tables]))
    (data / "logs").mkdir(exist_ok=True)
    name = name or _name_of(folder, kind)
    log = data / "logs" / f"{name.replace(' ', '-')}.log"
    command = (sys.executable, "-m", *command_of(kind).split(), "--config", str(path))
    return SupervisedPart(name=name, kind=kind, config=path, http=http, log=log, command=command, hosted=hosted)


def _name_of(folder: str, kind: str) -> str:
    if folder == kind or folder == "head-end":
        return folder
    return folder.replace("_", " ") if "_" in folder else f"{folder} {kind}"
