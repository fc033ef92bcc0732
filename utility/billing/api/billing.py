"""The API of tariffs and runs of bills. Long work is answered with 202 and a work, whose state ``/works`` tells."""

import json
from decimal import Decimal
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path, Query
from pydantic import BaseModel, Field

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S
from utility.billing import decisions as runs
from utility.billing.api.billing_works import Preview, begin_check, begin_draft, begin_preview
from utility.billing.canonical import bill_bytes
from utility.billing.store import billing, run_views
from utility.billing.store.bill_documents import refuse_altered
from utility.billing.store.issued_bills import bill_in
from utility.billing.store.run_views import Order
from utility.tariffs import decisions as tariffs
from utility.tariffs.store.tariffs import find_version, versions
from utility.tariffs.tariff import parse_tariff
from utility.webkit import works
from utility.webkit.parameters import Limit
from utility.webkit.rights import Approvers, Clerks, ClerksOrApprovers, Staff
from utility.webkit.services import Api
from utility.webkit.shapes import Asked, Time, refusing

Skip = Annotated[int, Query(ge=0, le=10**7, description="How many come before.")]
Number = Annotated[int, Query(ge=0, lt=2**31)]
RunNumber = Annotated[int, Path(ge=0, lt=2**31)]
VersionNumber = Annotated[int, Path(ge=0, lt=2**15)]


class Version(BaseModel):
    """A version of a tariff."""

    name: str
    version: int
    state: str
    effective: Time
    proposed_by: str
    proposed: Time
    approved_by: str | None
    approved: Time | None


class Versions(BaseModel):
    """All versions of all tariffs."""

    tariffs: list[Version]


class Text(Asked):
    """A tariff's text (TOML)."""

    source: str = Field(max_length=tariffs.MAX_TARIFF_BYTES)


class PreviewOf(Text):
    """A tariff's text, and the local month to preview it on."""

    month: str = Field("", max_length=10, description="Such as 2026-10; empty: the last one.")


class Work(BaseModel):
    """A long work that was started."""

    id: str
    what: str
    person: str
    started: Time
    state: works.State
    done: int = Field(description="Meters done so far.")
    whole: int = Field(description="All meters; 0: not known yet.")
    fault: str = Field(description="Why it failed.")
    result: str = Field(description="The address of its result in the API; empty: there is none yet.")


class Change(BaseModel):
    """What an account would pay; dollars."""

    account: int
    before: Decimal | None
    after: Decimal
    difference: Decimal


class Changes(BaseModel):
    """A page of a preview, the largest fall first."""

    month: str
    made: Time
    accounts: int
    changes: list[Change]


class Run(BaseModel):
    """A run of bills."""

    no: int
    month: str
    state: str
    policy: str
    code: str = Field(description="The version of the program.")
    figures: dict[str, Any]
    made_by: str
    made: Time
    checked_by: str | None
    checked: Time | None
    issued_by: str | None
    issued: Time | None


class Runs(BaseModel):
    """A page of runs, the newest first."""

    runs: list[Run]


class Month(Asked):
    """The local month to bill."""

    month: str = Field(max_length=10)


class BillRow(BaseModel):
    """A bill's total, and that of the account's bill in the other run; dollars."""

    account: int
    total: Decimal
    before: Decimal | None
    difference: Decimal | None


class BillRows(BaseModel):
    """A page of a run's bills."""

    bills: list[BillRow]


def add_billing(app: FastAPI, api: Api) -> None:
    """Add the endpoints."""
    _add_tariffs(app, api)
    _add_previews(app, api)
    _add_runs(app, api)
    _add_steps(app, api)


def _add_tariffs(app: FastAPI, api: Api) -> None:
    @app.get("/tariffs")
    def listed(_: Staff) -> Versions:
        """Return all versions of all tariffs."""
        with api.database.reads.begin() as connection:
            rows = versions(connection)
        return Versions(tariffs=[_version(row) for row in rows])

    @app.post("/tariffs", status_code=201)
    def propose(actor: Clerks, asked: Text) -> Version:
        """Propose a tariff, for another person to approve. A text with faults is refused with a line for each."""
        try:
            stored = tariffs.propose(api.database, asked.source, actor, int(api.clock.now()))
        except ConfigError as error:
            raise HTTPException(422, str(error).splitlines()) from error
        return _stored(api, stored.name, stored.version)

    @app.post("/tariffs/{name}/{version}/approve")
    def approve(actor: Approvers, name: str, version: VersionNumber) -> Version:
        """Publish a proposal, as another person than the one who proposed it."""
        with refusing():
            tariffs.publish(api.database, name, version, api.second(actor))
        return _stored(api, name, version)


