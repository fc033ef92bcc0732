"""The utility's API (K4, U1): stored data and status for programs and people; see /docs and /openapi.json.

Times in answers are UTC epoch seconds, energies milliwatt-hours, ids decimal text. The endpoints run on threads, each
with a connection of its own. Every route has a rule (``utility.webkit.rights``). A request that fails is answered by a
page for people, by JSON for programs; neither tells what the program is made of.
"""

import json
import logging
from functools import cache
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from commonwatt.model.exceptions import ConfigError
from utility.access.decisions import pairs
from utility.access.passwords import BusyError
from utility.access.people import NEED_SECOND_FACTOR
from utility.access.store.audit_log import standings
from utility.alarms import api as alarms
from utility.assembly.console import PAGES, begin_console, failed_page, refused_page, unknown_page, wrong_form
from utility.billing import api as billing
from utility.billing.proof import AlteredBillError
from utility.cliques import api as cliques
from utility.collection import api as collection
from utility.control import api as control
from utility.corrections import api as corrections
from utility.database.base import DataError, SQLAlchemyError
from utility.database.checks import is_full, is_unknown
from utility.discovery import api as discovery
from utility.exports import api as exports
from utility.fleet import api as fleet
from utility.households import api as households
from utility.openadr import api as openadr
from utility.openadr.api import BASE, problem
from utility.outbox.changes import Refused
from utility.overview import api as overview
from utility.people import api as people
from utility.readings import api as readings
from utility.readings.columns import LteLine
from utility.readings.store import reads
from utility.registry import api as registry
from utility.research import api as research
from utility.settlement import api as settlement
from utility.setup import api as setup
from utility.statistics import api as statistics
from utility.supply.store import supply_view
from utility.tariffs import api as tariffs
from utility.webkit import api as works
from utility.webkit.console.static_files import load_static
from utility.webkit.middleware import SECURITY_HEADERS, bounded_body, with_headers
from utility.webkit.page import DOCS_POLICY, POLICY, docs_page, for_people, runbooks_page
from utility.webkit.requests import Limit, MicrogridName
from utility.webkit.rights import OPEN, READS_TOWN, USES_CONSOLE, Allowed, Gate, RefusedRequestError, rule_of, unruled
from utility.webkit.services import Api, RequestApi

FULL = "the disk is full; nothing was changed"

log = logging.getLogger(__name__)


