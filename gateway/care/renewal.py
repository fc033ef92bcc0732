"""Renews the certificates of the controller at the utility, on threads beside the core's work."""

import asyncio
import logging
import os
import signal
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from commonwatt.care.connection import CareConnection, CareRefused, CareUnreachable
from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.certificates import details_of
from commonwatt.identity.renewing import PATH, CertificateFile
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time import Now, Trust
from commonwatt.network.addresses import split_address
from commonwatt.network.tls import ClientTls
from gateway.loop.machine import THREADS

FIRST_LOOK_S = 10.0  # real seconds until the first look: by then connections are made
LOOK_S = 3_600.0  # real seconds between two looks at a certificate
AGAIN_S = 86_400.0  # real seconds after a renewal until the next look: a wrong clock renews once a day at most
TRIAL_S = 600.0  # real seconds within which a connection must be made with a new certificate
TRIAL_LOOK_S = 5.0  # real seconds between two looks whether it was
# Real seconds after a failure, doubled with each one, and the most: if its certificate has ended, it is cut off.
FIRST_RETRY_S, LAST_RETRY_S = 60.0, 900.0

Post: TypeAlias = Callable[[str, dict[str, object]], dict[str, object]]  # posts to the utility, and returns its answer

log = logging.getLogger(__name__)


@dataclass
class Renewal:
    """The renewal of one certificate file."""

    file: CertificateFile
    post: Post
    now: Callable[[], Now]  # the gateway's time
    is_proved: Callable[[], bool]  # whether the present certificate made a connection; it may block
    # Renewals and attempts: ``renewed``, ``refused``, ``unreachable``, ``failed``; ``went_back`` to the old one.
    results: Counter[str] = field(default_factory=Counter)
    _failures: int = 0  # since the last renewal
    _tried_since: float | None = None  # since when the present certificate is on trial, ``time.monotonic``
    _lost: bool = False  # whether the last look found no time and no connection

    async def run(self) -> None:
        """Look, and look again, until cancelled."""
        wait_s = FIRST_LOOK_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = await THREADS.run(self.look, time.monotonic())

    def look(self, at: float) -> float:
        """Do what is to be done; return the real seconds until the next look. It blocks.

        Args:
            at: ``time.monotonic``.
        """
        try:
            self.file.settle()
            if self.file.is_on_trial:
                return self._judge(at)
            if not self._is_due():
                return LOOK_S
            self.file.take(self.post(f"/{PATH}", self.file.request()))
            self._tried_since = at
        except CareRefused as error:
            return self._failed("refused", str(error))
        except CareUnreachable as error:
            return self._failed("unreachable", str(error))
        except (ConfigError, OSError) as error:
            return self._failed("failed", str(error))
        return TRIAL_LOOK_S

    def _is_due(self) -> bool:
        """Return whether to renew; without a time, when there is no connection: the certificate may have ended."""
        now = self.now()
        was_lost, self._lost = self._lost, now.trust < Trust.HARDWARE and not self.is_proved()
        return now >= self.file.due() or (was_lost and self._lost)

    def _judge(self, at: float) -> float:
        """Keep a new certificate that made a connection; go back to the old one if it makes none."""
        self._tried_since = at if self._tried_since is None else self._tried_since
        if self.is_proved():
            self.file.confirm()
            log.info("%s: the certificate was renewed", self.file.path)
            self.results["renewed"] += 1
            self._failures, self._tried_since, self._lost = 0, None, False
            return AGAIN_S
        if at - self._tried_since >= TRIAL_S and self.file.go_back(self.now()):
            self._tried_since = None
            return self._failed("went_back", "no connection was made with the new certificate: the old one is used")
        return TRIAL_LOOK_S

    def _failed(self, result: str, why: str) -> float:
        self.results[result] += 1
        self._failures += 1
        if self._failures == 1 or result != "unreachable":  # The utility may be away for months.
            log.warning("%s: not renewed: %s", self.file.path, why)
        return min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self._failures - 1, 4))


def renewals_of(
    settings: GatewaySettings, now: Callable[[], Now], is_connected: Callable[[], bool]
) -> Iterator[Renewal]:
    """Yield the renewals of a gateway's own certificate and its broker's in the same folder.

    Args:
        is_connected: Whether the head-end accepted the present certificate.
    """
    if settings.care is None or settings.head_end_ca is None or settings.certificate is None:
        return
    name, revoked = settings.controller, settings.head_end_revoked
    post = CareConnection(settings.care, settings.head_end_ca, revoked).post
    own = CertificateFile(settings.certificate, settings.head_end_ca, name, revoked)
    yield Renewal(own, post, now, is_connected)
    if settings.broker_ca is not None and settings.broker_certificate is not None:
        broker = CertificateFile(
            settings.broker_certificate, settings.broker_ca, name, settings.broker_revoked or revoked
        )
        yield Renewal(broker, post, now, lambda: _serves(settings, broker))


def _serves(settings: GatewaySettings, file: CertificateFile) -> bool:
    """Return whether the microgrid's broker shows the certificate in its file, and it is trusted."""
    assert settings.broker_ca is not None
    host, port = split_address(settings.broker)
    context = ClientTls(settings.broker_ca, settings.certificate, settings.broker_revoked).context()
    try:
        with (
            socket.create_connection((host, port), timeout=TRIAL_LOOK_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            shown = secure.getpeercert(binary_form=True) or b""
    except OSError:
        return False
    own, *_ = details_of(file.path.read_bytes())
    if details_of(ssl.DER_cert_to_PEM_cert(shown).encode())[0].serial == own.serial:
        return True
    _reload_mosquitto(file.path.parent)
    return False


def _reload_mosquitto(folder: Path) -> None:
    """Have a Mosquitto that is the broker of this folder read its certificate again; our broker does so by itself."""
    command = ("/usr/sbin/mosquitto", "-c", str(folder.resolve() / "mosquitto" / "mosquitto.conf"))
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # It has ended meanwhile, or is another user's.
            if process.read_bytes() == "".join(f"{word}\0" for word in command).encode():
                os.kill(int(process.parent.name), signal.SIGHUP)
