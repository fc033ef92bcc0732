"""Whether a service runs here and what its /status reports; the services' own examinations."""

import errno
import json
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from commonwatt.config.settings import Settings, command_of
from commonwatt.doctor.checks import Check, Finding, bad, good, warning
from commonwatt.identity.devices import load_tokens, local_key
from commonwatt.identity.passwords import load_password
from commonwatt.model.exceptions import ConfigError, SettingError, text_of
from commonwatt.network.addresses import split_address
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.service import is_locked

ANSWER_S = 10.0  # real seconds within which a part must answer
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # most bytes of a status page; a longer page is not from Commonwatt

_OWN = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not a listener
"""Loopback host for each wildcard address, to reach a part on its own machine."""

_SIGNS = {
    "adapter": "sources",
    "broker": "listening",
    "gateway": "backlog",
    "host": "controllers",
    "meters": "held",
    "utility": "microgrids",
}
"""By part, a key of its /status that the other parts do not have."""

_STATE = Path("/var/lib/commonwatt")
_LISTENS = ("listen", "http")


@dataclass(frozen=True, kw_only=True)
class Running:
    """Whether a service runs."""

    part: str  # the part
    config: Path  # its file
    answer: dict[str, Any] | None  # the content of its /status; ``None``: it does not answer
    failure: str  # why it does not answer; empty if it does, or has no ``http``
    # Whether it runs, or may run: it answers, or its store is locked; without a store, one of its ports is in use.
    runs: bool

    @property
    def start_command(self) -> str:
        """The command that starts it."""
        if self.config.parent.parent == _STATE:
            place = "" if self.part == "utility" else f"@{self.config.parent.name}"
            return f"sudo systemctl start commonwatt-{self.part}{place}"
        return f"{command_of(self.part)} --config {self.config}"


def look(config: Path, part: str, settings: Settings) -> Running:
    """Return whether the part of a file runs on this machine."""
    address: str | None = getattr(settings, "http", None)
    answer, failure = None, ""
    if address is not None:
        try:
            answer = fetch_status(address, getattr(settings, "http_certificate", None), local_headers(settings))
            if _SIGNS[part] not in answer or answer.get("microgrid") != getattr(settings, "microgrid", None):
                answer, failure = None, f"{address} answers for another part of Commonwatt"
        except (OSError, HTTPException, ValueError) as error:
            failure = f"{address}: {text_of(error)}"
    store = getattr(settings, "store", None)
    if isinstance(store, Path):
        runs = is_locked(store)
    else:
        runs = any(why == errno.EADDRINUSE for _, _, why in _listening(settings))
    return Running(part=part, config=config.absolute(), answer=answer, failure=failure, runs=runs or answer is not None)


def local_headers(settings: Settings) -> dict[str, str]:
    """Return the header that replaces a login, for a program that can read the service's password or token file."""
    password: Path | None = getattr(settings, "http_password", None)
    if password is not None and password.exists():
        return {"Authorization": f"Bearer {load_password(password).local_key()}"}
    tokens: Path | None = getattr(settings, "tokens", None)  # only the utility's own file has its token
    token = load_tokens(tokens).get(UTILITY) if tokens is not None and tokens.exists() else None
    return {} if token is None else {"Authorization": f"Bearer {local_key(token)}"}


