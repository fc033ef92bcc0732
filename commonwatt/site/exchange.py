"""Exchange of a controller: what the office notes from its beginning to its end, and the old controller's commands.

The new controller gets certificates of its own. Those of the old one stay valid until the exchange is finished, so that
it works until it is released; then they are revoked.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from commonwatt.config.files import check_model
from commonwatt.config.settings import Settings
from commonwatt.identity.authority import BROKER_FILE, CA_FILE, FOLDER, Authority, Issued
from commonwatt.identity.certificates import Kind, details_of
from commonwatt.model.exceptions import ConfigError, text_of
from commonwatt.model.units import EpochSeconds
from commonwatt.network.tls import ClientTls
from commonwatt.runtime.files import read_object, write_private
from commonwatt.runtime.service import only_one
from commonwatt.site.file import FILE, load_site
from commonwatt.site.machine import PROGRAM, USER, Machine
from commonwatt.site.places import ADAPTER_FILE, broker_of, certificates, folders_of, services_of

_ANSWER_S = 10.0


class Exchange(Settings):
    """A controller's exchange that was begun."""

    begun: EpochSeconds  # when, epoch seconds
    replaced: tuple[str, ...]  # the serial numbers of the old controller's certificates, hexadecimal


def handover_name(place: str) -> str:
    """Return the name of a microgrid's handover file."""
    return f"{place}.handover"


def begin(site: Path, place: str, now: EpochSeconds) -> Exchange:
    """Issue certificates for a microgrid's new controller; if its exchange was begun before, issue nothing.

    Raises:
        ConfigError: There is no such microgrid, or no authority.
    """
    file, town = load_site(site / FILE)
    if place not in town.microgrids:
        raise ConfigError(f"{site / FILE}: has no microgrid {place}; there are {', '.join(list(town.microgrids)[:10])}")
    with only_one(site / FOLDER, "another enrolment"):
        if _path(site, place).exists():
            return _read(site, place)
        authority = Authority.load(site)
        wanted = [one for one in certificates(file, town) if one.file.startswith(f"{folders_of(place)[0]}/")]
        files = {one.file for one in wanted}
        replaced = tuple(
            f"{e.serial:x}"
            for e in authority.issued
            if (e.file in files or (e.kind, e.name) == (Kind.ENROLMENT, place)) and e.revoked is None
        )
        authority.issue(wanted, now)
        exchange = Exchange(begun=now, replaced=replaced)
        write_private(_path(site, place), exchange.model_dump_json(indent=1))
        return exchange


def check_connected(site: Path, place: str) -> None:
    """Check that the broker at the controller's address has the new controller's certificate.

    Raises:
        ConfigError: No exchange was begun, nothing answers there, or the old controller does.
    """
    _read(site, place)
    file, town = load_site(site / FILE)
    host, port = broker_of(file, town, place)
    own = f"{folders_of(place)[0]}/{BROKER_FILE}"
    wanted = {entry.serial for entry in Authority.load(site).current() if entry.file == own}
    hint = "if `commonwatt status` on the new controller shows it connected, repeat this command with --yes"
    try:
        context = ClientTls(site / FOLDER / CA_FILE).context()
        with (
            socket.create_connection((host, port), timeout=_ANSWER_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            shown = secure.getpeercert(binary_form=True) or b""
    except OSError as error:
        raise ConfigError(
            f"{place}: no controller answers at {host}, port {port} ({text_of(error)}); {hint}"
        ) from error
    if details_of(ssl.DER_cert_to_PEM_cert(shown).encode())[0].serial not in wanted:
        raise ConfigError(
            f"{place}: at {host}, port {port}, answers another certificate than the new controller's: unpack the "
            f"bundle of `swap controller begin` there, and switch the old one off; {hint}"
        )


def finish(site: Path, place: str, now: EpochSeconds) -> list[Issued]:
    """Revoke the old controller's certificates; return them.

    Raises:
        ConfigError: No exchange was begun.
    """
    with only_one(site / FOLDER, "another enrolment"):
        exchange, authority = _read(site, place), Authority.load(site)
        serials = {int(serial, 16) for serial in exchange.replaced}
        revoked = authority.revoke_these(serials, f"the controller of {place} was exchanged", now)
        _path(site, place).unlink()
        return revoked


def _path(site: Path, place: str) -> Path:
    return site / FOLDER / f"{place}.exchange.json"


def _read(site: Path, place: str) -> Exchange:
    path = _path(site, place)
    if not path.exists():
        raise ConfigError(f"{site}: no exchange of {place} was begun; first: commonwatt swap controller begin {place}")
    return check_model(path, Exchange, read_object(path, "an exchange", "delete it"))


def release_commands(machine: Machine, place: str, *, mosquitto: bool) -> Iterator[list[str]]:
    """Yield the commands that stop an old controller for good, and bring its handover to this folder.

    If its files are not on this machine, such as those on its card, its services do not run here.
    """
    folder, name = machine.state / place, handover_name(place)
    adapter = folder / ADAPTER_FILE  # by the site file, or of a person
    release = ["gateway", "release", "--config", str(folder / "gateway.toml")]
    release += [*(["--adapter", str(adapter)] if adapter.exists() else []), "--out"]
    if not machine.is_own:
        yield ["commonwatt", *release, name]
        return
    # The broker last: the gateway acknowledges nothing more, and the meters keep their records.
    units = services_of(place, mosquitto=mosquitto, adapter=adapter.exists())
    yield ["systemctl", "disable", "--now", *reversed(units)]
    yield ["runuser", "-u", USER, "--", PROGRAM, *release, str(folder / name)]
    owner = os.environ.get("SUDO_UID", str(os.geteuid()))
    yield ["install", f"--owner={owner}", "--mode=600", str(folder / name), name]
    yield ["rm", str(folder / name)]
