"""The parts of the demonstration: its processes, each with its configuration file."""

import json
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from commonwatt.config.files import toml_table
from commonwatt.config.parts import command_of
from commonwatt.demo.past import LEVELS
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.topics import PLANT, UTILITY
from commonwatt.town.clique_file import CLIQUE_FILE
from commonwatt.town.cliques import orders_of, write_clique_files
from commonwatt.town.town import Town

_LOWEST_PORT = 10_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_EPHEMERAL_FROM = 32_768  # Linux's default for the first ephemeral port


def free_ports(count: int) -> list[int]:
    """Return free loopback ports below the ephemeral range, so that no outgoing connection can take one.

    All ports stay bound until the last is found, so no two are the same.
    """
    end = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else _EPHEMERAL_FROM
    span = max(end - _LOWEST_PORT, count)
    first = secrets.randbelow(span)
    ports: list[int] = []
    with ExitStack() as held:
        for n in range(span):
            port = _LOWEST_PORT + (first + n) % span
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue  # Another program uses this port.
            ports.append(port)
            if len(ports) == count:
                return ports
    raise ConfigError(f"only {len(ports)} of {count} ports from {_LOWEST_PORT} to {_LOWEST_PORT + span} are free here")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of the demonstration."""

    name: str  # such as ``r001 gateway``
    kind: str  # the command that runs it: broker, gateway, meters or utility
    config: Path  # its TOML file
    http: str | None  # the address of its /metrics and /status; ``None``: no address
    log: Path  # the file of its output
    hosted: bool = False  # whether the part ``meters`` runs it: the demonstration then starts no process for it

    @property
    def command(self) -> list[str]:
        """The command line that starts the process."""
        return [sys.executable, "-m", *command_of(self.kind).split(), "--config", str(self.config)]


def write_parts(data: Path, town: Town, speed: float, *, plain_text: bool) -> tuple[Part, ...]:
    """Write every part's configuration file, with ports that are free now; return the parts in starting order.

    One process, ``meters``, runs the meters of all microgrids and the plant. Each microgrid's meters can also run
    alone, by their own file.
    """
    ports = iter(free_ports(5 + 5 * len(town.microgrids)))

    def address() -> str:
        return f"127.0.0.1:{next(ports)}"

    def client_tls(kind: str) -> dict[str, object]:
        files = {"head_end_ca": "ca.pem", "head_end_revoked": "revoked.pem", "certificate": f"{kind}.pem"}
        return {} if plain_text else dict(files)

    tls = {"certificate": "broker.pem", "clients_ca": "ca.pem", "clients_revoked": "revoked.pem"}
    clock = {"clock": "../clock.json"}
    head_end = address()
    utility = {"database": "sqlite:///utility.db", "head_end": head_end, "gaps_s": 60, "gap_age_s": 900}
    # A visitor who tries two people has no authenticator app at hand, and no days to wait.
    utility |= {"second_factor": "optional", "second_person_wait_days": 0}
    # The controllers take over for each other; in a town of one microgrid there is no other one.
    orders = {name: order for name, order in orders_of(town, data).items() if len(order) > 1}
    brokers = {name: address() for name in town.microgrids}
    beats = {name: address() for name in (*town.microgrids, UTILITY)} if orders else {}
    write_clique_files(town, data, beats)
    utility |= {"cliques": CLIQUE_FILE, "beats": beats[UTILITY]} if orders else {}
    parts = [
        _write(data, "head-end", "broker", address(), {"listen": head_end, **({} if plain_text else tls)}),
        _write(data, "utility", "utility", address(), {**utility, **clock, **client_tls("utility")}),
    ]
    for name in town.microgrids:
        broker, order = brokers[name], orders.get(name, ())
        ours = {"microgrid": name, "broker": broker, **clock}
        gateway = {**ours, "head_end": head_end, "timezone": town.table.timezone, **client_tls("gateway")}
        gateway |= {"clique": CLIQUE_FILE, "beats": beats[name]} if order else {}
        gateway |= {"collects": some} if (some := town.collected_by(name)) else {}
        ranks = {each: town.microgrids[each].number for each in order}
        further = [{"name": n, "address": brokers[n], "rank": ranks[n], "warm": True} for n in order[1:]]
        collectors = [n for n in town.collectors.get(name, ()) if n not in order]
        further += [{"name": n, "address": brokers[n]} for n in collectors]
        takes_over = {"clique": list(order), "broker_rank": ranks[name]} if order else {}
        takes_over |= {} if plain_text or not order else {"authority": "ca.pem"}
        takes_over |= {"clique": [name]} if collectors and not order else {}
        parts += [
            # A meter in a fast demonstration sends as much in a real second as a real meter sends in minutes.
            _write(data, name, "broker", address(), {"listen": broker, "packets_per_s": max(100, speed)}),
            _write(data, name, "gateway", address(), gateway),
            _write(
                data,
                name,
                "meters",
                address(),
                {**ours, "town": "../town.toml", **takes_over},
                hosted=True,
                lists={"brokers": further},
            ),
        ]
    everything = {"microgrids": list(town.microgrids), "town": "../town.toml", **clock}
    if (data / LEVELS).exists():
        everything["levels"] = f"../{LEVELS}"
    plant = {"head_end": head_end, "tokens": "plant-tokens.json", **client_tls("plant")}
    return (*parts, _write(data, PLANT, "meters", address(), {**everything, "plant": plant}, name="meters"))


def write_targets(data: Path, parts: tuple[Part, ...]) -> None:
    """Write the addresses of the parts' metrics for Prometheus (``file_sd_configs``); see grafana/README.md."""
    targets = [
        {"targets": [part.http], "labels": {"part": part.kind, "place": part.config.parent.name}} for part in parts
    ]
    (data / "prometheus-targets.json").write_text(json.dumps(targets, indent=1) + "\n")


def _write(
    data: Path,
    folder: str,
    kind: str,
    http: str,
    keys: dict[str, object],
    *,
    name: str | None = None,
    hosted: bool = False,
    lists: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
) -> Part:
    path = data / folder / f"{kind}.toml"
    first = f"# Written anew by each `commonwatt demo`; see: commonwatt config example {kind}\n"
    path.parent.mkdir(exist_ok=True)
    tables = [toml_table(f"[[{name}]]", each) for name, every in (lists or {}).items() for each in every]
    path.write_text("\n".join([first + toml_table(f"[{kind}]", {**keys, "http": http}), *tables]))
    (data / "logs").mkdir(exist_ok=True)
    name = name or (folder if folder == kind or folder == "head-end" else f"{folder} {kind}")
    log = data / "logs" / f"{name.replace(' ', '-')}.log"
    return Part(name=name, kind=kind, config=path, http=http, log=log, hosted=hosted)
