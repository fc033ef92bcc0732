"""A street's folder: the office's site folder, out of which the parts of its one microgrid and the utility run.

``site.toml`` is first written here; all else is made from it. ``parts.json`` lists the parts for the supervisor,
``applied.json`` says which site file was taken last, or why it was not.
"""

import hashlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from commonwatt.config.files import read_toml, toml_text
from commonwatt.config.settings import command_of
from commonwatt.identity.authority import Authority
from commonwatt.identity.devices import FIRST_LOGIN
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import moment
from commonwatt.model.units import MADE, EpochSeconds, MicrogridId
from commonwatt.network.addresses import is_loopback, split_address
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.clock import machine_s
from commonwatt.runtime.files import replace_file, write_private
from commonwatt.runtime.postgres import found
from commonwatt.runtime.supervisor import claim_port, free_ports
from commonwatt.site.bundle import BUNDLES, pack, read_bundle, write_bundle
from commonwatt.site.devices_broker import (
    CONF_FILE,
    DEVICES,
    PASSWORDS_FILE,
    address_in_network,
    next_free,
    own_broker,
)
from commonwatt.site.draft import HEAD
from commonwatt.site.office import make_site
from commonwatt.site.places import ADAPTER_TOKENS, FILE, HEAD_END, MADE_THERE, TOWN_FILE, address_of, load_site

STREET = MicrogridId("street")  # the microgrid
PARTS_FILE = "parts.json"
APPLIED_FILE = "applied.json"

HTTP_PORT = 8080  # the pages' port, or the next free one
_FREED_WITHIN_S = 10.0  # real seconds within which the parts of a killed street end, and leave their ports
_ALL, _LOOPBACK = "0.0.0.0", "127.0.0.1"  # noqa: S104 - the home network, if it was asked for
# The parts in the order in which they are started: the slowest one first.
_RUN = ((UTILITY, UTILITY), (HEAD_END, "broker"), (STREET, "broker"), (STREET, "gateway"), (STREET, "adapter"))
_SERVED = ("http", "http_plain_text", "http_hosts")


