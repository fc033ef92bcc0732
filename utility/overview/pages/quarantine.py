"""What waits for a person: quarantined readings, findings of the checks, gaps, accounts that differ."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from commonwatt.look.dead_letter_words import row_of
from commonwatt.model.calendar import month_of
from commonwatt.model.units import QUARTER_S, SLOT_S, parse_id, quarter_of
from commonwatt.model.validation import limits_of
from commonwatt.protocol.dead_letters import DeadLetterFilter, KeptDeadLetter
from utility.billing.store.runs import issued_run
from utility.corrections.correction import OpenFinding, figure
from utility.corrections.decisions import meter_number
from utility.corrections.pages import Meter
from utility.corrections.store.checking import open_findings
from utility.overview.inbox import consequences, judged
from utility.overview.store import town
from utility.overview.store.meters import holder_at, meter_facts
from utility.readings.decisions import around
from utility.readings.store.dead_letters import dead_letters, find_dead_letter
from utility.readings.store.quarantine import QUARANTINED
from utility.registry.store.registry import account_differences
from utility.webkit.columns import columns_of, type_name
from utility.webkit.console.answers import (
    ROWS,
    After,
    Number,
    Skip,
    address,
    found,
    other_pages,
)
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import ReadsTown

_START = "/console/quarantine"


router = APIRouter(include_in_schema=False)


@router.get(_START)
def readings(
    console: RequestConsole,
    request: Request,
    actor: ReadsTown,
    meter: Meter = "",
    before: Annotated[int, Query(ge=0, lt=2**63)] = 0,
) -> HTMLResponse:
    """List quarantined readings, the newest first."""
    wanted = DeadLetterFilter(meter=parse_id(meter) if meter else None, state=QUARANTINED)
    rows = console.database.read(dead_letters, ROWS + 1, wanted, before or None)
    later = address(_START, meter=meter, before=rows[ROWS - 1].no) if len(rows) > ROWS else ""
    content = {"rows": [row_of(kept) for kept in rows[:ROWS]], "meter": meter, "later": later}
    return console.page(request, actor, "quarantine.html", content | tabs(console, "readings"))


@router.get(f"{_START}/readings/{{no}}")
def reading(console: RequestConsole, request: Request, actor: ReadsTown, no: Number) -> HTMLResponse:
    """Show a dead letter with quarantined readings among the readings around it."""
    kept = _kept(console, no)
    content = {"row": row_of(kept), "waits": kept.state == QUARANTINED} | _judging(console, kept)
    return console.page(request, actor, "quarantined_reading.html", content | tabs(console, "readings"))


@router.get(f"{_START}/readings/{{no}}/plot.json")
def plot(console: RequestConsole, _: ReadsTown, no: Number) -> dict[str, Any]:
    """Return the readings around those of a dead letter, by slot of 15 s."""
    near = around(console.database, _kept(console, no))
    if near is None:
        raise HTTPException(404, "it has no readings of a registered meter")
    lines = {"readings": (near.readings, near.there), "quarantined": (near.quarantined, near.waits)}
    return figure(lines, near.start, SLOT_S, near.record_type)


@router.get(f"{_START}/findings")
def findings(
    console: RequestConsole, request: Request, actor: ReadsTown, skip: Skip = 0, meter: Meter = ""
) -> HTMLResponse:
    """List the open findings of the daily checks, the oldest first."""
    with console.database.reads.begin() as connection:
        numbers = [found(lambda: meter_number(connection, meter))] if meter else None
        rows = open_findings(connection, ROWS + 1, numbers, skipped=skip)
    content = {"rows": rows[:ROWS], "columns": columns_of(OpenFinding), "meter": meter}
    content |= other_pages(f"{_START}/findings", skip, is_more=len(rows) > ROWS, meter=meter)
    return console.page(request, actor, "findings.html", content | tabs(console, "findings"))


@router.get(f"{_START}/gaps")
def gaps(
    console: RequestConsole, request: Request, actor: ReadsTown, after: After = "", meter: Meter = ""
) -> HTMLResponse:
    """List the slots that are requested from gateways, by meter."""
    with console.database.reads.begin() as connection:
        number = found(lambda: meter_number(connection, meter)) if meter else None
        page = found(lambda: town.gaps_page(connection, number, ROWS, after))
    rows = [
        {
            **vars(row),
            "type": type_name(row.record_type),
            "start": row.first * QUARTER_S,
            "end": row.until * QUARTER_S,
        }
        for row in page.rows
    ]
    later = address(f"{_START}/gaps", meter=meter, after=page.after) if page.after else ""
    content = {"rows": rows, "meter": meter, "later": later, "earlier": ""}
    return console.page(request, actor, "gaps.html", content | tabs(console, "gaps"))


@router.get(f"{_START}/accounts")
def accounts(console: RequestConsole, request: Request, actor: ReadsTown, skip: Skip = 0) -> HTMLResponse:
    """List accounts that meters report and that the registry does not have."""
    rows = console.database.read(account_differences, ROWS + 1, skip)
    content = {"rows": rows[:ROWS]} | other_pages(f"{_START}/accounts", skip, is_more=len(rows) > ROWS)
    return console.page(request, actor, "account_differences.html", content | tabs(console, "accounts"))


def tabs(console: Console, here: str) -> dict[str, Any]:
    """Return what the tabs of these pages show."""
    return {"counts": town.counts(console.database), "tab": here}


def _judging(console: Console, kept: KeptDeadLetter) -> dict[str, Any]:
    """Return whose reading it is, what it says and what a decision does; nothing of a meter that is not registered."""
    with console.database.reads.begin() as connection:
        facts = meter_facts(connection, kept.dead_letter.meter)
        one = None if facts is None else judged(kept, limits_of(facts.service_amps, facts.capacity))
        if facts is None or one is None:
            return {"facts": None, "one": None}
        quarter = quarter_of(one.start)
        account, month = holder_at(connection, facts.number, quarter), month_of(quarter, console.zone())
        done = consequences(one, account, month, is_issued=issued_run(connection, month) is not None)
    return {"facts": facts, "one": one, "account": account, "done": done}


def _kept(console: Console, no: int) -> KeptDeadLetter:
    kept = console.database.read(find_dead_letter, no)
    if kept is None or not kept.state:
        raise HTTPException(404, f"there are no quarantined readings with the number {no}")
    return kept
