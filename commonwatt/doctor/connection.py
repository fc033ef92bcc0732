"""Checks of a connection to a broker, step by step, so that the first failing step is named.

A broker ends a session when its client id connects again. So a running service's own report replaces the last two
steps, which log in with its client id; and if it is connected, there is nothing to try.
"""

import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from commonwatt.doctor.findings import Finding, bad, good
from commonwatt.doctor.login import Login, log_in
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import split_address
from commonwatt.network.tls import ClientTls

ANSWER_S = 5.0  # real seconds for each step
ALERT_S = 0.5  # real seconds in which a broker with TLS 1.3 reports that it refuses the client's certificate


@dataclass(frozen=True, kw_only=True)
class Target:
    """A broker, and how a service connects to it."""

    setting: str  # the setting with its address
    address: str  # HOST:PORT
    ca: Path | None  # the authority of its certificate; ``None``: plain text
    certificate: Path | None  # the service's certificate
    revoked: Path | None  # the authority's revocation list
    identity: str  # the service's client id
    token: Callable[[], str]  # returns its token
    subscribe: str  # the filter it subscribes to
    user: str | None = None  # its user name, if that is not its client id; empty: it has none
    is_one_of_two: bool = False  # whether the setting has another address, too

    @property
    def name(self) -> str:
        """The setting, with the address if it has two: a finding's begin."""
        return f"{self.setting} {self.address}" if self.is_one_of_two else self.setting

    @property
    def broker(self) -> str:
        """The broker in words: a household's own one is no service of ours."""
        return (
            "the devices' broker there" if "." in self.setting else "the broker there (systemctl status 'commonwatt-*')"
        )

    @property
    def ca_setting(self) -> str:
        """The setting with the authority: ``broker_ca`` beside ``broker``, ``source.ca`` beside ``source.address``."""
        table, dot, _ = self.setting.rpartition(".")
        return f"{table}.ca" if dot else f"{self.setting}_ca"


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What a running service reports of its connection."""

    connected: bool | None  # whether it is connected; ``None``: the service runs, or may run, but does not report
    complaint: str = ""  # why it is not


class _StepError(Exception):
    """A step failed: what was found, and the remedy."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.remedy = remedy


def connection_findings(target: Target, reported: Reported | None) -> Iterator[Finding]:
    """Yield a finding for each step up to the first that fails.

    Args:
        reported: What the running service reports; ``None``: it does not run, so its client id may be used.
    """
    if reported is not None and reported.connected:
        yield good(target.name, f"connected to {target.address}, as the running service reports")
        return
    step, sock = "resolves", None
    try:
        addresses = _resolve(target)
        yield good(f"{target.name}: resolves", f"{target.address} has the address {', '.join(addresses)}")
        step = "reaches"
        sock = _reach(target)
        yield good(f"{target.name}: reaches", f"something listens at {target.address}")
        step = "TLS"
        sock, found = _secure(target, sock)
        yield good(f"{target.name}: TLS", found)
        sock.close()
        step = "credentials"
        if reported is not None:
            yield _as_reported(target, reported)
            return
        login = log_in(target.address, target.identity, target.token(), target.subscribe, _context(target), target.user)
        yield good(f"{target.name}: credentials", _accepted(target, login))
        step = "rights"
        yield good(f"{target.name}: rights", _permitted(target, login))
    except _StepError as error:
        yield bad(f"{target.name}: {step}", str(error), error.remedy)
    finally:
        if sock is not None:
            sock.close()


def _resolve(target: Target) -> list[str]:
    host, port = split_address(target.address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _StepError(
            f"the name {host} is unknown here ({getattr(error, 'strerror', None) or error})",
            f"correct {target.setting} in the file; if the name is right, see whether the line is up (ip address), and"
            f" whether DNS answers: getent hosts {host}",
        ) from error
    return sorted({str(address[0]) for *_, address in found})


def _reach(target: Target) -> socket.socket:
    host, port = split_address(target.address)
    try:
        return socket.create_connection((host, port), timeout=ANSWER_S)
    except ConnectionRefusedError as error:
        raise _StepError(
            f"nothing listens at {target.address}",
            f"start {target.broker}, or correct the port of {target.setting}",
        ) from error
    except OSError as error:
        what = "no answer within 5 s" if isinstance(error, TimeoutError) else error.strerror
        way = "there is no way to it" if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH) else "nothing answers"
        raise _StepError(
            f"{target.address}: {way} ({what})",
            "see whether the line is up: ip address, ip route; whether the broker's machine is on; and whether a"
            f" firewall lets port {port} through",
        ) from error


def _secure(target: Target, sock: socket.socket) -> tuple[socket.socket, str]:
    """Return the connection with TLS, and what was found; or the same connection for plain text."""
    context = _context(target)
    if context is None:
        return sock, "not used: plain text, as the file has no authority for this broker"
    try:
        secure = context.wrap_socket(sock, server_hostname=split_address(target.address)[0])
        secure.settimeout(ALERT_S)
        with suppress(TimeoutError):
            # In TLS 1.3 the broker checks the client's certificate after the handshake, and sends only refusals.
            if not secure.recv(1):
                raise ConnectionResetError("EOF occurred")
        return secure, f"{secure.version()}, the broker's certificate is right"
    except OSError as error:
        raise _tls_fault(target, error) from error


