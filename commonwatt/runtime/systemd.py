"""What systemd is told of a service (sd_notify(3))."""

import logging
import os
import socket

log = logging.getLogger(__name__)


class Notifier:
    """systemd's notification socket for this process; without systemd, no socket."""

    def __init__(self, environment: dict[str, str]) -> None:
        # Most seconds between two notifications (``WatchdogSec``); ``None``: no watchdog.
        self.watchdog_s = _watchdog_s(environment)
        address = environment.get("NOTIFY_SOCKET", "")
        # An abstract socket is written with an @ where its name begins with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def tell(self, *lines: str) -> None:
        """Send ``NAME=value`` lines; a failure is logged only."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(1.0)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("systemd did not receive %s: %s", " ".join(lines), error)


def notifier() -> Notifier:
    """Return the notifier from the environment, and remove its variables for child processes."""
    environment = dict(os.environ)
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(name, None)
    return Notifier(environment)


def _watchdog_s(environment: dict[str, str]) -> float | None:
    """Return the watchdog's time-out in seconds; ``None`` if it is for another process."""
    pid, micros = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if not micros.isdecimal() or int(micros) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(micros) / 1e6
