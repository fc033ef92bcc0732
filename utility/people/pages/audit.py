"""The audit log: who changed what, when, from where, before and after; for administrators."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse

from commonwatt.model.calendar import midnight
from commonwatt.model.text import line_of
from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.access.audit import ACTIONS, action_words, rows_of
from utility.access.store import audit_log
from utility.access.store.audit_log import mark_seen, unseen
from utility.webkit.console.answers import attached
from utility.webkit.console.console import RequestConsole
from utility.webkit.console.rendering import local_words
from utility.webkit.rights import READS_AUDIT, EndsRefusals, ReadsAudit

VIA = {"session": "the console", "token": "a program", "machine": "the machine"}

_HEAD = ("number", "time", "person", "by", "address", "action", "what was done", "subject", "before and after")


def with_changes(
    entries: list[dict[str, Any]], zone: ZoneInfo
) -> list[tuple[dict[str, Any], list[tuple[str, str, str]]]]:
    """Return entries, each with the rows of what changed."""
    return [(one, _changes(one, zone)) for one in entries]


def csv_lines(entries: Iterator[Mapping[str, Any]], zone: ZoneInfo) -> Iterator[str]:
    """Yield entries as lines of CSV, times in the town's zone."""
    yield line_of(_HEAD)
    for one in entries:
        changes = "; ".join(f"{name}: {was} → {now}".strip() for name, was, now in _changes(one, zone))
        time, via = local_words(one["time"], zone), VIA.get(one["via"], one["via"])
        what = (one["action"], action_words(one["action"]), one["subject"], changes)
        yield line_of((one["no"], time, one["person"], via, one["address"], *what))


def _changes(entry: Mapping[str, Any], zone: ZoneInfo) -> list[tuple[str, str, str]]:
    return rows_of(entry["before"], entry["after"], partial(local_words, zone=zone))


SHOWN = 100  # entries on one page

_Text = Annotated[str, Query(max_length=128)]


@dataclass(frozen=True)
class Filters:
    """What a person asks of the log; empty texts select nothing."""

    person: _Text = ""  # the person's name
    action: _Text = ""  # the start of the action's name
    subject: _Text = ""  # the start of the subject
    since: _Text = ""  # the first local day
    until: _Text = ""  # the local day after the last

    def wanted(self, zone: ZoneInfo) -> audit_log.AuditFilter:
        """Return the same for the log.

        Raises:
            HTTPException: A day is none.
        """
        since, until = _midnight("since", self.since, zone), _midnight("until", self.until, zone)
        return audit_log.AuditFilter(
            person=self.person, action=self.action, subject=self.subject, since=since, until=until
        )


_Filters = Annotated[Filters, Depends()]


router = APIRouter(include_in_schema=False)


@router.get("/console/audit")
def audit(
    console: RequestConsole,
    request: Request,
    actor: ReadsAudit,
    filters: _Filters,
    before_no: Annotated[int | None, Query(ge=1, lt=2**62)] = None,
) -> Response:
    """Return entries, newest first."""
    zone = console.zone()
    wanted = replace(filters.wanted(zone), before_no=before_no)
    with console.database.reads.begin() as connection:
        found = audit_log.entries(connection, wanted, SHOWN + 1)
        attention = unseen(connection)
    asked = {name: text for name, text in asdict(filters).items() if text}
    content = {
        "entries": with_changes(found[:SHOWN], zone),
        "asked": asdict(filters),
        "actions": _by_subject(),
        "via": VIA,
        "older": urlencode(asked | {"before_no": found[SHOWN - 1]["no"]}) if len(found) > SHOWN else "",
        "newest": urlencode(asked) if before_no is not None else None,
        "file": f"/console/audit/file?{urlencode(asked)}",
        "unseen": attention,
    }
    return console.page(request, actor, "audit.html", content)


@router.get("/console/audit/file", dependencies=[READS_AUDIT])
def file(console: RequestConsole, filters: _Filters) -> StreamingResponse:
    """Return all entries that the filters leave as CSV, newest first."""
    zone = console.zone()
    lines = csv_lines(audit_log.all_entries(console.database, filters.wanted(zone)), zone)
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=attached("audit-log.csv"))


@router.post("/console/audit/seen")
def seen(console: RequestConsole, actor: EndsRefusals, last: Annotated[int, Form(ge=1, lt=2**62)]) -> Response:
    """Note that an administrator has seen the refused attempts up to an entry; their alarm ends."""
    console.database.write(mark_seen, actor, console.now(), last)
    return console.see_other(actor, "/console/audit", "The attempts are marked as seen.")


def _by_subject() -> dict[str, dict[str, str]]:
    """Return the actions in words, by the first word of their names."""
    found: dict[str, dict[str, str]] = {}
    for action, words in ACTIONS.items():
        found.setdefault(action.partition(".")[0], {})[action] = words
    return found


def _midnight(name: str, text: str, zone: ZoneInfo) -> EpochSeconds | None:
    if not text:
        return None
    try:
        return midnight(date.fromisoformat(text), zone) * QUARTER_S
    except (ValueError, OverflowError) as error:
        raise HTTPException(422, f"{name}: {text!r:.20} is no day; write it as 2026-11-03") from error