def _context(target: Target) -> ssl.SSLContext | None:
    if target.ca is None:
        return None
    try:
        return ClientTls(target.ca, target.certificate, target.revoked).context()
    except ConfigError as error:
        raise _StepError(str(error), "copy this machine's folder from the office again") from error


_ENROLL = "commonwatt enroll renew --out site at the office; then copy its folder to it and restart the broker"

_TLS_FAULTS = (
    ("certificate has expired", "the broker's certificate has expired", f"renew it: {_ENROLL}"),
    ("not yet valid", "by this machine's clock the broker's certificate is not valid yet", "set the clock"),
    ("certificate revoked", "the broker's certificate is revoked", "ask the office; docs/security.md describes it"),
    (
        "mismatch",
        "the broker's certificate is of another address",
        "use an address that it has, or make one with this address at the office: commonwatt enroll broker --help",
    ),
    (
        "issuer certificate",
        "the broker's certificate is of another authority than the one in the file",
        "copy ca.pem of the right town; or this address is of another broker",
    ),
    ("self-signed", "the broker's certificate is of another authority", "copy ca.pem of the right town"),
    (
        "eof occurred",
        "the broker ended the connection during the TLS handshake; perhaps it does not use TLS at this port",
        "give the broker a certificate, or correct the port; the broker's log shows the reason",
    ),
    ("wrong version", "the broker does not use TLS at this port", "give the broker a certificate, or correct the port"),
    (
        "certificate required",
        "the broker requires a certificate, and this service has none",
        "make one at the office: commonwatt enroll device; and set certificate in the file",
    ),
    (
        "alert certificate expired",
        "the broker refuses this service's certificate: expired",
        "renew it at the office: commonwatt enroll renew --out site; then copy this machine's folder again",
    ),
    ("alert certificate revoked", "the broker refuses this service's certificate: revoked", "ask the office why"),
    ("unknown ca", "the broker refuses this service's certificate: of another authority", "copy the folder again"),
)
"""By text in OpenSSL's message: what was found, and the remedy."""


def _tls_fault(target: Target, error: OSError) -> _StepError:
    text = f"{getattr(error, 'verify_message', '')} {error}".lower().replace("_", " ")
    for sign, found, remedy in sorted(_TLS_FAULTS, key=lambda fault: -len(fault[0])):
        if sign in text:
            detail = getattr(error, "verify_message", "") or getattr(error, "reason", "") or ""
            return _StepError(f"{found} ({detail})", remedy)
    return _StepError(
        f"TLS with {target.address} failed: {error}",
        "see the broker's log at this moment: journalctl -u 'commonwatt-*' on its machine",
    )


def _as_reported(target: Target, reported: Reported) -> Finding:
    check = f"{target.name}: credentials"
    if reported.connected is None:
        return good(check, "not tried: that would end the session of the service, which seems to run")
    found, remedy = _refusal(target, reported.complaint or "it connects at this moment")
    return bad(check, f"the running service is not connected: {found}", remedy)


def _accepted(target: Target, login: Login) -> str:
    if login.refused is not None:
        raise _StepError(*_refusal(target, login.refused))
    return f"the broker accepts {target.identity}"


def _permitted(target: Target, login: Login) -> str:
    if not login.may_subscribe:
        raise _StepError(
            f"the broker does not allow {target.identity} to subscribe to {target.subscribe}",
            "with Mosquitto as broker, write its access file anew: restart commonwatt-mosquitto; otherwise this address"
            f" is of another microgrid's broker: correct {target.setting}",
        )
    return f"may subscribe to {target.subscribe}"


def _refusal(target: Target, why: str) -> tuple[str, str]:
    """Return a refusal of a login in words, and the remedy."""
    if "without an answer" in why and target.ca is None:
        return (
            f"{why}; perhaps it requires TLS",
            f"set {target.ca_setting} to that broker's authority (ca.pem), or correct the port; its log shows why",
        )
    if target.user is not None and ("user name" in why or "authorized" in why):
        table = target.setting.rpartition(".")[0]
        return (
            f"the broker refuses {f'the user {target.user}' if target.user else 'a client without a user name'}: {why}",
            f"correct {table}.user and {table}.password; they are known to the person who runs that broker",
        )
    if "identifier" in why:
        return (
            f"the broker does not know {target.identity}",
            "register it, copy the new devices.json to the broker; or correct the address, if it is another broker's",
        )
    if "user name" in why:
        return (
            f"the broker refuses the token of {target.identity}",
            "copy the folders of this machine and of the broker from the office again; they are made together",
        )
    if "authorized" in why:
        return (
            f"the broker refuses {target.identity}: it is revoked, or its certificate is expired or another's",
            "see the line `certificate`, and the broker's log; docs/security.md describes how to readmit",
        )
    return why, "see the broker's log at this moment: journalctl -u 'commonwatt-*' on its machine"
