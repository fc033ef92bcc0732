"""The API of runs of bills. Long work is answered with 202 and a work, whose state ``/works`` shows."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from fastapi import HTTPException, Path, Query
from pydantic import BaseModel, Field

from commonwatt.model.calendar import parse_month
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted
from utility.access.people import Actor, Right
from utility.billing import decisions as runs
from utility.billing.bill import EntryKind
from utility.billing.proof import bill_bytes
from utility.billing.run import Progress
from utility.billing.store import entries as stored
from utility.billing.store import runs as billing
from utility.billing.store import views
from utility.billing.store.documents import bill_in, refuse_altered
from utility.billing.store.views import BillOrder
from utility.webkit.actions import Act, Actions
from utility.webkit.api import WorkAnswer, work_answer
from utility.webkit.columns import Shown, Time
from utility.webkit.requests import Limit, LongLimit, RequestBody, Why, refusing
from utility.webkit.rights import (
    ReadsBills,
    ReadsTown,
)
from utility.webkit.services import Api, RequestApi
from utility.webkit.works import LongWork, WorkKind


def begin_draft(api: Api, actor: Actor, month: str) -> LongWork:
    """Begin to make the bills of a month, as a draft."""
    parse_month(month)
    now = int(api.clock.now())

    def job(progress: Progress) -> tuple[str, None]:
        number, _ = runs.draft(api.database, month, api.settings.billing.tariff, actor, now, progress)
        return f"/console/runs/{number}", None

    return api.works.start(WorkKind.BILLS, f"Bills of {month}", actor.name, now, job)


def begin_check(api: Api, actor: Actor, number: int) -> LongWork:
    """Begin to compute a draft again and to compare it, byte by byte."""
    now = int(api.clock.now())

    def job(progress: Progress) -> tuple[str, None]:
        runs.check(api.database, number, actor, now, progress)
        return f"/console/runs/{number}", None

    return api.works.start(WorkKind.BILLS, f"Check of run {number}", actor.name, now, job)


class Run(BaseModel):
    """A run of bills."""

    no: Annotated[int, Shown("Run")]
    month: Annotated[str, Shown("Month")]
    state: Annotated[str, Shown("State")]
    policy: Annotated[str, Shown("Policy")]
    code: str = Field(description="The version of the program.")
    settled_no: int = Field(description="The newest version of settled days that it counts.")
    previous_no: int = Field(description="The run of the newest month with issued bills, when it was made; 0: none.")
    digest: str = Field(description="SHA-256 of its bills, hexadecimal.")
    root: str = Field(description="Root of the tree over its bills, hexadecimal.")
    figures: dict[str, Any]
    made_by: Annotated[str, Shown("Made by")]
    made: Time
    checked_by: Annotated[str | None, Shown("Checked by")]
    checked: Time | None
    issued_by: Annotated[str | None, Shown("Issued by")]
    issued: Time | None
    notes: list[str] = Field(description="What its bills lack.")


_NOTES = {
    "provisional": "quarter-hours that may still change",
    "estimated": "estimated quarter-hours",
    "missing": "quarter-hours without data",
}

Skip = Annotated[int, Query(ge=0, le=10**7, description="How many come before.")]
Number = Annotated[int, Query(ge=0, lt=2**31)]
RunNumber = Annotated[int, Path(ge=0, lt=2**31)]


class Month(RequestBody):
    """The local month to bill."""

    month: str = Field(max_length=10)


class NewEntry(RequestBody):
    """What a person enters for bills."""

    kind: EntryKind
    subject: int = Field(ge=1, lt=2**31, description="The account; with `cancel`, the run.")
    amount: Decimal = Field(Decimal(0), description="Dollars; without meaning with `cancel`.")
    reason: Why


_ENTRIES, _WORK = "/console/entries", "/console/works/{id}"
ACTIONS = Actions()
router = ACTIONS.json


def run_row(row: Mapping[str, Any]) -> Run:
    """Return a run as its row, with notes on what its bills lack."""
    figures = row["figures"]
    notes = [f"{text} in {counted(figures[key], 'bill')}" for key, text in _NOTES.items() if figures.get(key)]
    if "days" in figures:
        notes.append(f"{figures['days']} of {figures['of_days']} days are settled: it is no month yet")
    return Run(**row, notes=notes)


@router.get("/runs")
def listed(api: RequestApi, _: ReadsTown, before: Number = 0, limit: LongLimit = 100) -> dict[str, list[Run]]:
    """Return runs of bills, the newest first; for the next page set ``before`` to the last one's number."""
    return {"runs": [run_row(row) for row in api.database.read(billing.runs, limit, before or None)]}


