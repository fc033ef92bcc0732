"""``commonwatt status``: the status of a running part, from the ``http`` address in its file."""

import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Annotated, Any

import typer

from commonwatt.cli.dead_letter_options import JsonOption
from commonwatt.config.files import check_file, load_settings
from commonwatt.config.parts import PARTS
from commonwatt.config.settings import Settings
from commonwatt.identity.passwords import load_password
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.words import moment
from commonwatt.network.addresses import split_address
from commonwatt.runtime.service import errors_reported, flowing

ANSWER_S = 10.0
"""Real seconds within which a part must answer."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Most bytes of a status page; a longer page is not from Commonwatt."""

MAX_LINE = 200
"""Most characters of a line in the terminal; longer values are counted."""

_TIMES = ("time", "last_batch", "last_seen")

_OWN = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not a listener
"""Loopback host for each wildcard address, to reach a part on its own machine."""


@flowing
def status(
    config: Annotated[Path, typer.Option("--config", "-c", help="The part's file (TOML), of any part.")],
    as_json: JsonOption = False,
) -> None:
    """Print the status of a part that runs on this machine; exit code 1 if it does not answer.

    A broker and emulated meters answer if their file has `http`; Mosquitto does not. Long values are only
    counted: --json shows it whole.
    """
    with errors_reported():
        answer = ask(config)
        typer.echo(json.dumps(answer, indent=1) if as_json else "\n".join(lines(answer)))


def ask(config: Path) -> dict[str, Any]:
    """Return the status that the part of this file reports.

    Raises:
        ConfigError: The file is wrong, or has no ``http``.
        CommonwattError: The part does not answer.
    """
    part = check_file(config)
    settings = load_settings(config, part, PARTS[part])
    address: str | None = getattr(settings, "http", None)
    if address is None:
        raise ConfigError(f'{config}: has no http, where the {part} would answer; add http = "127.0.0.1:9100"')
    try:
        return _fetch(address, getattr(settings, "http_certificate", None), _key(settings))
    except (OSError, HTTPException, ValueError) as error:
        what = str(error) or type(error).__name__
        raise CommonwattError(f"the {part} does not answer at {address}: {what}; does it run?") from error


def lines(answer: dict[str, Any]) -> list[str]:
    """Return a line for each key; a value longer than MAX_LINE is shown as its number of entries."""
    told = {key: (_of(key, value), value) for key, value in answer.items()}
    return [
        f"{key.replace('_', ' ')}: {len(value) if isinstance(value, dict | list) and len(text) > MAX_LINE else text}"
        for key, (text, value) in told.items()
    ]


def _key(settings: Settings) -> dict[str, str]:
    """Return the header that replaces a session, for a program that can read the password's file."""
    password: Path | None = getattr(settings, "http_password", None)
    if password is None or not password.exists():
        return {}
    return {"Authorization": f"Bearer {load_password(password).local_key()}"}


def _fetch(address: str, certificate: Path | None, headers: dict[str, str]) -> dict[str, Any]:
    host, port = split_address(address)
    host = _OWN.get(host, host)
    if certificate is None:
        connection = HTTPConnection(host, port, timeout=ANSWER_S)
    else:
        connection = HTTPSConnection(host, port, timeout=ANSWER_S, context=_only(certificate))
    try:
        connection.request("GET", "/status", headers=headers)
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER_BYTES)
    finally:
        connection.close()
    if answer.status != 200:
        raise HTTPException(f"it says {answer.status}: {body[:200].decode(errors='replace').strip()}")
    told = json.loads(body)
    if not isinstance(told, dict):
        raise HTTPException("what answers there is no part of ours")
    return told


def _only(certificate: Path) -> ssl.SSLContext:
    """Trust only the certificate in the file, whatever its host name: the address is from the same file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _of(key: str, value: object) -> str:
    return moment(value) if key in _TIMES and isinstance(value, int) else _text(value)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_bracketed(_of(key, inner), inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_bracketed(_text(inner), inner) for inner in value) or "none"
    if value is None:
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _bracketed(text: str, value: object) -> str:
    return f"({text})" if isinstance(value, dict | list) and value else text
