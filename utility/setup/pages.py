"""The pages of setup: five steps as plain forms; a script only lets cards come anew and points at homes."""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import available_timezones

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from commonwatt.look.writing import NAMES
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import is_loopback
from commonwatt.runtime.clock import read_machine
from commonwatt.site.bundle import BUNDLES
from commonwatt.site.devices_broker import shown_login
from commonwatt.site.draft import PASSWORD, SiteDraft
from commonwatt.site.places import FILE
from commonwatt.street.backup import BACKUPS, KEPT, KEY_FILE, LAST_FILE, LEAST_LETTERS, kept
from utility.access.people import Actor, Right
from utility.access.store.audit_log import AuditFilter, entries
from utility.care.store import told_bundle
from utility.readings.store.gateways import last_heartbeats
from utility.setup import cards
from utility.setup.api import ACTIONS, site_of
from utility.setup.decisions import STREET, discovered, ignored
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import SetsUpStreet, may

router = APIRouter(include_in_schema=False)
router.routes += ACTIONS.forms.routes

Step = Literal["you", "broker", "devices", "sharing", "done"]
TITLES: Mapping[Step, str] = {
    "you": "Street",
    "broker": "Broker",
    "devices": "Devices",
    "sharing": "Sharing",
    "done": "Done",
}
PATH = "/console/setup"
_APPLIED = "applied.json"
_STARTS_S = 10  # seconds within which an adapter starts; until then it need not answer
CURRENCIES = ("EUR", "USD", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "CAD", "AUD", "NZD")  # proposed


def leads(console: Console, actor: Actor) -> bool:
    """Return whether a person who comes to the console goes to setup first: a step of the street is left."""
    folder = console.api.settings.site
    if folder is None or not actor.may(Right.SET_UP_STREET):
        return False
    with suppress(ConfigError):
        draft = SiteDraft(folder)
        left = [step for step, (is_done, _) in _steps(draft, STREET, 0).items() if not is_done and step != "done"]
        if left == ["sharing"]:  # It may stay off: no battery can share, or a person has stopped it.
            may_share = any("share" in one.told for one in draft.devices(STREET))
            return may_share and not console.database.read(entries, AuditFilter(action="setup.share"), 1)
        return bool(left)
    return False


@router.get(PATH)
def first(console: RequestConsole, _: SetsUpStreet) -> Response:
    """Go to the first step that is not done."""
    draft = SiteDraft(site_of(console.api))
    steps = _steps(draft, _chosen(draft), 0)
    return RedirectResponse(f"{PATH}/{next(step for step, (is_done, _) in steps.items() if not is_done)}", 303)


@router.get("/console/setup/backup")
def backups(console: RequestConsole, request: Request, actor: SetsUpStreet) -> Response:
    """Show the backups, and the form of their passphrase."""
    folder = site_of(console.api)
    last = folder / BACKUPS / LAST_FILE
    files = [(path.name, path.stat()) for path in kept(folder)]
    content = {
        "files": [(name, stat.st_mtime, stat.st_size) for name, stat in files],
        "last": json.loads(last.read_bytes()) if last.exists() else {"name": "", "fault": ""},
        "has_key": (folder / KEY_FILE).exists(),
        "least": LEAST_LETTERS,
        "most": KEPT,
    }
    return console.page(request, actor, "setup_backup.html", content)


@router.get("/console/setup/backup/{name}", dependencies=[may(Right.SET_UP_STREET, session=True)])
def backup_file(console: RequestConsole, name: str) -> FileResponse:
    """Return a backup; no token gets one."""
    found = {path.name: path for path in kept(site_of(console.api))}
    if name not in found:
        raise HTTPException(404, "there is no such backup any more")
    return FileResponse(found[name], filename=name, content_disposition_type="attachment")


