"""``commonwatt utility command --wait``: makes a change by the API of the service, and waits for the answers."""

import json
import threading
import time
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from commonwatt.config.utility import UtilitySettings
from commonwatt.doctor.running import ask_service, local_headers
from commonwatt.model.exceptions import CommonwattError, ConfigError, StoreError, text_of
from commonwatt.model.words import counted
from utility.control.changes import Asked
from utility.webkit.cli.service import reason_of

DONE, REFUSED, EXPIRED = 0, 1, 2  # exit codes: every gateway did it; one refused; one did not answer in time
LOOK_S = 1.0  # real seconds between two looks for answers
SILENT_S = 60.0  # real seconds for which the service may be silent, such as in a restart
NAMED = 20  # most microgrids that are listed one by one

_pause = threading.Event()


def change_and_wait(settings: UtilitySettings, config: Path, asked: Asked) -> int:
    """Make a change, show its progress, and return the exit code.

    Raises:
        ConfigError: A field is wrong.
        CommonwattError: The service refuses the change; nothing was changed.
        StoreError: The service does not run, or stopped answering.
    """
    ask = partial(_ask, settings, config)
    content: dict[str, Any] = {
        "action": asked.action,
        "fields": dict(asked.fields),
        "at": asked.at,
        "valid_s": asked.valid_s,
        "seen": ask("GET", "/commands/changes?limit=1")["newest"],
    }
    chosen = asked.chosen
    content |= {"microgrids": list(chosen.microgrids), "kind": chosen.kind, "everyone": chosen.everyone}
    answer = ask("POST", "/commands", content)
    number = answer["change"]["no"]
    console = Console(stderr=True)
    with console.status("") as shown:
        while answer["change"]["waits"]:
            shown.update(_progress(answer["change"]))
            _pause.wait(LOOK_S)
            answer = ask("GET", f"/commands/{number}")
    return _told(answer)


def _ask(settings: UtilitySettings, config: Path, method: str, path: str, content: object = None) -> Any:
    """Return the content of an answer; a look is repeated while the service is silent for a while."""
    until = time.monotonic() + (SILENT_S if method == "GET" else 0)
    while True:
        try:
            headers = local_headers(settings)
            code, body = ask_service(settings.http, settings.http_certificate, headers, method, path, content)
        except (OSError, HTTPException) as error:
            if time.monotonic() >= until:
                raise StoreError(
                    f"{settings.http}: no answer ({text_of(error)}). Start the service with: commonwatt utility run "
                    f"--config {config}; or leave out --wait: the command is sent when it runs"
                ) from error
            _pause.wait(LOOK_S)
            continue
        if code == 422:
            raise ConfigError(reason_of(body))
        if code != 200:
            raise CommonwattError(reason_of(body))
        return json.loads(body)


def _progress(change: dict[str, Any]) -> str:
    if change["state"] == "planned":
        return f"change {change['no']}: planned for {change['due']}"
    left = change["counts"].get("open", 0)
    return f"change {change['no']}: {change['what']}, waiting for {left} of {counted(change['microgrids'], 'gateway')}"


def _told(answer: dict[str, Any]) -> int:
    change, microgrids = answer["change"], answer["microgrids"]
    typer.echo(f"change {change['no']}: {change['what']}, {counted(change['microgrids'], 'microgrid')}")
    odd = [one for one in microgrids if one["state"] != "done"]
    for one in microgrids if len(microgrids) <= NAMED else odd[:NAMED]:
        before = f"; before: {one['before']}" if one["before"] else ""
        why = f" ({one['answer']})" if one["state"] == "refused" else ""
        typer.echo(f"{one['microgrid']}: {one['state']}{why}{before}")
    if len(microgrids) > NAMED:
        typer.echo(", ".join(f"{state} {count}" for state, count in change["counts"].items()))
    states = {one["state"] for one in microgrids}
    if "refused" in states:
        return REFUSED
    return EXPIRED if states - {"done"} else DONE
