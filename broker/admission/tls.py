"""The broker's TLS: handshakes, and the certificates that devices show, judged whenever it matters and not just once.

The handshake proves that a certificate is the authority's and that its key is at hand. Whether it has expired or was
revoked is judged here, at each CONNECT and every few seconds after it, so that the log and the counter can say whose it
was and why, and a running connection ends when its certificate does.
"""

import asyncio
import logging
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from broker.admission.connect import AdmissionError, Refusal
from broker.metrics import BrokerMetrics
from commonwatt.identity.certificates import revoked_serials
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.tls import IGNORE_TIMES, Expiry, Stamp, server_context, stamp, trust
from commonwatt.runtime.clock import wall_clock

# asyncio sets a quarter of a MiB aside for each connection, which a town's worth of meters would fill a machine with.
SSLProtocol.max_size = 1 << 14

WRITE_BUFFER_BYTES = 1 << 16
"""Bytes to one client that may wait before the writer does; asyncio lets eight times as many wait for TLS."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """What TLS needs.

    Attributes:
        certificate: The broker's, with its key.
        clients_ca: The authority whose certificates devices must show; ``None``: they need none.
        clients_revoked: Its list of revoked certificates.
    """

    certificate: Path
    clients_ca: Path | None = None
    clients_revoked: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """Those that there are."""
        return tuple(path for path in (self.certificate, self.clients_ca, self.clients_revoked) if path is not None)


class BrokerTls:
    """TLS of one broker, from files that are read again when they changed."""

    def __init__(self, files: Files, metrics: BrokerMetrics) -> None:
        self._files = files
        self._metrics = metrics
        self._expiry = Expiry(files.certificate)
        self._context: ssl.SSLContext
        self._revoked: frozenset[int] = frozenset()
        self._stamp: Stamp = ()
        self._complaint = ""

    def load(self) -> None:
        """Read the files for the first time.

        Raises:
            ConfigError: One can't be used.
        """
        self._read(stamp(*self._files.all))
        self._look()

    def refresh(self) -> None:
        """Read the files again if one changed; what can't be read leaves what was known before."""
        try:
            seen = stamp(*self._files.all)
            if seen != self._stamp:
                self._read(seen)
                log.info("certificates and revocations read again: %d revoked", len(self._revoked))
        except (ConfigError, OSError) as error:
            self._metrics.tls_file_errors.inc()
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.error("keeping the certificates and revocations known before: %s", error)
        self._look()

    async def shake_hands(
        self, protocol: asyncio.Protocol, accepted: socket.socket, timeout_s: float
    ) -> asyncio.Transport:
        """Make a connection that was accepted one of TLS, for ``protocol``.

        Raises:
            AdmissionError: It did not come to that within ``timeout_s`` real seconds.
        """
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, accepted, ssl=self._context, ssl_handshake_timeout=timeout_s
            )
        except OSError as error:
            raise _refusal(error, timeout_s) from error
        transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        return transport

    def proved(self, writer: asyncio.StreamWriter) -> str | None:
        """Return the identity in the certificate of a connection; ``None`` where devices need none.

        Raises:
            AdmissionError: The certificate proves nothing, now.
        """
        if self._files.clients_ca is None:
            return None
        shown = writer.get_extra_info("peercert")
        if not shown:
            raise AdmissionError(Refusal.CERTIFICATE, "no certificate")
        context = writer.get_extra_info("ssl_object").context
        if context is not self._context and not _authorities(context) <= _authorities(self._context):
            raise AdmissionError(Refusal.REVOKED, "the authority of its certificate is trusted no more")
        names = [value for part in shown["subject"] for key, value in part if key == "commonName"]
        if len(names) != 1:
            raise AdmissionError(Refusal.CERTIFICATE, "a certificate without one name")
        serial, now = int(shown["serialNumber"], 16), wall_clock().now()
        begins, ends = (ssl.cert_time_to_seconds(shown[key]) for key in ("notBefore", "notAfter"))
        if serial in self._revoked:
            raise AdmissionError(Refusal.REVOKED, f"the certificate of {names[0]!r}, number {serial:x}, was revoked")
        if not begins <= now < ends:
            span = f"from {_moment(begins)} to {_moment(ends)}"
            raise AdmissionError(Refusal.EXPIRED, f"the certificate of {names[0]!r} is valid {span}")
        return str(names[0])

    def _read(self, seen: Stamp) -> None:
        context = server_context(self._files.certificate)
        revoked: frozenset[int] = frozenset()
        if self._files.clients_ca is not None and self._files.clients_revoked is not None:
            trust(context, self._files.clients_ca)
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= IGNORE_TIMES  # They are judged by ``proved``.
            try:
                revoked = revoked_serials(self._files.clients_revoked.read_bytes(), self._files.clients_ca.read_bytes())
            except ConfigError as error:
                raise ConfigError(f"{self._files.clients_revoked}: {error}") from error
        # Stamped before reading, and kept only when all could be read.
        self._context, self._revoked, self._stamp, self._complaint = context, revoked, seen, ""

    def _look(self) -> None:
        expires = self._expiry.look()
        if expires is not None:
            self._metrics.certificate_expires.labels("mqtt").set(expires)


def _authorities(context: ssl.SSLContext) -> set[bytes]:
    """Return the certificates that a context trusts; a connection keeps the context it shook hands with."""
    return set(context.get_ca_certs(binary_form=True))


def _refusal(error: OSError, timeout_s: float) -> AdmissionError:
    """Say why there was no handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return AdmissionError(Refusal.CERTIFICATE, f"its certificate: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).lower().replace("_", " ")
        without = error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        return AdmissionError(Refusal.CERTIFICATE if without else Refusal.TLS, reason)
    if isinstance(error, ConnectionAbortedError):
        return AdmissionError(Refusal.TIMEOUT, f"no TLS handshake within {timeout_s:g} s")
    return AdmissionError(Refusal.CLOSED, "connection closed during the TLS handshake")


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
