"""``commonwatt status``: how a running part is, as it says itself at the ``http`` address of its file."""

import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Annotated, Any

import typer

from commonwatt.cli.dead_letter_options import JsonOption
from commonwatt.config.files import check_file, load_settings
from commonwatt.config.settings import PARTS
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.words import moment
from commonwatt.network.addresses import split_address
from commonwatt.runtime.service import errors_reported, flowing

ANSWER_S = 10.0
"""Real seconds a part has to answer."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""More than this is no status of ours."""

MAX_LINE = 200
"""Characters that are still a line for a person."""

_TIMES = ("time", "last_batch", "last_seen")

_OWN = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not a listener
"""By which host a part that listens on all addresses is reached on its own machine."""


@flowing
def status(
    config: Annotated[Path, typer.Option("--config", "-c", help="The part's file (TOML), of any part.")],
    as_json: JsonOption = False,
) -> None:
    """Ask a running part how it is, on its own machine; exit code 1 if it does not answer.

    A broker and emulated meters answer where their file has `http`; a Mosquitto does not. What is long is only
    counted: --json shows it whole.
    """
    with errors_reported():
        answer = ask(config)
        typer.echo(json.dumps(answer, indent=1) if as_json else "\n".join(lines(answer)))


def ask(config: Path) -> dict[str, Any]:
    """Return what the part of this file says.

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
        return _fetch(address, getattr(settings, "http_certificate", None))
    except (OSError, HTTPException, ValueError) as error:
        what = str(error) or type(error).__name__
        raise CommonwattError(f"the {part} does not answer at {address}: {what}; does it run?") from error


def lines(answer: dict[str, Any]) -> list[str]:
    """Return a line for each key; of what would be longer than MAX_LINE, how many there are."""
    told = {key: (_of(key, value), value) for key, value in answer.items()}
    return [
        f"{key.replace('_', ' ')}: {len(value) if isinstance(value, dict | list) and len(text) > MAX_LINE else text}"
        for key, (text, value) in told.items()
    ]


def _fetch(address: str, certificate: Path | None) -> dict[str, Any]:
    host, port = split_address(address)
    host = _OWN.get(host, host)
    if certificate is None:
        connection = HTTPConnection(host, port, timeout=ANSWER_S)
    else:
        connection = HTTPSConnection(host, port, timeout=ANSWER_S, context=_only(certificate))
    try:
        connection.request("GET", "/status")
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
    """Believe the certificate of the file and no other, whatever its name: the address is known."""
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