def prepare(folder: Path, *, lan: bool, say: Callable[[str], object]) -> None:
    """Make a street's folder ready for its supervisor.

    Args:
        folder: The folder; made when missing.
        lan: Whether to serve the pages, and a broker of our own, to the home network.
        say: Takes lines for the person.

    Raises:
        ConfigError: The street can't start here; says why, and what to do.
    """
    now = machine_s()
    if now < MADE:
        raise ConfigError(
            f"this machine's clock says {moment(now)}, which is before this program was made; set it (see: "
            "timedatectl), or wait until it has the network's time, and start again"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if (folder / FILE).exists():
            _serve(folder / FILE, lan=lan)
        else:
            port = next_free(HTTP_PORT, _ALL if lan else _LOOPBACK)
            if port != HTTP_PORT:
                say(f"port {HTTP_PORT} is in use by another program: the pages are at port {port}, and stay there")
            write_private(folder / FILE, first_site(port, lan=lan))
        if (folder / DEVICES / CONF_FILE).exists():
            own_broker(folder, lan=lan)
        fault = apply(folder)
    except OSError as error:
        raise ConfigError(
            f"{folder}: the street's folder can't be written: {error.strerror}; make room or give another, --site PATH"
        ) from error
    if fault and not (folder / PARTS_FILE).exists():
        raise ConfigError(fault)
    if fault:
        say(f"{fault}\nThe street runs on with what it had before.")
    _await_port(folder)


def apply(folder: Path) -> str:
    """Make every file and the list of parts from the site file; return why it is refused, empty: it was taken.

    A site file that is refused changes no settings of the parts.
    """
    content = (folder / FILE).read_bytes()
    patterns = (TOWN_FILE, "*/*.toml", f"*/{ADAPTER_TOKENS}")
    before = {path: path.read_bytes() for pattern in patterns for path in folder.glob(pattern)}
    fault = ""
    try:
        _check(folder / FILE)
        make_site(folder, now := machine_s(), fill=True)
        _pack(folder, now)
        (folder / "logs").mkdir(exist_ok=True)
        write_private(folder / PARTS_FILE, json.dumps(list(_parts(folder.resolve())), indent=1))
    except (ConfigError, OSError) as error:
        for path, earlier in before.items():
            if path.read_bytes() != earlier:
                replace_file(path, earlier)
        if isinstance(error, OSError):
            raise
        fault = str(error)
    applied = {"sha256": hashlib.sha256(content).hexdigest(), "fault": fault}
    write_private(folder / APPLIED_FILE, json.dumps(applied))
    return fault


def _pack(folder: Path, now: EpochSeconds) -> None:
    """Pack the bundle of each controller elsewhere that is cared for, if its content changed: the utility tells it."""
    site, town = load_site(folder / FILE)
    places = set() if site.site.care is None else town.microgrids.keys() - {STREET}
    kept = folder / UTILITY / BUNDLES
    kept.mkdir(mode=0o700, exist_ok=True)
    for path in kept.iterdir():
        if path.stem not in places:
            path.unlink()
    for place in places:
        path, bundle = kept / f"{place}.bundle", pack(folder, place, now, MADE_THERE)
        with suppress(ConfigError):  # It was not packed yet, or by another version.
            if read_bundle(path).manifest.says_as(bundle.manifest):
                continue
        write_bundle(bundle, path, Authority.load(folder))


def pages_of(folder: Path) -> str:
    """Return the address of the pages as a person types it, without the path."""
    keys = _utility(folder)
    host, _, port = keys["http"].rpartition(":")
    scheme = "https" if "http_certificate" in keys else "http"
    return f"{scheme}://{address_in_network() if host == _ALL else host}:{port}/"


def link_of(folder: Path) -> str:
    """Return the link of the first administrator; once there is one, the address of the pages."""
    first = folder / UTILITY / FIRST_LOGIN
    path = first.read_text().strip().split("/", 3)[3] if first.exists() else ""
    return pages_of(folder) + path


def _utility(folder: Path) -> dict[str, Any]:
    return dict(read_toml(folder / UTILITY / f"{UTILITY}.toml")[UTILITY])


def first_site(port: int, *, lan: bool) -> str:
    """Return the site file of a new street, whose pages are at a port."""
    head_end, broker, broker_http, gateway, adapter = (f"{_LOOPBACK}:{each}" for each in _claimed_ports(5))
    microgrid = {
        "id": STREET,
        "kind": "residential",
        "houses": 0,
        "boundary": False,
        "address": _LOOPBACK,
        "broker": {"listen": broker, "http": broker_http},
        "gateway": {"http": gateway},
        "adapter": {"http": adapter, "source": []},
    }
    tables = {
        "site": {"utility": _LOOPBACK, "mosquitto": False},
        "head_end": {"listen": head_end},
        "utility": {
            **_served(port, lan=lan),
            "database": "sqlite:///utility.db",
            "site": "..",
            "second_factor": "optional",
        },
        "town": {"name": "My street", "timezone": _zone()},
        "microgrid": [microgrid],
    }
    return HEAD + toml_text(tables)


def _claimed_ports(count: int) -> list[int]:
    while True:
        ports = free_ports(count)
        with suppress(OSError):  # Another street has chosen one of them, and does not listen there yet.
            for port in ports:
                claim_port(port)
            return ports


def _served(port: int, *, lan: bool) -> dict[str, object]:
    """Return the keys of the utility that say to whom it serves the pages."""
    if not lan:
        return {"http": f"{_LOOPBACK}:{port}"}
    name = socket.gethostname().lower().partition(".")[0]
    hosts = [name, f"{name}.local"] if re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) else []
    return {"http": f"{_ALL}:{port}", "http_plain_text": True, "http_hosts": hosts}


