"""The utility's API (K4, U1): stored data and status for programs and people; see /docs and /openapi.json.

Times in answers are UTC epoch seconds, energies milliwatt-hours, ids decimal text. The endpoints run on threads, each
with a connection of its own. Every route has a rule (``utility.webkit.rights``).
"""

import logging
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from utility.access.decisions import pairs
from utility.access.roles import NEED_SECOND_FACTOR
from utility.access.store.second_people import standings
from utility.alarms.api import add_alarms
from utility.assembly.console import add_console
from utility.assembly.refusals import add_refusals
from utility.billing.api.billing import add_billing
from utility.collection.api import add_collection
from utility.control.api import add_commands
from utility.corrections.api import add_decisions
from utility.database.base import SQLAlchemyError
from utility.exports.api import add_exports
from utility.fleet.api import add_rollouts
from utility.households.api import add_own_home
from utility.openadr.api import add_openadr
from utility.outbox.changes import Refused
from utility.overview.api.days import add_days
from utility.overview.api.jobs import add_jobs_api
from utility.overview.api.troubles import add_troubles
from utility.people.api import add_api_tokens, add_people
from utility.readings.api import add_readings
from utility.readings.columns import LteLine
from utility.readings.store import reads
from utility.registry.api import add_accounts
from utility.research.api import add_research
from utility.settlement.api import add_settlement
from utility.statistics.api import add_statistics
from utility.statistics.preview.api import add_previews
from utility.supply.store.supply_view import supply_view
from utility.takeover.api import add_assignments
from utility.tariffs.api import add_tariffs
from utility.webkit.api import add_works
from utility.webkit.console.console import Console
from utility.webkit.console.static_files import load_static
from utility.webkit.headers import bounded_body, with_headers
from utility.webkit.page import DOCS_POLICY, POLICY, docs_page, for_people, runbooks_page
from utility.webkit.parameters import LOCAL_TIMES, Limit, MicrogridName
from utility.webkit.rights import EVERYBODY, FOR_STAFF, OPEN, Allowed, Gate, rule_of, unruled
from utility.webkit.services import Api

log = logging.getLogger(__name__)

_DESCRIPTION = "Times in answers are UTC epoch seconds, energies milliwatt-hours, ids decimal text."

After = Annotated[int, Query(ge=0, lt=2**31, description="A meter's number.")]


def make_app(api: Api) -> FastAPI:
    """Return the application."""
    # The pages that come with FastAPI run a script from another server.
    app = FastAPI(title="Commonwatt utility", description=_DESCRIPTION, version="1", openapi_url=None)
    app.state.gate = Gate(
        database=api.database,
        local_key=api.local_key,
        now=api.machine_s,
        need_factor=NEED_SECOND_FACTOR[api.settings.second_factor],
    )
    app.state.zone = api.zone
    app.add_middleware(bounded_body)
    app.add_middleware(with_headers)
    # A request is compared with one route after the other: first those that browsers poll.
    add_console(app, Console(api))
    _add_pages(app)
    _add_open(app, api)
    staff = APIRouter(dependencies=[FOR_STAFF])
    _add_status(staff, api)
    _add_registry(staff, api)
    timed = APIRouter(dependencies=[FOR_STAFF, LOCAL_TIMES])
    add_readings(timed, api)
    add_settlement(timed, api)
    add_accounts(timed, api)
    add_days(timed, api)
    add_troubles(timed, api)
    add_assignments(timed, api)
    # Included routers would hide their routes from `unruled`.
    app.router.routes.extend([*staff.routes, *timed.routes])
    add_exports(app, api.database)
    add_alarms(app, api)
    add_decisions(app, api)
    add_tariffs(app, api)
    add_previews(app, api)
    add_works(app, api)
    add_billing(app, api)
    add_research(app, api)
    add_rollouts(app, api)
    add_jobs_api(app, api)
    add_own_home(app, api)
    add_people(app, api)
    add_api_tokens(app, api)
    add_commands(app, api)
    add_collection(app, api)
    add_statistics(app, api)
    add_openadr(app, api)
    for route in app.routes:
        if isinstance(route, APIRoute):
            route.tags = [route.endpoint.__module__.split(".")[1]]  # the room: the groups of /docs
            rule = rule_of(route)
            # Who may use it; empty: everybody, without a login.
            route.openapi_extra = {"x-roles": sorted(rule.roles) if isinstance(rule, Allowed) else []}
    if routes := unruled(app):
        raise RuntimeError(f"routes without a rule of who may use them: {', '.join(routes)}")
    add_refusals(app, api)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False, dependencies=[EVERYBODY])
    def docs() -> HTMLResponse:
        """Return the page of all endpoints, by group, with their schemas and examples."""
        return HTMLResponse(docs_page(load_static().address), headers={"Content-Security-Policy": DOCS_POLICY})

    @app.get("/openapi.json", include_in_schema=False, dependencies=[EVERYBODY])
    def openapi() -> JSONResponse:
        """Return the description of all endpoints for programs."""
        return JSONResponse(for_people(app.openapi()))

    @app.get("/runbooks", include_in_schema=False, dependencies=[EVERYBODY])
    def runbooks() -> HTMLResponse:
        """Return the runbooks page."""
        return HTMLResponse(runbooks_page(), headers={"Content-Security-Policy": POLICY})


