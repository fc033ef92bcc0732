"""Free loopback ports for the parts of the demonstration."""

import secrets
import socket
from contextlib import ExitStack
from pathlib import Path

from commonwatt.model.exceptions import ConfigError

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