def add_refusals(app: FastAPI) -> None:
    """Add a handler for each kind of error."""

    @app.exception_handler(RefusedRequestError)
    async def refused(request: Request, error: RefusedRequestError) -> Response:
        if _is_page(request):
            return await refused_page(request, error)
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return _told(request, error.text, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        if _is_page(request):
            return await wrong_form(request, error)
        if request.url.path.startswith(BASE):
            return problem(400, "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()))
        # What was sent is not repeated: it may be a number or a character that no answer can have.
        faults = [{key: fault[key] for key in ("type", "loc", "msg")} for fault in error.errors()]
        return Response(json.dumps({"detail": faults}), 422, media_type="application/json")

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        text, why = str(error.detail) if _is_page(request) else error.detail, error.__cause__
        if _is_page(request) and isinstance(why, ConfigError):
            text = text.replace(str(why), why.text)  # without the command for a terminal
        return await _answered(request, text, error.status_code, dict(error.headers or {}))

    @app.exception_handler(ConfigError)
    async def unusable(request: Request, error: ConfigError) -> Response:
        log.warning("%s can't be done: %s", request.scope["route"].path, error)
        return await _answered(request, error.text, 422)

    @app.exception_handler(AlteredBillError)
    async def altered(request: Request, error: AlteredBillError) -> Response:
        log.error("%s", error)
        return await _answered(request, str(error), 409)

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> Response:
        return await _answered(request, str(error), 503, {"Retry-After": "5"})

    _add_faults(app)


def _add_faults(app: FastAPI) -> None:
    """Add a handler for each kind of error of database, disk and program."""

    @app.exception_handler(DataError)
    async def impossible(request: Request, error: DataError) -> Response:
        log.info("a request has a value that the database does not take: %s", error.orig)
        return await _answered(request, "a value has characters or digits that can't be stored or searched for", 422)

    @app.exception_handler(SQLAlchemyError)
    async def unreadable(request: Request, error: SQLAlchemyError) -> Response:
        api: Api = request.app.state.api
        api.health.failed(error, "an API request")
        api.metrics.store_errors.inc()
        if is_full(error):
            return await _answered(request, FULL, 503)
        if is_unknown(error):
            unknown = "whether that was stored is unknown: the database did not answer; look before you do it again"
            return _told(request, unknown, 503)
        return _told(request, "the database can't be read; see /status", 503)

    @app.exception_handler(OSError)
    async def unwritten(request: Request, error: OSError) -> Response:
        if not is_full(error):
            raise error
        request.app.state.api.health.failed(error, "the writing of a file")
        return await _answered(request, FULL, 503)

    @app.exception_handler(Exception)
    def broken(request: Request, _: Exception) -> Response:
        # The server logs it. This answer does not pass through `with_headers`.
        return _told(request, "that failed by a fault of this program, which its log has", 500, SECURITY_HEADERS)


def _is_page(request: Request) -> bool:
    return request.url.path.startswith("/console/")


async def _answered(request: Request, text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return (
        await failed_page(request, text, status, headers)
        if _is_page(request)
        else _told(request, text, status, headers)
    )


def _told(request: Request, text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """Return an answer that needs no database."""
    if _is_page(request):
        answer = unknown_page(request, text, status)
        answer.headers.update(headers or {})
        return answer
    if request.url.path.startswith(BASE):
        return problem(status, text, headers)
    return JSONResponse({"detail": text}, status, headers)


_DESCRIPTION = "Times in answers are UTC epoch seconds, energies milliwatt-hours, ids decimal text."

After = Annotated[int, Query(ge=0, lt=2**31, description="A meter's number.")]


def make_app(api: Api) -> FastAPI:
    """Return the application of a service: it has the routes that all of a process have, and its own services.

    Routes take from their request what the service gives them (``RequestApi``, ``RequestConsole``, ``gate_of``).
    """
    app = _with_routes()
    app.state.api = api
    app.state.console = begin_console(api)
    app.state.gate = Gate(
        database=api.database,
        local_key=api.local_key,
        now=api.machine_s,
        need_factor=NEED_SECOND_FACTOR[api.settings.second_factor],
    )
    app.add_middleware(bounded_body)
    app.add_middleware(with_headers)
    add_refusals(app)
    return app


def collect_routes() -> list[BaseRoute]:
    """Return the routes of all rooms, which keep nothing of a service."""
    # A request is compared with one route after the other: first those that browsers poll. Included routers would hide
    # their routes from `unruled`.
    routes = [route for its in (*PAGES, router, *_ROOMS) for route in its.routes]
    if without := unruled(routes):
        raise RuntimeError(f"routes without a rule of who may use them: {', '.join(without)}")
    for route in routes:
        if isinstance(route, APIRoute):
            route.tags = [route.endpoint.__module__.split(".")[1]]  # the room: the groups of /docs
            rule = rule_of(route)
            # Who may use it; empty: everybody, without a login.
            route.openapi_extra = {"x-roles": sorted(rule.roles) if isinstance(rule, Allowed) else []}
    return routes


@cache
def _routes() -> list[BaseRoute]:
    return collect_routes()


def _with_routes() -> FastAPI:
    # The pages that come with FastAPI run a script from another server.
    app = FastAPI(title="Commonwatt utility", description=_DESCRIPTION, version="1", openapi_url=None)
    app.router.routes.extend(_routes())
    return app


@cache
def _described() -> bytes:
    return bytes(JSONResponse(for_people(_with_routes().openapi())).body)


_ROOMS = (
    readings.router,
    settlement.router,
    registry.router,
    overview.router,
    cliques.router,
    exports.router,
    alarms.router,
    corrections.router,
    tariffs.router,
    statistics.router,
    works.router,
    billing.router,
    research.router,
    fleet.router,
    overview.jobs_router,
    households.router,
    people.router,
    control.router,
    collection.router,
    discovery.router,
    openadr.router,
    setup.router,
)
router = APIRouter()


@router.get("/docs", include_in_schema=False, dependencies=[USES_CONSOLE])
def docs() -> HTMLResponse:
    """Return the page of all endpoints, by group, with their schemas and examples."""
    return HTMLResponse(docs_page(load_static().address), headers={"Content-Security-Policy": DOCS_POLICY})


@router.get("/openapi.json", include_in_schema=False, dependencies=[USES_CONSOLE])
def openapi() -> Response:
    """Return the description of all endpoints for programs."""
    return Response(_described(), media_type="application/json")


@router.get("/runbooks", include_in_schema=False, dependencies=[USES_CONSOLE])
def runbooks() -> HTMLResponse:
    """Return the runbooks page."""
    return HTMLResponse(runbooks_page(), headers={"Content-Security-Policy": POLICY})


@router.get("/health", dependencies=[OPEN])
def health(api: RequestApi) -> dict[str, object]:
    """Return the service's health: alarms, release, and whether it is connected and the active one of several."""
    api.database.read(reads.town)
    alarms, connected = api.health.alarms(), api.connected()
    return {
        "status": "alarm" if alarms else "ok",
        "alarms": alarms,
        "head_end_connected": connected,
        "version": version("commonwatt"),
        "active": api.database.is_active(),
    }


@router.get("/metrics", response_class=Response, dependencies=[OPEN])
def metrics(api: RequestApi) -> Response:
    """Return the metrics for Prometheus."""
    return Response(generate_latest(api.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/status", dependencies=[READS_TOWN])
def status(api: RequestApi) -> dict[str, object]:
    """Return running counts by microgrid; received data that is sent again is counted again.

    ``last_refusal``: the gateway's last refused batch since the service started, with the reason.
    ``head_end_connected``: whether one of the head-ends is connected; ``head_ends``: whether each is, by address.
    ``head_end_failure``: why the last attempt to connect failed, while there is no connection.
    ``queue_s``: clock seconds since the queue of messages was last empty; no message has waited longer.
    ``alarms``: conditions that need an operator: ``store_damaged``, ``disk_full``, ``database_away``.
    ``second_people``: who may be the second of two people after a clerk, and from when on (0: from the beginning).
    ``database_away_since``: since when the database has not answered, by the machine's clock. Whenever it could
    not be read, there are no totals and no microgrids.
    """
    try:
        with api.database.reads.begin() as connection:
            microgrids = reads.status(connection)
            may_be_second = pairs(standings(connection), api.settings.second_person_wait_days)
        is_read = True
    except SQLAlchemyError as error:
        # The alarms must be reported even when the database can't be read.
        api.health.failed(error, "the reading of the status")
        microgrids, may_be_second, is_read = {}, {}, False
    for name, told in microgrids.items():
        told["last_refusal"] = _refusal(api.refused.get(name))
    names = (
        "received_batches",
        "received_blocks",
        "received_slots",
        "events",
        "dead_letters",
        "conflicts",
        "gaps_open",
    )
    # Without the database there are no figures: a 0 would be one.
    totals = {name: sum(int(str(m[name])) for m in microgrids.values()) for name in names if is_read}
    return {
        "time": int(api.clock.now()),
        "store": f"{api.database.store_id:x}",
        "head_end_connected": api.connected(),
        "head_end_failure": api.complaint() or None,
        "head_ends": api.head_ends(),
        "queue_s": api.queue_s(),
        "alarms": api.health.alarms(),
        "database_away_since": api.health.away_since,
        "second_people": may_be_second,
        "totals": totals,
        "microgrids": microgrids,
    }


@router.get("/town", dependencies=[READS_TOWN])
def town(api: RequestApi) -> dict[str, object]:
    """Return the town's own figures."""
    return api.database.read(reads.town)


@router.get("/schedules", dependencies=[READS_TOWN])
def schedules(api: RequestApi) -> dict[str, object]:
    """Return each gateway's periods in force, seconds, as its last heartbeat reports them.

    ``tuned``: the names of the periods that a command set; they override the gateway's file.
    """
    return {"schedules": api.database.read(reads.schedules)}


@router.get("/lines", dependencies=[READS_TOWN])
def lines(api: RequestApi) -> dict[str, list[LteLine]]:
    """Return the month's use of each controller's LTE line, as last reported by its gateway: IP bytes by direction.

    ``up``: sent by the controller. ``expected``: forecast for the month's end, from the use of the last seven days.
    ``level``: ``ok``, ``at_risk`` when the forecast is above the allowance, ``exceeded``, or ``unknown``.
    """
    return {"lines": [LteLine(**row) for row in api.database.read(reads.lines)]}


@router.get("/supply", dependencies=[READS_TOWN])
def supply(api: RequestApi, limit: Limit = 96) -> dict[str, object]:
    """Return the town's supply: the plant's last report, the newest purchases with their reasons, the rations.

    A purchase has what was planned, and what the plant bought in that quarter-hour by order and for need, once it
    is over. ``price``: thousandths of the price outside peak hours. ``no_purchase``: why the present quarter-hour
    has none. ``rations``: the controllers that received a short supply or an import limit, which hold now.
    ``lasts_until``: when the plant's battery is at its reserve (below it: empty), at the last hour's mean.
    """
    return api.database.read(supply_view, int(api.clock.now()), limit)


@router.get("/meters", dependencies=[READS_TOWN])
def meters(
    api: RequestApi, microgrid: MicrogridName | None = None, after: After = 0, limit: Limit = 1000
) -> dict[str, object]:
    """Return registered meters; for the next page set ``after`` to the last meter's ``no``.

    `account` is the account that has the meter now; 0: nobody.
    """
    return {"meters": api.database.read(reads.meter_rows, microgrid, after, limit, int(api.clock.now()))}


def _refusal(refused: Refused | None) -> dict[str, object] | None:
    if refused is None:
        return None
    return {"time": refused.time, "status": refused.status.name.lower(), "reason": refused.reason, "text": refused.text}