@router.get("/runs/{number}")
def shown(api: RequestApi, _: ReadsTown, number: RunNumber) -> Run:
    """Return a run with its sums."""
    with refusing(404), api.database.reads.begin() as connection:
        return run_row(billing.run_of(connection, number))


@router.get("/runs/{number}/bills")
def bills(
    api: RequestApi,
    _: ReadsBills,
    number: RunNumber,
    other: Number = 0,
    order: BillOrder = BillOrder.ACCOUNT,
    skip: Skip = 0,
    limit: Limit = 100,
) -> dict[str, list[views.BillRow]]:
    """Return the totals of a run's bills, beside those of another run."""
    with refusing(404), api.database.reads.begin() as connection:
        billing.run_of(connection, number)
        refuse_altered(api.database, number)
        return {"bills": views.bills_page(connection, number, other or None, order, limit, skip)}


@router.get("/runs/{number}/bills/{account}")
def bill(api: RequestApi, _: ReadsBills, number: RunNumber, account: RunNumber) -> dict[str, Any]:
    """Return an account's bill with its lines."""
    try:
        content: dict[str, Any] = json.loads(bill_bytes(bill_in(api.database, number, account)))
    except ConfigError as error:
        raise HTTPException(404, str(error)) from error
    return content


@ACTIONS.add("/runs", Right.MAKE_BILLS, back=_WORK, status=202, refused=422)
def make(act: Act, asked: Month) -> WorkAnswer:
    """Begin to make the bills of a month, as a draft; with the same inputs no second run is made."""
    return work_answer(begin_draft(act.api, act.actor, asked.month))


@ACTIONS.add("/runs/{number}/check", Right.MAKE_BILLS, back=_WORK, status=202)
def check(act: Act, number: RunNumber) -> WorkAnswer:
    """Begin to compute a draft again, compare every byte of its bills, and mark it as checked."""
    return work_answer(begin_check(act.api, act.actor, number))


@ACTIONS.add("/runs/{number}/issue", Right.ISSUE_BILLS, back="/console/runs/{number}", said="run {number} is issued")
def issue(act: Act, number: RunNumber) -> Run:
    """Issue a checked run, as another person than the one who checked it; its bills never change then."""
    runs.issue(act.database, number, act.second, act.api.settings.billing.payment_days)
    return run_row(act.database.read(billing.run_of, number))


@router.get("/entries")
def entries(
    api: RequestApi, _: ReadsBills, before: Number = 0, limit: LongLimit = 100
) -> dict[str, list[dict[str, Any]]]:
    """Return what people entered for bills, the newest first."""
    return {"entries": [*map(dict, api.database.read(stored.entries, limit, before))]}


@ACTIONS.add(
    "/entries", Right.ENTER_BILLS, back=_ENTRIES, said="entry {no} waits for a second person", status=201, refused=422
)
def enter(act: Act, asked: NewEntry) -> dict[str, Any]:
    """Enter goodwill, a fee or a credit note for an account, or that a run is cancelled, for a second person."""
    number = runs.enter(act.database, **vars(asked), actor=act.actor, now=act.now)
    return dict(act.database.read(stored.entry_of, number))


@ACTIONS.add("/entries/{number}/approve", Right.APPROVE_ENTRIES, back=_ENTRIES, said="entry {number} is approved")
def approve(act: Act, number: RunNumber) -> dict[str, Any]:
    """Approve an entry, as another person than the one who entered it; a run that it cancels is cancelled."""
    runs.approve_entry(act.database, number, act.second)
    return dict(act.database.read(stored.entry_of, number))


@ACTIONS.add("/entries/{number}/withdraw", Right.WITHDRAW_ENTRIES, back=_ENTRIES, said="entry {number} is withdrawn")
def withdraw(act: Act, number: RunNumber) -> dict[str, Any]:
    """Withdraw an entry before it is approved."""
    runs.withdraw_entry(act.database, number, act.actor, act.now)
    return dict(act.database.read(stored.entry_of, number))
