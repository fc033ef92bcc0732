"""The broker of the devices, if a street has no other one: a Mosquitto in its folder, and the logins at it."""

import json
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from commonwatt.identity.devices import mosquitto_digest
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.files import write_private
from commonwatt.runtime.postgres import found
from commonwatt.runtime.supervisor import claim_port

DEVICES = "devices"  # the broker's folder in the street's folder
CONF_FILE = "mosquitto.conf"
PASSWORDS_FILE = "passwords"
_LOGINS_FILE = "logins.json"  # the port, and the passwords by user
_ADAPTER = "commonwatt"  # the adapter's user; the devices' user has the folder's name
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # that people do not mistake for each other
_PORTS = 100  # ports that are tried

# Memory is bounded: a Raspberry Pi runs the whole street. Messages for an adapter that is away are kept for a week.
_CONF = """\
# The broker of the street's devices; written by `commonwatt street`.
log_dest stderr
log_type error
log_type warning
log_type notice
per_listener_settings false
allow_anonymous false
password_file {folder}/passwords
persistence true
persistence_location {folder}/
autosave_interval 300
persistent_client_expiration 7d
max_packet_size 262144
max_inflight_messages 100
max_queued_messages 10000
max_queued_bytes 4194304
memory_limit 33554432
listener {port} {host}
max_connections 500
{user}"""


def own_broker(folder: Path, *, lan: bool, port: int = 1883) -> tuple[str, int, str, str]:
    """Make the files of a Mosquitto for the devices of a street, or leave them; the street's supervisor runs it.

    Args:
        folder: The street's folder.
        lan: Whether devices of the home network reach it; otherwise those of this machine alone.
        port: Its port if that is free, otherwise the next free one; once chosen it stays.

    Returns:
        The host, the port, the user and the password for people to type into devices.

    Raises:
        ConfigError: Mosquitto is not installed, or no port is free.
    """
    if found("mosquitto") is None:
        raise ConfigError("Mosquitto, the broker for devices, is not installed", "sudo apt install mosquitto")
    own = folder.resolve() / DEVICES
    own.mkdir(mode=0o700, exist_ok=True)
    host = "0.0.0.0" if lan else "127.0.0.1"  # noqa: S104 - the home network, if it was asked for
    logins = _logins(folder)
    if not logins:
        words = ("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(4))
        logins = {"port": next_free(port, host), DEVICES: "-".join(words), _ADAPTER: secrets.token_urlsafe(32)}
        write_private(own / _LOGINS_FILE, json.dumps(logins))
    users = (DEVICES, _ADAPTER)
    passwords = "".join(f"{user}:{mosquitto_digest(str(logins[user]).encode())}\n" for user in users)
    # Otherwise it would change to a user who can't read these files.
    user = "user root\n" if os.geteuid() == 0 else ""
    for name, text in (
        (PASSWORDS_FILE, passwords),
        (CONF_FILE, _CONF.format(folder=own, port=logins["port"], host=host, user=user)),
    ):
        if not (own / name).exists() or (own / name).read_text() != text:
            write_private(own / name, text)
    return (address_in_network() if lan else host, int(str(logins["port"])), DEVICES, str(logins[DEVICES]))


def adapter_login(folder: Path) -> tuple[str, str]:
    """Return the user and the password of the adapter at the broker that ``own_broker`` made."""
    return _ADAPTER, str(_logins(folder)[_ADAPTER])


def shown_login(folder: Path) -> tuple[str, int, str, str] | None:
    """Return what people type into devices, as ``own_broker`` did; ``None``: there is no such broker."""
    logins = _logins(folder)
    if not logins:
        return None
    lan = "0.0.0.0" in (folder / DEVICES / CONF_FILE).read_text()  # noqa: S104 - what is written there
    return address_in_network() if lan else "127.0.0.1", int(str(logins["port"])), DEVICES, str(logins[DEVICES])


def _logins(folder: Path) -> dict[str, object]:
    path = folder / DEVICES / _LOGINS_FILE
    return dict(json.loads(path.read_text())) if path.exists() else {}


def next_free(port: int, host: str) -> int:
    """Claim and return the first port from ``port`` on that is free at ``host``.

    Raises:
        ConfigError: None of the next hundred is.
    """
    for each in range(port, port + _PORTS):
        with suppress(OSError), socket.create_server((host, each)):
            claim_port(each)
            return each
    raise ConfigError(f"no port from {port} to {port + _PORTS - 1} is free on this machine")


def address_in_network() -> str:
    """Return this machine's address in the home network; without a network, its own."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))  # An address for documentation: nothing is sent, the route is looked up.
        return str(sock.getsockname()[0])
    return "127.0.0.1"
