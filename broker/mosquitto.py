"""Files for a Mosquitto (2.0) that runs in place of our broker: its settings, passwords and access rules. Pure text.

They are made from our broker's own sources: its settings, the devices file, and the table of grants.
docs/security.md lists what Mosquitto does differently.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from broker.access_rules import GRANTS, IDENTITY_PATTERNS, TopicAction
from broker.amqtt_broker import MAX_BYTES, MAX_MESSAGES, MAX_SENDING
from broker.listener import MAX_WAITING
from broker.packets import MAX_MESSAGE_BYTES
from commonwatt.config.settings import BrokerSettings
from commonwatt.identity.devices import Device, DeviceRole, load_devices
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import split_address
from commonwatt.protocol.topics import MICROGRID_PATTERN, ROOT

SETTINGS_FILE, PASSWORDS_FILE, ACCESS_FILE = "mosquitto.conf", "passwords", "access"

_WORDS = {TopicAction.PUBLISH: "write", TopicAction.RECEIVE: "read"}
_HEADER = "# {}\n# Written by `commonwatt broker render mosquitto`; run it again instead of editing this file.\n"
_SETTINGS = """
# Messages for the system's log. Mosquitto has no /metrics and no /status.
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
log_timestamp_format %Y-%m-%dT%H:%M:%S
connection_messages true

# Every client needs a name and a credential, and may do only what the access rules grant.
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

# Limits: bytes of a packet; messages in flight to one client; messages queued for it, and their bytes.
max_packet_size {packet_bytes}
max_inflight_messages {sending}
max_queued_messages {messages}
max_queued_bytes {bytes}
set_tcp_nodelay true

listener {port} {host}
# All registered devices, and {waiting} connections not admitted yet; a changed number needs a restart.
max_connections {connections}
max_qos 1
# The authenticated user name is the client id: a client can't take over another's session by its id.
use_username_as_clientid true
"""
_TLS = """
# TLS 1.2 or later, and nothing else.
certfile {certificate}
keyfile {certificate}
tls_version tlsv1.2
"""
_CLIENTS = """
# Devices authenticate by certificates of this authority that are not revoked; the name in one is the identity.
cafile {ca}
crlfile {revoked}
require_certificate true
use_identity_as_username true
"""


def rendered(settings: BrokerSettings, devices: Mapping[str, Device], folder: Path) -> dict[str, str]:
    """Return the files by name, to be written into ``folder`` (absolute)."""
    admitted = [device for device in devices.values() if not device.revoked]
    for device in admitted:
        _check(settings.devices, device)
    files = {SETTINGS_FILE: _settings(settings, len(devices), folder), ACCESS_FILE: _access(admitted)}
    if settings.clients_ca is None:
        files[PASSWORDS_FILE] = _passwords(settings.devices, admitted)
    return files


def merged(paths: Iterable[Path]) -> dict[str, Device]:
    """Return the devices of the devices files of one broker.

    Raises:
        ConfigError: A file can't be read, or two have one device: its microgrid's controllers take over for each other.
    """
    found: dict[str, Device] = {}
    of: dict[str, Path] = {}
    for path in paths:
        devices = load_devices(path)
        if twice := devices.keys() & found.keys():
            raise ConfigError(
                f"{path}: {min(twice)} is in {of[min(twice)]} too, and can be at one broker only once: controllers "
                "that take over for each other need different brokers"
            )
        found |= devices
        of |= dict.fromkeys(devices, path)
    return found


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
    """Return a line for each device; a token can't be found from its salt and hash."""
    if without := [device.identity for device in devices if not device.mosquitto]:
        raise ConfigError(
            f"{path}: {len(without)} devices have no digest for Mosquitto, the first is {without[0]}; an older "
            "version registered them: run `commonwatt utility register` again, which keeps every token, and copy the "
            "file here"
        )
    return "".join(f"{device.identity}:{device.mosquitto}\n" for device in devices)


def _access(devices: Iterable[Device]) -> str:
    lines = [_HEADER.format("Topics that each device may publish (write) and receive (read); all others are refused.")]
    for device in devices:
        lines.append(f"\nuser {device.identity}\n")
        lines += [f"topic {_WORDS[action]} {topic}\n" for action in _WORDS for topic in _topics(device, action)]
    return "".join(lines)


def _topics(device: Device, action: TopicAction) -> list[str]:
    """Return the topics granted to ``device``, with ``+`` for any meter or microgrid."""
    own = {"identity": device.identity, "a_meter": "+", "a_microgrid": "+"}
    grants, microgrids = GRANTS[device.role, action], (device.microgrid, *device.serves)
    leaves = {grant.path.format(**own, microgrid=name): grant.leaves for grant in grants for name in microgrids}
    return [f"{ROOT}/{path}/{leaf}" for path in leaves for leaf in leaves[path]]


def _check(path: Path, device: Device) -> None:
    """Refuse a device that Mosquitto would read as another user, a wildcard or a separate line."""
    wanted = "" if device.role is DeviceRole.UTILITY else MICROGRID_PATTERN
    identity = re.fullmatch(IDENTITY_PATTERNS[device.role], device.identity)
    if not identity or not all(re.fullmatch(wanted, name) for name in (device.microgrid, *device.serves)):
        raise ConfigError(
            f"{path}: {device.identity!r} of microgrid {device.microgrid!r} can't be a {device.role}'s; make the file "
            "anew with: commonwatt utility register"
        )