@router.get("/console/setup/{step}")
def page(
    console: RequestConsole,
    request: Request,
    actor: SetsUpStreet,
    step: Step,
    shown: Annotated[Literal["", "placed"], Query()] = "",
    microgrid: Annotated[str, Query(max_length=64)] = STREET,
) -> Response:
    """Show a step with its check, for a microgrid whose controller has an adapter."""
    folder, settings = site_of(console.api), console.api.settings
    draft = SiteDraft(folder)
    microgrid = _chosen(draft, microgrid)
    with console.database.reads.begin() as connection:
        found, hidden = discovered(connection, microgrid), set(ignored(connection))
        told = told_bundle(connection, settings.tokens.parent / BUNDLES, microgrid)
        said = last_heartbeats(connection, [microgrid]).get(microgrid, (0, None))[1]
    waited_s = max(0, int(console.api.clock.now()) - found["asked"])
    found["cards"] = [card | {"age_s": (card["age_s"] or 0) + waited_s} for card in found["cards"]]
    placed, by_key = draft.devices(microgrid), {card["key"]: card for card in found["cards"]}
    keys = {device.key for device in placed}
    counters = ((one["key"], cards.counter_card(one, unit)) for one in found["unknown"] for unit in cards.UNITS)
    counted = {number: card for number, card in counters if card["key"] in keys}
    by_key |= {card["key"]: card for card in counted.values()}
    hidden |= counted.keys()
    unknown = [number for number in found["unknown"] if number["key"] not in hidden]
    to_place = sorted((card for card in found["cards"] if card["key"] not in keys), key=_order)
    source = draft.source(microgrid) or {}
    # The adapter may have answered of the broker or login before, or just begin to connect.
    passed_s = found["asked"] - _taken_at(folder) if microgrid == STREET else _STARTS_S
    asked = [one for one in found["sources"] if passed_s > 0 and one["address"] == source.get("address")]
    is_sharing, devices = draft.is_sharing(microgrid), (said.devices if said else None) or {}
    content = {
        "step": step,
        "steps": _steps(draft, microgrid, len(to_place)),
        "titles": TITLES,
        "draft": draft,
        "town": draft.town,
        "saved": _saved(folder),
        "sources": [one for one in asked if one["complaint"] != "not connected yet"],
        "seen": len(found["cards"]) + len(counted),
        "to_place": to_place,
        "unknown": unknown,
        "left_out": found["left_out"],
        "fault": found["fault"] if passed_s >= _STARTS_S else "",
        "placed": placed,
        "by_key": by_key,
        "homes": draft.homes(microgrid),
        "source": source,
        "is_alone": is_loopback(settings.http),
        "has_time": settings.clock_is_right or bool(settings.clock) or read_machine(console.api.clock).synchronised,
        "own": shown_login(folder) if step == "broker" else None,
        "folder": shlex.quote(str(folder.resolve())),
        "shown": shown,
        "cards": cards,
        "mark": lambda key: hashlib.sha256(key.encode(errors="replace")).hexdigest()[:12],
        "languages": NAMES,
        "currencies": CURRENCIES,
        "zones": sorted(available_timezones()) if step == "you" else (),
        "is_sharing": is_sharing,
        "helping": list(cards.helping(placed, by_key, devices if is_sharing else None)),
        "street": STREET,
        "microgrid": microgrid,
        "has_care": settings.care is not None,
        "told": told,
    }
    return console.page(request, actor, f"setup_{step}.html", content)


def _chosen(draft: SiteDraft, asked: str = STREET) -> str:
    """Return the microgrid that is shown: the one asked for, the street's, or the first one."""
    return next((each for each in (asked, STREET, *draft.microgrids) if each in draft.microgrids), STREET)


def _order(card: cards.Card) -> tuple[bool, list[str]]:
    """Sort grid meters first, as a home needs one, and ``grid2`` before ``grid10``."""
    parts = re.split(r"(\d+)", card["name"])
    return card["role"] != "grid", [part.zfill(9) if part.isdecimal() else part for part in parts]


def _steps(draft: SiteDraft, microgrid: str, to_place: int) -> dict[Step, tuple[bool, str]]:
    """Return of each step whether it is done, and where it stands in words."""
    placed, is_sharing = len(draft.devices(microgrid)), draft.is_sharing(microgrid)
    zone = str(draft.town.get("timezone", "")).rpartition("/")[2].replace("_", " ")
    broker = str((draft.source(microgrid) or {}).get("address", ""))
    currency = draft.town.get("currency", "")
    return {
        "you": (bool(currency), ", ".join(filter(None, [draft.town.get("name"), zone, currency]))),
        "broker": (bool(broker), broker or "where devices publish"),
        "devices": (placed > 0, f"{placed} of {placed + to_place} placed"),
        "sharing": (is_sharing, "on" if is_sharing else "off until you say so"),
        "done": (False, "first figures in 5 minutes"),
    }


def _taken_at(folder: Path) -> float:
    """Return when the street's adapter started with the broker and login as they are now, about; 0: not known."""
    files = (folder / FILE, folder / STREET / PASSWORD, folder / _APPLIED)
    *changed, applied = (path.stat().st_mtime if path.exists() else 0.0 for path in files)
    return 0.0 if not applied else float("inf") if max(changed) > applied else applied + 1


def _saved(folder: Path) -> tuple[bool, str]:
    """Return whether the street refused the site file as it is now, and words."""
    with suppress(OSError, ValueError, TypeError, LookupError):
        applied = json.loads((folder / _APPLIED).read_bytes())
        if fault := str(applied["fault"]):
            return True, f"not taken over, the street runs on as before: {fault}"
        if applied["sha256"] != hashlib.sha256((folder / "site.toml").read_bytes()).hexdigest():
            return False, "being taken over"
    return False, "everything is saved as you go"