def fetch_status(address: str, certificate: Path | None, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of a part's /status.

    Args:
        address: HOST:PORT where it is served.
        certificate: The certificate with which it is served; ``None``: plain HTTP.

    Raises:
        OSError: Nothing answers.
        HTTPException: What answers is not Commonwatt.
        ValueError: The answer is no JSON.
    """
    code, body = ask_service(address, certificate, headers, "GET", "/status")
    if code != 200:
        raise HTTPException(f"the answer is {code}: {body[:200].decode(errors='replace').strip()}")
    status = json.loads(body)
    if not isinstance(status, dict):
        raise HTTPException("another program answers there")
    return status


def ask_service(
    address: str, certificate: Path | None, headers: Mapping[str, str], method: str, path: str, content: object = None
) -> tuple[int, bytes]:
    """Return the status and the body of a service's answer.

    Args:
        address: HOST:PORT where it is served.
        certificate: The certificate with which it is served; ``None``: plain HTTP.
        content: What is sent as JSON; ``None``: nothing.

    Raises:
        OSError: Nothing answers.
        HTTPException: What answers is no HTTP.
    """
    body = None if content is None else json.dumps(content).encode()
    kind = {} if body is None else {"Content-Type": "application/json"}
    with closing(connect_to(address, certificate)) as connection:
        connection.request(method, path, body, {**headers, **kind})
        with connection.getresponse() as answer:
            return answer.status, answer.read(MAX_ANSWER_BYTES)


def connect_to(address: str, certificate: Path | None) -> HTTPConnection:
    """Return a connection to a service, by the address and the certificate with which it is served."""
    host, port = split_address(address)
    host = _OWN.get(host, host)
    if certificate is None:
        return HTTPConnection(host, port, timeout=ANSWER_S)
    return HTTPSConnection(host, port, timeout=ANSWER_S, context=_only(certificate))


def _only(certificate: Path) -> ssl.SSLContext:
    """Trust only the certificate in the file, whatever its host name: the address is from the same file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def service_findings(running: Running) -> Iterator[Finding]:
    """Yield whether the service runs and answers."""
    if running.answer is not None:
        yield good("service", "running")
    elif not running.runs:
        yield warning(
            "service",
            "not running",
            f"start it when no line is bad: {running.start_command}",
        )
    elif running.failure:
        yield bad(
            "service",
            f"seems to run, but does not answer: {running.failure}",
            "see its log: journalctl -u 'commonwatt-*' --since -10min; see the lines `port`; if it hangs, restart it",
        )
    else:
        yield warning(
            "service",
            "seems to run; its state is unknown, as its file has no http",
            'add a line such as http = "127.0.0.1:9100" to the file, and restart the service',
        )


def port_findings(settings: Settings, running: Running) -> Iterator[Finding]:
    """Yield whether the service listens on its addresses, or could."""
    for key, address, why in _listening(settings):
        port = split_address(address)[1]
        check = f"port {key}"
        if why == 0:
            if running.answer is None:
                yield good(check, f"{address} is free")
            else:
                yield bad(
                    check,
                    f"the service runs, but does not listen on {address}",
                    "the file was changed after its start: restart it",
                )
        elif why != errno.EADDRINUSE:
            yield bad(
                check,
                f"{address} can't be used: {os.strerror(why)}",
                f"correct {key} in the file: an address of this machine (see: ip address), and a port above 1023",
            )
        elif running.answer is not None:
            yield good(check, f"the service listens on {address}")
        elif key == "listen" and getattr(settings, "http", None) is None:
            yield warning(
                check,
                f"{address} is in use, perhaps by this service itself",
                f"see which program it is: sudo ss -ltnp 'sport = :{port}'",
            )
        elif running.runs:
            yield bad(
                check,
                f"{address} is in use, by this service or by another program",
                f"find it: sudo ss -ltnp 'sport = :{port}'; stop another program, or set another port as {key}",
            )
        else:
            yield bad(
                check,
                f"{address} is taken by another program",
                f"find it: sudo ss -ltnp 'sport = :{port}'; stop it, or set another port as {key}",
            )


def _listening(settings: Settings) -> Iterator[tuple[str, str, int]]:
    """Yield each listening key, its address, and the error number of listening there; 0: it is free."""
    for key in _LISTENS:
        address = getattr(settings, key, None)
        if address is None:
            continue
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # Bound, never listening: a client of the service can't reach this socket.
                sock.bind((host, port))
        except socket.gaierror:
            yield key, address, errno.EADDRNOTAVAIL
        except OSError as error:
            yield key, address, error.errno or errno.EINVAL
        else:
            yield key, address, 0


GROUP = "commonwatt.doctors"  # entry points of the services' doctors


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """A service's examination."""

    # Returns the checks of the service with these settings, in an order in which a cause stands before its effects.
    checks: Callable[[Any, Running], Sequence[Check]]
    # Returns what the content of a running service's /status shows.
    judge: Callable[[dict[str, Any]], Iterable[Finding]]
    # Raises ``SettingError`` for faults that the settings' model can't find; ``None``: it finds all.
    check_settings: Callable[[Any], object] | None = None


def doctor_of(part: str) -> Doctor:
    """Load the doctor of a part.

    Raises:
        ModuleNotFoundError: A package that the part needs is not installed.
    """
    doctor = next(entry for entry in entry_points(group=GROUP) if entry.name == part).load()
    assert isinstance(doctor, Doctor)
    return doctor


def check_settings(part: str, settings: Any, place: Callable[..., str]) -> None:
    """Check the settings that only the part itself can check; ``place`` returns the words for a key, as ``place_of``.

    Raises:
        ConfigError: A setting is wrong; names its place.
        ModuleNotFoundError: A package that the part needs is not installed.
    """
    try:
        if (check := doctor_of(part).check_settings) is not None:
            check(settings)
    except SettingError as error:
        raise ConfigError(f"{place(*error.keys)}: {error}") from error
