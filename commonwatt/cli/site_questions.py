"""The questions of ``commonwatt site init``: each has a default and is checked, options answer them beforehand."""

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from commonwatt.config.faults import plain
from commonwatt.config.files import toml_table
from commonwatt.config.settings import Settings
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import host_fault
from commonwatt.site.file import FILE, SiteMicrogrid, SiteTable
from commonwatt.town.file import MicrogridTable, TownFile, TownTable
from commonwatt.town.loading import town_of

_HEAD = """\
# The answers of `commonwatt site init`. Change them here, or append a microgrid or a meter at the end, and run it
# again; an insertion would renumber meters, and is refused. docs/reference/settings.md has every key.
"""

_FIRST = {"id": "r001", "kind": "residential"}

_SIZES = {"residential": ("houses",), "apartment": ("buildings", "apartments"), "public": ()}
"""The sizes that are asked, for each kind of microgrid."""

_WORDS = {
    "name": "Name of the town",
    "timezone": "Time zone",
    "utility": "Address at which controllers reach the utility",
    "id": "Id of a microgrid",
    "kind": "Its kind (residential, apartment, public)",
    "houses": "Houses",
    "buildings": "Buildings",
    "apartments": "Apartments in each building",
    "address": "Address at which meters reach its controller",
}


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What options state."""

    name: str | None  # the town's name
    timezone: str | None  # its time zone
    utility: str | None  # the utility's address
    microgrids: list[str]  # microgrids, each ``ID,KIND,KEY=VALUE...``
    asks: bool  # whether missing answers are asked; otherwise defaults are taken

    @property
    def of_town(self) -> list[str]:
        """The stated options that can't be appended to a site file."""
        return [key for key in ("name", "timezone", "utility") if getattr(self, key) is not None]


def first_text(answers: Answers) -> str:
    """Return the text of a new site file.

    Raises:
        ConfigError: An option is wrong.
    """
    host = socket.getfqdn()
    host = socket.gethostname() if host_fault(host) or host.startswith("localhost") else host
    defaults = {"name": TownTable().name, "timezone": TownTable().timezone}
    town = {key: _answer(answers, TownTable, key, default) for key, default in defaults.items()}
    utility = _answer(answers, SiteTable, "utility", host)
    tables = [_stated(text) for text in answers.microgrids]
    if not tables:
        tables = _asked() if answers.asks else [dict(_FIRST)]
    texts = [toml_table("[site]", {"utility": utility}), toml_table("[town]", town)]
    return "\n".join([_HEAD, *texts, *(toml_table("[[microgrid]]", table) for table in tables)])


def further_text(answers: Answers) -> str:
    """Return the text of further microgrids, to be appended to a site file.

    Raises:
        ConfigError: An option is wrong.
    """
    return "".join("\n" + toml_table("[[microgrid]]", _stated(text)) for text in answers.microgrids)


def _answer(answers: Answers, model: type[Settings], key: str, default: str) -> str:
    stated: str | None = getattr(answers, key)
    if stated is None:
        return str(_ask(model, key, {}, default)) if answers.asks else default
    try:
        return str(_checked(model, {}, key, stated))
    except ValueError as error:
        raise ConfigError(f"--{key} {stated!r}: {error}") from None


def _stated(text: str) -> dict[str, object]:
    """Return the microgrid that an option states."""
    name, _, rest = text.partition(",")
    kind, *pairs = rest.split(",")
    texts = {"id": name, "kind": kind} | {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
    try:
        return {key: _checked(SiteMicrogrid, texts, key, value) for key, value in texts.items()}
    except ValueError as error:
        raise ConfigError(f"--microgrid {text!r}: {error}; such as r001,residential,houses=8") from None


def _asked() -> list[dict[str, object]]:
    """Ask for microgrids until there is no other."""
    tables: list[dict[str, object]] = []
    while True:
        table: dict[str, object] = {}
        taken = [str(other["id"]) for other in tables]
        table["id"] = _ask(SiteMicrogrid, "id", table, _next_id(taken[-1] if taken else ""), taken)
        table["kind"] = _ask(SiteMicrogrid, "kind", table, _FIRST["kind"])
        for key in _SIZES[str(table["kind"])]:
            table[key] = _ask(SiteMicrogrid, key, table, SiteMicrogrid.model_fields[key].default)
        table["address"] = _ask(SiteMicrogrid, "address", table, _static_address([*tables, table]))
        tables.append(table)
        if not typer.confirm("Another microgrid?", default=False):
            return tables


def _ask(
    model: type[Settings], key: str, beside: Mapping[str, object], default: object, taken: Sequence[str] = ()
) -> object:
    def check(text: str) -> object:
        try:
            value = _checked(model, beside, key, text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if value in taken:
            raise typer.BadParameter("is there already")
        return value

    # The prompt returns what `check` returns.
    answer: Any = typer.prompt(_WORDS[key], default=str(default), value_proc=check)
    return answer


def _checked(model: type[Settings], beside: Mapping[str, object], key: str, text: str) -> object:
    """Return a key's value from its text.

    Raises:
        ValueError: With the fault.
    """
    needed = _FIRST if model is SiteMicrogrid else {}
    try:
        return getattr(model.model_validate({**needed, **beside, key: text}), key)
    except ValidationError as error:
        fault = error.errors()[0]
        # Without the cause: its text has several lines.
        raise ValueError(": ".join([*map(str, fault["loc"]), plain(fault)])) from None


def _static_address(tables: Sequence[Mapping[str, Any]]) -> str:
    """Return the static address in the town of the last microgrid's controller."""
    file = TownFile(microgrid=[MicrogridTable(id=table["id"], kind=table["kind"]) for table in tables])
    return town_of(file, Path(FILE)).microgrids[tables[-1]["id"]].address


def _next_id(last: str) -> str:
    """Return the default of the next id: the last one, with a number that is one higher."""
    match = re.fullmatch(r"(.*?)(\d+)", last)
    return f"{match[1]}{int(match[2]) + 1:0{len(match[2])}d}" if match else _FIRST["id"]
