"""``commonwatt status``: the status of a running part, from the ``http`` address in its file."""

import json
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any

import typer

from commonwatt.cli.options import JsonOption
from commonwatt.config.files import check_file, load_settings
from commonwatt.config.parts import settings_of
from commonwatt.doctor.doctors import doctor_of
from commonwatt.doctor.findings import Level, with_file, worst
from commonwatt.doctor.running import fetch_status, local_headers
from commonwatt.model.exceptions import CommonwattError, ConfigError, text_of
from commonwatt.model.words import moment

MAX_LINE = 200  # most characters of a line in the terminal; longer values are counted

_TIMES = ("time", "last_batch", "last_seen")


def status(
    config: Annotated[Path, typer.Option("--config", "-c", help="The part's file (TOML), of any part.")],
    as_json: JsonOption = False,
) -> None:
    """Print the status of a part that runs on this machine; exit code 1 if it does not answer.

    The first line is the verdict: working, or what is wrong and the first thing to do. All times are UTC. A broker and
    emulated meters answer if their file has `http`; Mosquitto does not. Long values are only counted: --json shows
    all that the part reports.
    """
    answer = ask(config)
    if as_json:
        typer.echo(json.dumps(answer, indent=1))
    else:
        typer.echo("\n".join([f"verdict: {verdict(config, answer)}", "times: UTC", *lines(answer)]))


def ask(config: Path) -> dict[str, Any]:
    """Return the status that the part of this file reports.

    Raises:
        ConfigError: The file is wrong, or has no ``http``.
        CommonwattError: The part does not answer.
    """
    part = check_file(config)
    settings = load_settings(config, part, settings_of(part))
    address: str | None = getattr(settings, "http", None)
    if address is None:
        raise ConfigError(f'{config}: has no http, where the {part} would answer; add http = "127.0.0.1:9100"')
    try:
        return fetch_status(address, getattr(settings, "http_certificate", None), local_headers(settings))
    except (OSError, HTTPException, ValueError) as error:
        what = text_of(error)
        raise CommonwattError(f"the {part} does not answer at {address}: {what}; does it run?") from error


def verdict(config: Path, answer: dict[str, Any]) -> str:
    """Return in one sentence whether the part works, or what is wrong and the first thing to do."""
    try:
        first = worst(doctor_of(check_file(config)).judge(answer))
    except (ModuleNotFoundError, LookupError):
        return "unknown: this release does not know the answer of the running part; restart it after an upgrade"
    if first is None:
        return "working"
    first = with_file(first, config)
    if first.level is Level.WARNING:
        return f"working, with a warning: {first.found}; {first.remedy}"
    return f"not working: {first.found}; {first.remedy}"


def lines(answer: dict[str, Any]) -> list[str]:
    """Return a line for each key; a value longer than MAX_LINE is shown as its number of entries."""
    told = {key: (_of(key, value), value) for key, value in _with_schedule(answer).items()}
    return [
        f"{key.replace('_', ' ')}: {len(value) if isinstance(value, dict | list) and len(text) > MAX_LINE else text}"
        for key, (text, value) in told.items()
    ]


def _with_schedule(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer with a gateway's periods and their sources in one key."""
    if "periods" not in answer or "tuned" not in answer:
        return answer
    sources = {name: f"{seconds} s ({_set_by(name, answer)})" for name, seconds in answer["periods"].items()}
    told = {
        "schedule" if key == "periods" else key: value for key, value in answer.items() if key not in ("tuned", "saved")
    }
    return told | {"schedule": {name.removesuffix("_s"): source for name, source in sources.items()}}


def _set_by(name: str, answer: dict[str, Any]) -> str:
    if name in answer["tuned"]:
        return "tuned by the utility"
    return "to save bytes" if name in answer.get("saved", ()) else "file"


def _of(key: str, value: object) -> str:
    if key == "silent" and isinstance(value, dict):
        return _text({meter: moment(time) if time else "not heard yet" for meter, time in value.items()})
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
