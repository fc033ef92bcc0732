"""The broker's TLS: handshakes, and repeated checks of the devices' certificates.

The handshake proves that the authority issued a certificate and that the device has its key. Expiry and revocation are
checked here, at each CONNECT and every few seconds after it, so that the log and the counter name the device and the
reason, and an open connection ends when its certificate does.
"""

import asyncio
import logging
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from broker.connect import AdmissionError, ConnectRefusal
from broker.metrics import BrokerMetrics
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import moment
from commonwatt.model.units import EpochSeconds
from commonwatt.network.tls import IGNORE_TIMES, Expiry, Stamp, server_context, stamp, trust
from commonwatt.runtime.clock import wall_clock

# asyncio allocates 256 KiB for each connection: a town's meters would fill the memory of a machine.
SSLProtocol.max_size = 1 << 14

WRITE_BUFFER_BYTES = 1 << 16
"""Bytes buffered for one client until the writer waits; asyncio's default for TLS is eight times as many."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """The files for the broker's TLS."""

    certificate: Path  # the broker's certificate, with its key
    clients_ca: Path | None = None  # the authority whose certificates devices must show; ``None``: they need none
    clients_revoked: Path | None = None  # its list of revoked certificates
    ended_s: int = 0  # seconds for which a certificate that has ended is accepted

    @property
    def all(self) -> tuple[Path, ...]:
        """The files that are set."""
        return tuple(path for path in (self.certificate, self.clients_ca, self.clients_revoked) if path is not None)


class BrokerTls:
    """TLS of one broker, from files that are read again when they change."""

    def __init__(self, files: Files, metrics: BrokerMetrics) -> None:
        self._files = files
        self._metrics = metrics
        self._expiry = Expiry(files.certificate)
        self._context: ssl.SSLContext
        self._revoked: frozenset[int] = frozenset()  # serial numbers of revoked certificates
        # The ends of issuers by name; one that is revoked as a whole is missing.
        self._issuers: Mapping[str, EpochSeconds] = {}
        self._stamp: Stamp = ()
        self._complaint = ""

    def load(self) -> None:
        """Read the files for the first time.

        Raises:
            ConfigError: A file can't be used.
        """
        self._read(stamp(*self._files.all))
        self._look()

    def refresh(self) -> None:
        """Read the files again if one changed; if one can't be read, keep the previous content."""
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
        """Perform the TLS handshake of an accepted connection, for ``protocol``."""
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, accepted, ssl=self._context, ssl_handshake_timeout=timeout_s
            )
        except OSError as error:
            raise _refusal(error, timeout_s) from error
        transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        return transport

    def proved(self, writer: asyncio.StreamWriter) -> str | None:
        """Return the identity in the certificate of a connection; ``None`` where devices need none."""
        if self._files.clients_ca is None:
            return None
        shown = writer.get_extra_info("peercert")
        if not shown:
            raise AdmissionError(ConnectRefusal.CERTIFICATE, "no certificate")
        context = writer.get_extra_info("ssl_object").context
        if context is not self._context and not _authorities(context) <= _authorities(self._context):
            raise AdmissionError(ConnectRefusal.REVOKED, "the authority of its certificate is no longer trusted")
        names = _common_names(shown["subject"])
        if len(names) != 1:
            raise AdmissionError(ConnectRefusal.CERTIFICATE, "a certificate without one name")
        serial, now = int(shown["serialNumber"], 16), wall_clock().now()
        begins, ends = (ssl.cert_time_to_seconds(shown[key]) for key in ("notBefore", "notAfter"))
        if serial in self._revoked:
            raise AdmissionError(
                ConnectRefusal.REVOKED, f"the certificate of {names[0]!r}, number {serial:x}, was revoked"
            )
        issuers = _common_names(shown["issuer"])
        if not any(now < self._issuers.get(issuer, 0) for issuer in issuers):
            raise AdmissionError(
                ConnectRefusal.REVOKED, f"the issuer of {names[0]!r}'s certificate was revoked or has ended"
            )
        if not begins <= now < ends + self._files.ended_s:
            span = f"from {moment(int(begins))} to {moment(int(ends))}"
            raise AdmissionError(ConnectRefusal.EXPIRED, f"the certificate of {names[0]!r} is valid {span}")
        return str(names[0])

    def _read(self, seen: Stamp) -> None:
        context = server_context(self._files.certificate)
        revoked: frozenset[int] = frozenset()
        issuers: Mapping[str, EpochSeconds] = {}
        if self._files.clients_ca is not None and self._files.clients_revoked is not None:
            trust(context, self._files.clients_ca)
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= IGNORE_TIMES  # ``proved`` checks them.
            # Loaded only where devices show certificates: the library that reads them takes 8 MiB.
            from commonwatt.identity.certificates import listed_issuers, revoked_serials

            try:
                lists = self._files.clients_revoked.read_bytes()
                revoked, issuers = revoked_serials(lists, self._files.clients_ca.read_bytes()), listed_issuers(lists)
            except ConfigError as error:
                raise ConfigError(f"{self._files.clients_revoked}: {error}") from error
        # Stamped before reading, and kept only when all could be read.
        self._context, self._revoked, self._issuers = context, revoked, issuers
        self._stamp, self._complaint = seen, ""

    def _look(self) -> None:
        expires = self._expiry.look()
        if expires is not None:
            self._metrics.certificate_expires.labels("mqtt").set(expires)


def _common_names(name: tuple[tuple[tuple[str, str], ...], ...]) -> list[str]:
    return [value for part in name for key, value in part if key == "commonName"]


def _authorities(context: ssl.SSLContext) -> set[bytes]:
    """Return the certificates that a context trusts; a connection keeps the context of its handshake."""
    return set(context.get_ca_certs(binary_form=True))


def _refusal(error: OSError, timeout_s: float) -> AdmissionError:
    """Return the refusal for a failed handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return AdmissionError(ConnectRefusal.CERTIFICATE, f"its certificate: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).lower().replace("_", " ")
        without = error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        return AdmissionError(ConnectRefusal.CERTIFICATE if without else ConnectRefusal.TLS, reason)
    if isinstance(error, ConnectionAbortedError):
        return AdmissionError(ConnectRefusal.TIMEOUT, f"no TLS handshake within {timeout_s:g} s")
    return AdmissionError(ConnectRefusal.CLOSED, "connection closed during the TLS handshake")