def _add_open(app: FastAPI, api: Api) -> None:
    @app.get("/health", dependencies=[OPEN])
    def health() -> dict[str, object]:
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

    @app.get("/metrics", response_class=Response, dependencies=[OPEN])
    def metrics() -> Response:
        """Return the metrics for Prometheus."""
        return Response(generate_latest(api.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_status(app: APIRouter, api: Api) -> None:
    @app.get("/status")
    def status() -> dict[str, object]:
        """Return running counts by microgrid; received data that is sent again is counted again.

        ``last_refusal``: the gateway's last refused batch since the service started, with the reason.
        ``head_end_connected``: whether one of the head-ends is connected; ``head_ends``: whether each is, by address.
        ``head_end_failure``: why the last attempt to connect failed, while there is no connection. ``lasts_until`` of a
        heartbeat: when the batteries of an island, or of the public microgrid, are empty at the last hour's mean.
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


def _add_registry(app: APIRouter, api: Api) -> None:
    @app.get("/town")
    def town() -> dict[str, object]:
        """Return the town's own figures."""
        return api.database.read(reads.town)

    @app.get("/schedules")
    def schedules() -> dict[str, object]:
        """Return each gateway's periods in force, seconds, as its last heartbeat reports them.

        ``tuned``: the names of the periods that a command set; they override the gateway's file.
        """
        return {"schedules": api.database.read(reads.schedules)}

    @app.get("/lines")
    def lines() -> dict[str, list[LteLine]]:
        """Return the month's use of each controller's LTE line, as last reported by its gateway: IP bytes by direction.

        ``up``: sent by the controller. ``expected``: forecast for the month's end, from the use of the last seven days.
        ``level``: ``ok``, ``at_risk`` when the forecast is above the allowance, ``exceeded``, or ``unknown``.
        """
        return {"lines": [LteLine(**row) for row in api.database.read(reads.lines)]}

    @app.get("/supply")
    def supply(limit: Limit = 96) -> dict[str, object]:
        """Return the town's supply: the plant's last report, the newest purchases with their reasons, the rations.

        A purchase has what was planned, and what the plant bought in that quarter-hour by order and for need, once it
        is over. ``price``: thousandths of the price outside peak hours. ``no_purchase``: why the present quarter-hour
        has none. ``rations``: the controllers that received a short supply or an import limit, which hold now.
        ``lasts_until``: when the plant's battery is at its reserve (below it: empty), at the last hour's mean.
        """
        return api.database.read(supply_view, int(api.clock.now()), limit)

    @app.get("/meters")
    def meters(microgrid: MicrogridName | None = None, after: After = 0, limit: Limit = 1000) -> dict[str, object]:
        """Return registered meters; for the next page set ``after`` to the last meter's ``no``.

        `account` is the account that has the meter now; 0: nobody.
        """
        return {"meters": api.database.read(reads.meters, microgrid, after, limit, int(api.clock.now()))}


def _refusal(refused: Refused | None) -> dict[str, object] | None:
    if refused is None:
        return None
    return {"time": refused.time, "status": refused.status.name.lower(), "reason": refused.reason, "text": refused.text}
