"""Files for a Mosquitto (2.0) that runs in place of our broker: its settings, passwords and access rules. Pure text.

They come from what our broker runs from: its settings, the devices file, and the one table of grants. What Mosquitto
can't do as ours does stands in docs/security.md.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from broker.admission.pending_connections import MAX_WAITING
from broker.embedded.packets import MAX_MESSAGE_BYTES
from broker.embedded.subscriber_queue import MAX_BYTES, MAX_MESSAGES, MAX_SENDING
from broker.rules import GRANTS, IDENTITY_PATTERNS, Action
from commonwatt.config.settings import BrokerSettings
from commonwatt.identity.devices import Device, Role
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import split_address
from commonwatt.protocol.topics import MICROGRID_PATTERN, ROOT

SETTINGS_FILE, PASSWORDS_FILE, ACCESS_FILE = "mosquitto.conf", "passwords", "access"

_WORDS = {Action.PUBLISH: "write", Action.RECEIVE: "read"}
_HEADER = "# {}\n# Written by `commonwatt broker render mosquitto`; do it again instead of changing it here.\n"
_SETTINGS = """
# What happened, for the system's log. There is no /metrics and no /status: Mosquitto has neither.
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
log_timestamp_format %Y-%m-%dT%H:%M:%S
connection_messages true

# No client without a name and a credential, and none beyond the access rules.
per_listener_settings false
allow_anonymous false
allow_zero_length_clientid false
acl_file {access}
{passwords}
# No persistence: meters and gateways keep unacknowledged messages and send them again.
persistence false
persistent_client_expiration 1h
retain_available false
sys_interval 0

# Bounds: bytes of a packet; messages on their way to one client, waiting for it, and bytes of these.
max_packet_size {packet_bytes}
max_inflight_messages {sending}
max_queued_messages {messages}
max_queued_bytes {bytes}
set_tcp_nodelay true

listener {port} {host}
# Every registered device, and {waiting} that are not identified yet; a restart takes over another number.
max_connections {connections}
max_qos 1
# A client id is worth nothing without its proof: a client with another's id takes over nothing.
use_username_as_clientid true
"""
_TLS = """
# TLS 1.2 or later, and nothing else.
certfile {certificate}
keyfile {certificate}
tls_version tlsv1.2
"""
_CLIENTS = """
# Devices prove themselves by certificates of this authority that were not revoked; its name is their identity.
cafile {ca}
crlfile {revoked}
require_certificate true
use_identity_as_username true
"""


def rendered(settings: BrokerSettings, devices: Mapping[str, Device], folder: Path) -> dict[str, str]:
    """Return the files by name, to be written into ``folder`` (absolute).

    Raises:
        ConfigError: A device can't stand in them.
    """
    admitted = [device for device in devices.values() if not device.revoked]
    for device in admitted:
        _check(settings.devices, device)
    files = {SETTINGS_FILE: _settings(settings, len(devices), folder), ACCESS_FILE: _access(admitted)}
    if settings.clients_ca is None:
        files[PASSWORDS_FILE] = _passwords(settings.devices, admitted)
    return files


def _settings(settings: BrokerSettings, devices: int, folder: Path) -> str:
    host, port = split_address(settings.listen)
    passwords = f"password_file {folder / PASSWORDS_FILE}\n" if settings.clients_ca is None else ""
    text = _HEADER.format("Settings of a Mosquitto in place of `commonwatt broker run`.") + _SETTINGS.format(
        access=folder / ACCESS_FILE,
        passwords=passwords,
        packet_bytes=MAX_MESSAGE_BYTES,
        sending=MAX_SENDING,
        messages=MAX_MESSAGES,
        bytes=MAX_BYTES,
        port=port,
        host=host,
        waiting=MAX_WAITING,
        connections=devices + MAX_WAITING,
    )
    if settings.certificate is not None:
        text += _TLS.format(certificate=settings.certificate)
    if settings.clients_ca is not None:
        text += _CLIENTS.format(ca=settings.clients_ca, revoked=settings.clients_revoked)
    return text


def _passwords(path: Path, devices: Iterable[Device]) -> str:
    """Return a line for each device; neither salt nor hash lets anybody find a token."""
    if without := [device.identity for device in devices if not device.mosquitto]:
        raise ConfigError(
            f"{path}: {without[0]} has no digest for Mosquitto, nor have {len(without) - 1} others; an older version "
            "registered them: do `commonwatt utility register` again, which keeps every token, and copy the file here"
        )
    return "".join(f"{device.identity}:{device.mosquitto}\n" for device in devices)


def _access(devices: Iterable[Device]) -> str:
    lines = [_HEADER.format("Which device may publish (write) and receive (read) what; everything else is refused.")]
    for device in devices:
        lines.append(f"\nuser {device.identity}\n")
        lines += [f"topic {_WORDS[action]} {topic}\n" for action in _WORDS for topic in _topics(device, action)]
    return "".join(lines)


def _topics(device: Device, action: Action) -> list[str]:
    """Return what ``device`` is granted, ``+`` standing for any meter or microgrid."""
    own = {"microgrid": device.microgrid, "identity": device.identity, "a_meter": "+", "a_microgrid": "+"}
    grants = GRANTS[device.role, action]
    return [f"{ROOT}/{grant.path.format(**own)}/{leaf}" for grant in grants for leaf in grant.leaves]


def _check(path: Path, device: Device) -> None:
    """Refuse what would be read as another user or a wildcard, or as a line of its own."""
    wanted = "" if device.role is Role.UTILITY else MICROGRID_PATTERN
    identity = re.fullmatch(IDENTITY_PATTERNS[device.role], device.identity)
    if not identity or not re.fullmatch(wanted, device.microgrid):
        raise ConfigError(
            f"{path}: {device.identity!r} of microgrid {device.microgrid!r} can't be a {device.role}'s; make the file "
            "anew with: commonwatt utility register"
        )