def _serve(path: Path, *, lan: bool) -> None:
    """Have a site file's utility serve the pages to the home network, or to this machine alone, at the same port."""
    tables = read_toml(path)
    keys = tables.get(UTILITY, {})
    http = str(keys.get("http", "")) if isinstance(keys, dict) else ""
    if re.fullmatch(r".+:\d+", http) and "http_certificate" not in keys and is_loopback(http) == lan:
        others = {key: value for key, value in keys.items() if key not in _SERVED}
        tables[UTILITY] = _served(split_address(http)[1], lan=lan) | others
        write_private(path, HEAD + toml_text(tables))


def _zone() -> str:
    """Return the name of this machine's time zone."""
    with suppress(KeyError, ValueError, OSError):
        name = os.environ.get("TZ") or str(Path("/etc/localtime").readlink()).partition("zoneinfo/")[2]
        return str(ZoneInfo(name).key)
    return "UTC"


def _check(path: Path) -> None:
    """Refuse a site file whose parts are not a street's, on this machine."""
    file, town = load_site(path)
    of = next((table for table in file.microgrid if table.id == STREET and table.count is None), None)
    another = "give the street a folder of its own: --site PATH"
    if of is None or of.adapter is None:
        raise ConfigError(f"{path}: is no street's, it has no microgrid `{STREET}` with an adapter; {another}")
    for host in (file.site.utility, file.site.second, address_of(file, town, STREET)):
        if host is not None and not _is_here(host):
            raise ConfigError(f"{path}: {host} is no address of this machine, so its parts run elsewhere; {another}")


def _is_here(host: str) -> bool:
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, number) as sock:
            sock.bind(address)
    except OSError:
        return False
    return True


def _parts(folder: Path) -> Iterator[dict[str, object]]:
    """Yield the parts: name, kind, files, address, command, and a digest of what they only read at their start."""
    for place, kind in _RUN:
        config = folder / place / f"{kind}.toml"
        read = [config, config.with_name(f"{kind}-tokens.json")]
        read += sorted(config.parent.glob("*.password")) if kind == "adapter" else []
        command = [sys.executable, "-m", *command_of(kind).split(), "--config", str(config)]
        name = kind if place == kind else f"{place} {kind}"
        yield _part(folder, name, kind, config, command, read, read_toml(config)[kind].get("http"))
    conf = folder / DEVICES / CONF_FILE
    if conf.exists() and (mosquitto := found("mosquitto")) is not None:
        read = [conf, conf.with_name(PASSWORDS_FILE)]
        yield _part(folder, f"{DEVICES} broker", "broker", conf, [str(mosquitto), "-c", str(conf)], read, None)


def _part(
    folder: Path, name: str, kind: str, config: Path, command: list[str], read: list[Path], http: str | None
) -> dict[str, object]:
    content = b"".join(path.read_bytes() for path in read if path.exists())
    log = folder / "logs" / f"{name.replace(' ', '-')}.log"
    return {
        "part": {"name": name, "kind": kind, "config": str(config), "http": http, "log": str(log), "command": command},
        "digest": hashlib.sha256(content).hexdigest(),
    }


def _await_port(folder: Path) -> None:
    """Wait until the parts of a killed street have left the pages' port."""
    host, port = split_address(_utility(folder)["http"])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    end = time.monotonic() + _FREED_WITHIN_S
    while True:
        try:
            socket.create_server((host, port), family=family).close()
            claim_port(port)
        except OSError as error:
            if time.monotonic() > end:
                raise ConfigError(
                    f"{host}:{port}, where the pages were, can't be used: {os.strerror(error.errno or 0)}; stop "
                    f"the program that uses it, or change http of [{UTILITY}] in {folder / FILE}"
                ) from error
            threading.Event().wait(0.1)
        else:
            return


if __name__ == "__main__":
    os.umask(0o077)
    apply(Path(sys.argv[1]))