def _add_previews(app: FastAPI, api: Api) -> None:
    @app.post("/tariffs/preview", status_code=202)
    def begin(actor: ClerksOrApprovers, asked: PreviewOf) -> Work:
        """Begin to compute a month's bills of every account by a tariff; nothing is stored."""
        try:
            tariff = parse_tariff(asked.source)
            return _work(begin_preview(api, actor, tariff, asked.source, asked.month))
        except ConfigError as error:
            raise HTTPException(422, str(error).splitlines()) from error

    @app.get("/tariffs/preview/{work_id}")
    def shown(_: ClerksOrApprovers, work_id: str, skip: Skip = 0, limit: Limit = 100) -> Changes:
        """Return what accounts would pay, the largest fall first."""
        work = api.works.find(work_id)
        if work is None or not isinstance(work.result, Preview):
            raise HTTPException(404, "there is no such preview, or not any more")
        made = work.result
        rows = made.changes[skip : skip + limit]
        changes = [Change(account=r.account, before=r.before, after=r.after, difference=r.difference) for r in rows]
        return Changes(month=made.month, made=made.made, accounts=len(made.changes), changes=changes)

    @app.get("/works/{work_id}")
    def state(_: ClerksOrApprovers, work_id: str) -> Work:
        """Return how far a long work is. One from before the service's last start is not known, and stored nothing."""
        work = api.works.find(work_id)
        if work is None:
            raise HTTPException(404, "this work is not known; if its result is not there, start it again")
        return _work(work)


def _add_runs(app: FastAPI, api: Api) -> None:
    @app.get("/runs")
    def listed(_: Staff, before: Number = 0, limit: Limit = 100) -> Runs:
        """Return runs of bills, the newest first; for the next page set ``before`` to the last one's number."""
        with api.database.reads.begin() as connection:
            return Runs(runs=[_run(row) for row in billing.runs(connection, limit, before or None)])

    @app.get("/runs/{number}")
    def shown(_: Staff, number: RunNumber) -> Run:
        """Return a run with its sums."""
        with refusing(404), api.database.reads.begin() as connection:
            return _run(billing.run_of(connection, number))

    @app.get("/runs/{number}/bills")
    def bills(
        _: ClerksOrApprovers,
        number: RunNumber,
        other: Number = 0,
        order: Order = Order.ACCOUNT,
        skip: Skip = 0,
        limit: Limit = 100,
    ) -> BillRows:
        """Return the totals of a run's bills, beside those of another run."""
        with refusing(404), api.database.reads.begin() as connection:
            billing.run_of(connection, number)
            refuse_altered(api.database, number)
            rows = run_views.bills_page(connection, number, other or None, order, limit, skip)
        found = [BillRow(account=r.account, total=r.total, before=r.before, difference=r.difference) for r in rows]
        return BillRows(bills=found)

    @app.get("/runs/{number}/bills/{account}")
    def bill(_: ClerksOrApprovers, number: RunNumber, account: RunNumber) -> dict[str, Any]:
        """Return an account's bill with its lines."""
        try:
            content: dict[str, Any] = json.loads(bill_bytes(bill_in(api.database, number, account)))
        except ConfigError as error:
            raise HTTPException(404, str(error)) from error
        return content


def _add_steps(app: FastAPI, api: Api) -> None:
    @app.post("/runs", status_code=202)
    def make(actor: Clerks, asked: Month) -> Work:
        """Begin to make the bills of a month, as a draft; with the same inputs no second run is made."""
        with refusing(422):
            return _work(begin_draft(api, actor, asked.month))

    @app.post("/runs/{number}/check", status_code=202)
    def check(actor: Clerks, number: RunNumber) -> Work:
        """Begin to compute a draft again, compare every byte of its bills, and mark it as checked."""
        with refusing():
            return _work(begin_check(api, actor, number))

    @app.post("/runs/{number}/issue")
    def issue(actor: Approvers, number: RunNumber) -> Run:
        """Issue a checked run, as another person than the one who checked it."""
        with refusing():
            runs.issue(api.database, number, api.second(actor))
        with api.database.reads.begin() as connection:
            return _run(billing.run_of(connection, number))


def _version(row: dict[str, Any]) -> Version:
    return Version(**{**row, "effective": int(row["effective"]) * QUARTER_S})


def _stored(api: Api, name: str, version: int) -> Version:
    with api.database.reads.begin() as connection:
        found = find_version(connection, name, version)
    return Version(
        name=name,
        version=version,
        state=found.state,
        effective=found.tariff.effective * QUARTER_S,
        proposed_by=found.proposed_by,
        proposed=found.proposed,
        approved_by=found.approved_by,
        approved=found.approved,
    )


def _run(row: dict[str, Any]) -> Run:
    return Run(**{name: row[name] for name in Run.model_fields})


def _work(work: works.Work) -> Work:
    facts = {name: getattr(work, name) for name in Work.model_fields if name != "result"}
    return Work(**facts, result=work.path.removeprefix("/console").replace("/rates/preview", "/tariffs/preview"))
