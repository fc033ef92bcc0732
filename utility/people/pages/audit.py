"""The audit log: who changed what, when, from where, before and after; for administrators."""

from datetime import date
from typing import Annotated
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import FastAPI, Form, HTTPException, Query, Request, Response

from commonwatt.model.local_calendar import midnight
from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.access.differences import rows_of
from utility.access.store import audit_log
from utility.access.store.second_people import mark_seen, unseen
from utility.webkit.console.console import Console
from utility.webkit.rights import Admins

SHOWN = 100  # entries on one page

_Text = Annotated[str, Query(max_length=128)]


def add_audit(app: FastAPI, console: Console) -> None:
    """Add the routes."""

    @app.get("/console/audit", include_in_schema=False)
    def audit(
        request: Request,
        actor: Admins,
        person: _Text = "",
        action: _Text = "",
        subject: _Text = "",
        since: _Text = "",
        until: _Text = "",
        before_no: Annotated[int | None, Query(ge=1, lt=2**62)] = None,
    ) -> Response:
        """Return entries, newest first."""
        asked = {"person": person, "action": action, "subject": subject, "since": since, "until": until}
        zone = console.zone()
        wanted = audit_log.Wanted(
            person=person,
            action=action,
            subject=subject,
            since=_midnight("since", since, zone),
            until=_midnight("until", until, zone),
            before_no=before_no,
        )
        with console.database.reads.begin() as connection:
            found = audit_log.entries(connection, wanted, SHOWN + 1)
            attention = unseen(connection)
        entries = [(one, rows_of(one["before"], one["after"])) for one in found[:SHOWN]]
        filters = {name: text for name, text in asked.items() if text}
        older = urlencode(filters | {"before_no": found[SHOWN - 1]["no"]}) if len(found) > SHOWN else ""
        newest = urlencode(filters) if before_no is not None else None
        content = {"entries": entries, "asked": asked, "older": older, "newest": newest, "unseen": attention}
        return console.page(request, actor, "audit.html", content)

    @app.post("/console/audit/seen", include_in_schema=False)
    def seen(actor: Admins, last: Annotated[int, Form(ge=1, lt=2**62)]) -> Response:
        """Note that an administrator has seen the refused attempts up to an entry; their alarm ends."""
        with console.database.writes.begin() as connection:
            mark_seen(connection, actor, console.now(), last)
        return console.see_other(actor, "/console/audit", "The attempts are marked as seen.")


def _midnight(name: str, text: str, zone: ZoneInfo) -> EpochSeconds | None:
    if not text:
        return None
    try:
        return midnight(date.fromisoformat(text), zone) * QUARTER_S
    except (ValueError, OverflowError) as error:
        raise HTTPException(422, f"{name}: {text!r:.20} is no day; write it as 2026-11-03") from error
