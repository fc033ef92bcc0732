"""The utility's API (K4, U1): stored data and status for programs and people; see /docs and /openapi.json.

Times in answers are UTC epoch seconds, energies milliwatt-hours, ids decimal text. The endpoints run on threads, each
with a connection of its own. Every route has a rule (``utility.api.rights``).
"""

import logging
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Response
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from commonwatt.model.blocks import Blocks
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.protocol.dead_letter_words import row_of, wanted
from commonwatt.protocol.topics import MICROGRID_PATTERN
from utility.api.alarms import add_alarms
from utility.api.billing import add_billing
from utility.api.commands import add_commands
from utility.api.days import add_days
from utility.api.decisions import add_decisions
from utility.api.exports import add_exports
from utility.api.headers import bounded_body, with_headers
from utility.api.home import add_own_home
from utility.api.jobs import add_jobs_api
from utility.api.moments import Moment
from utility.api.page import POLICY, page, runbooks_page
from utility.api.people import add_api_tokens, add_people
from utility.api.refusals import add_refusals
from utility.api.rights import EVERYBODY, FOR_STAFF, OPEN, Gate, unruled
from utility.api.services import Api
from utility.api.statistics import add_statistics
from utility.console.app import add_console
from utility.console.console import Console
from utility.core import Refused
from utility.store import completeness, reads
from utility.store.account_differences import account_differences
from utility.store.conflicts import conflicts as conflicting_slots
from utility.store.database import Database
from utility.store.dead_letters import dead_letters as kept_dead_letters
from utility.store.sharing import recorded
from utility.store.supply_view import supply_view

MAX_READINGS_S = 7 * 86_400
"""The longest time range of one readings request, seconds."""

MAX_COMPLETENESS_S = 7 * 86_400
"""The longest time range of one completeness request, seconds; one day of a whole town is already slow."""

log = logging.getLogger(__name__)

_DESCRIPTION = "Times in answers are UTC epoch seconds, energies milliwatt-hours, ids decimal text."

Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
MeterText = Annotated[str, Query(pattern="^[0-9]{1,20}$", description="A meter's id.")]
TypeText = Annotated[str, Query(alias="type", description="A record type, by name or number.")]
MicrogridName = Annotated[str, Query(pattern=f"^{MICROGRID_PATTERN}$", description="A microgrid's id.")]
After = Annotated[int, Query(ge=0, lt=2**31, description="A meter's number.")]


def make_app(api: Api) -> FastAPI:
    """Return the application."""
    # The pages that come with FastAPI run a script from another server.
    app = FastAPI(title="Commonwatt utility", description=_DESCRIPTION, version="1", openapi_url=None)
    app.state.gate = Gate(database=api.database, local_key=api.local_key, now=api.machine_s)
    app.add_middleware(bounded_body)
    app.add_middleware(with_headers)
    _add_pages(app)
    _add_open(app, api)
    staff = APIRouter(dependencies=[FOR_STAFF])
    _add_status(staff, api)
    _add_registry(staff, api)
    _add_data(staff, api)
    _add_sharing(staff, api)
    _add_completeness(staff, api)
    add_days(staff, api)
    _add_troubles(staff, api)
    add_exports(staff, api.database)
    # Included routers would hide their routes from `unruled`.
    app.router.routes.extend(staff.routes)
    add_alarms(app, api)
    add_decisions(app, api)
    add_billing(app, api)
    add_jobs_api(app, api)
    add_own_home(app, api)
    add_people(app, api)
    add_api_tokens(app, api)
    add_commands(app, api)
    add_statistics(app, api)
    add_console(app, Console(api))
    if routes := unruled(app):
        raise RuntimeError(f"routes without a rule of who may use them: {', '.join(routes)}")
    add_refusals(app, api)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False, dependencies=[EVERYBODY])
    def docs() -> HTMLResponse:
        """Return the page of all endpoints, with a form for each."""
        return HTMLResponse(page(app.openapi()), headers={"Content-Security-Policy": POLICY})

    @app.get("/openapi.json", include_in_schema=False, dependencies=[EVERYBODY])
    def openapi() -> JSONResponse:
        """Return the description of all endpoints for programs."""
        return JSONResponse(app.openapi())

    @app.get("/runbooks", include_in_schema=False, dependencies=[EVERYBODY])
    def runbooks() -> HTMLResponse:
        """Return the runbooks page."""
        return HTMLResponse(runbooks_page(), headers={"Content-Security-Policy": POLICY})


def _add_open(app: FastAPI, api: Api) -> None:
    @app.get("/health", dependencies=[OPEN])
    def health() -> dict[str, object]:
        """Return the service's health: its alarms, and whether it is connected to the head-end broker."""
        with api.database.reads.begin() as connection:
            reads.town(connection)
        alarms = api.health.alarms()
        return {"status": "alarm" if alarms else "ok", "alarms": alarms, "head_end_connected": api.connected()}

    @app.get("/metrics", response_class=Response, dependencies=[OPEN])
    def metrics() -> Response:
        """Return the metrics for Prometheus."""
        return Response(generate_latest(api.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_status(app: APIRouter, api: Api) -> None:
    @app.get("/status")
    def status() -> dict[str, object]:
        """Return running counts by microgrid; received data that is sent again is counted again.

        ``last_refusal``: the gateway's last refused batch since the service started, with the reason.
        ``head_end_failure``: why the last attempt to connect failed, while there is no connection.
        ``alarms``: conditions that need an operator: ``store_damaged``, ``disk_full``.
        """
        try:
            with api.database.reads.begin() as connection:
                microgrids = reads.status(connection)
        except SQLAlchemyError as error:
            # The alarms must be reported even when the database can't be read.
            api.health.failed(error)
            microgrids = {}
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
        totals = {name: sum(int(str(m[name])) for m in microgrids.values()) for name in names}
        return {
            "time": int(api.clock.now()),
            "store": f"{api.database.store_id:x}",
            "head_end_connected": api.connected(),
            "head_end_failure": api.complaint() or None,
            "alarms": api.health.alarms(),
            "totals": totals,
            "microgrids": microgrids,
        }


def _add_registry(app: APIRouter, api: Api) -> None:
    @app.get("/town")
    def town() -> dict[str, object]:
        """Return the town's own figures."""
        with api.database.reads.begin() as connection:
            return reads.town(connection)

    @app.get("/schedules")
    def schedules() -> dict[str, object]:
        """Return each gateway's periods in force, seconds, as its last heartbeat reports them.

        ``tuned``: the names of the periods that a command set; they override the gateway's file.
        """
        with api.database.reads.begin() as connection:
            return {"schedules": reads.schedules(connection)}

    @app.get("/lines")
    def lines() -> dict[str, object]:
        """Return the month's use of each controller's LTE line, as last reported by its gateway: IP bytes by direction.

        ``up``: sent by the controller. ``expected``: forecast for the month's end, from the use of the last seven days.
        ``level``: ``ok``, ``at_risk`` when the forecast is above the allowance, ``exceeded``, or ``unknown``.
        """
        with api.database.reads.begin() as connection:
            return {"lines": reads.lines(connection)}

    @app.get("/supply")
    def supply(limit: Limit = 96) -> dict[str, object]:
        """Return the town's supply: the plant's last report, the newest purchases with their reasons, the rations.

        A purchase has what was planned, and what the plant bought in that quarter-hour by order and for need, once it
        is over. ``price``: thousandths of the price outside peak hours. ``no_purchase``: why the present quarter-hour
        has none. ``rations``: the controllers that were told a short supply or an import limit, which hold now.
        """
        with api.database.reads.begin() as connection:
            return supply_view(connection, int(api.clock.now()), limit)

    @app.get("/meters")
    def meters(microgrid: MicrogridName | None = None, after: After = 0, limit: Limit = 1000) -> dict[str, object]:
        """Return registered meters; for the next page set ``after`` to the last meter's ``no``.

        `account` is the account that has the meter now; 0: nobody.
        """
        with api.database.reads.begin() as connection:
            return {"meters": reads.meters(connection, microgrid, after, limit, int(api.clock.now()))}


def _add_data(app: APIRouter, api: Api) -> None:
    def registered(meter: MeterText) -> tuple[int, int]:
        return _registered(api.database, meter)

    @app.get("/readings")
    def readings(
        meter: Annotated[tuple[int, int], Depends(registered)], start: Moment, end: Moment, kind: TypeText = "through"
    ) -> dict[str, object]:
        """Return the readings of one meter that start in ``[start, end)``: [slot's start, value, quality].

        Quality 2 is exact, 1 averaged; a slot that is missing is not listed. ``type`` is a name or a number.
        """
        record_type = _record_type(kind)
        _check_range(start, end, MAX_READINGS_S)
        blocks = reads.readings(
            api.database, meter[1], record_type, start // QUARTER_S, max(start, end - 1) // QUARTER_S
        )
        return {
            "meter": str(meter[0]),
            "type": _type_name(record_type),
            "unit": "mWh",
            "slot_s": SLOT_S,
            "start": start,
            "end": end,
            "conflicts": len({(int(extra["row"]), int(extra["slot"])) for extra in blocks.extras}),
            "readings": [reading for reading in _expanded(blocks) if start <= reading[0] < end],
        }

    @app.get("/events")
    def events(meter: Annotated[tuple[int, int], Depends(registered)], limit: Limit = 100) -> dict[str, object]:
        """Return the newest events of one meter, newest first."""
        with api.database.reads.begin() as connection:
            return {"events": reads.events(connection, meter[1], meter[0], limit)}


def _add_sharing(app: APIRouter, api: Api) -> None:
    @app.get("/sharing")
    def sharing(
        start: Moment, end: Moment, microgrid: MicrogridName | None = None, limit: Limit = 1000
    ) -> dict[str, object]:
        """Return who gave and received by sharing in the quarter-hours that begin in ``[start, end)``, newest first.

        By microgrid, milliwatt-hours, from stored readings. Quarter-hours without sharing are not listed. Late readings
        make a new ``version``; ``complete``: every reading that is needed was there.
        """
        _check_range(start, end, MAX_COMPLETENESS_S)
        if microgrid is not None:
            _check_microgrid(api.database, microgrid)
        first, last = -(-start // QUARTER_S), (end - 1) // QUARTER_S
        with api.database.reads.begin() as connection:
            return {"sharing": recorded(connection, first, last, microgrid, limit)}


def _add_completeness(app: APIRouter, api: Api) -> None:
    @app.get("/completeness")
    def complete(
        start: Moment, end: Moment, microgrid: MicrogridName | None = None, meter: MeterText | None = None
    ) -> dict[str, Any]:
        """Count the present and missing slots of the finished quarters that begin in ``[start, end)``, by reason.

        By microgrid; for one ``microgrid`` or ``meter`` also by meter and record type. A meter counts from its first
        quarter with data.
        """
        _check_range(start, end, MAX_COMPLETENESS_S)
        if microgrid is not None:
            _check_microgrid(api.database, microgrid)
        if meter is not None:
            _registered(api.database, meter)
        first, last = completeness.settled_range(int(api.clock.now()), start, end)
        found = completeness.completeness(api.database, first, last, microgrid, None if meter is None else int(meter))
        answer: dict[str, Any] = {"start": first * QUARTER_S, "end": max(first, last) * QUARTER_S}
        answer["microgrids"] = {
            name: {"expected": counts.expected, **vars(counts)}
            for name, counts in completeness.by_microgrid(found).items()
        }
        if microgrid is not None or meter is not None:
            answer["series"] = [
                {
                    "meter": str(s.meter),
                    "type": _type_name(s.record_type),
                    "expected": s.counts.expected,
                    **vars(s.counts),
                }
                for s in found
            ]
        return answer


def _add_troubles(app: APIRouter, api: Api) -> None:
    @app.get("/dead-letters")
    def dead_letters(
        meter: MeterText | None = None,
        reason: Annotated[str | None, Query(max_length=40, description="A reason, by name or number.")] = None,
        since: Moment = 0,
        state: Annotated[
            Literal["quarantined", "released", "refused"] | None, Query(description="What was decided.")
        ] = None,
        limit: Limit = 100,
    ) -> dict[str, object]:
        """Return the newest dead letters: rejected records and messages, whole or truncated, with the reason.

        Dead letters in state `quarantined` have readings that are in no block until a person decides: implausible ones,
        and readings from a controller that is not assigned to the meter (`not assigned`).
        """
        try:
            asked = wanted(meter, reason, str(since), 0, state or "")
        except ConfigError as error:
            raise HTTPException(422, str(error).removeprefix("--")) from error
        with api.database.reads.begin() as connection:
            return {"dead_letters": [row_of(kept) for kept in kept_dead_letters(connection, limit, asked)]}

    @app.get("/conflicts")
    def conflicts(limit: Limit = 100) -> dict[str, object]:
        """Return slots with conflicting values, each value with the controllers that sent it.

        The smallest value is used. A slot is listed once its quarter-hour is compacted: up to `compact_s` (900 s)
        and a minute after the quarter-hour's end. Conflicting events are in `/dead-letters`, without
        delay.
        """
        return {"conflicts": conflicting_slots(api.database, limit)}

    @app.get("/account-differences")
    def differences(limit: Limit = 100) -> dict[str, object]:
        """Return the accounts that meters report and that the registry does not have, newest first.

        The registered account is billed. `registered` 0 means that nobody had the meter; `told` is `others` for all
        accounts beyond ten of a meter; `reports` counts messages about it: a gateway sends one a day.
        """
        with api.database.reads.begin() as connection:
            return {"account_differences": account_differences(connection, limit)}

    @app.get("/gaps")
    def gaps(limit: Limit = 100) -> dict[str, object]:
        """Return the oldest blocks with missing slots that are being requested."""
        with api.database.reads.begin() as connection:
            return {"gaps": reads.gaps(connection, limit)}

    @app.get("/commands")
    def commands(limit: Limit = 100) -> dict[str, object]:
        """Return the newest commands to gateways with their outcomes."""
        with api.database.reads.begin() as connection:
            return {"commands": reads.commands(connection, limit)}


def _refusal(refused: Refused | None) -> dict[str, object] | None:
    if refused is None:
        return None
    return {"time": refused.time, "status": refused.status.name.lower(), "reason": refused.reason, "text": refused.text}


def _expanded(blocks: Blocks) -> Iterator[tuple[int, int, int]]:
    """Yield start, value and quality of each slot that is not missing."""
    for row, quarter in enumerate(blocks.quarter.tolist()):
        slots = zip(blocks.values[row].tolist(), blocks.quality[row].tolist(), strict=True)
        for slot, (value, quality) in enumerate(slots):
            if quality:
                yield quarter * QUARTER_S + slot * SLOT_S, value, quality


def _record_type(text: str) -> RecordType:
    """Return the record type of a name or a number."""
    for kind in RecordType:
        if text.lower() == kind.name.lower() or text == str(int(kind)):
            return kind
    names = ", ".join(f"{kind.name.lower()} ({int(kind)})" for kind in RecordType)
    raise HTTPException(422, f"type must be one of {names}, not {text!r}")


def _type_name(number: int) -> str:
    return RecordType(number).name.lower()


def _registered(database: Database, meter: str) -> tuple[int, int]:
    """Return the id and the number of a registered meter."""
    with database.reads.begin() as connection:
        number = reads.meter_number(connection, int(meter))
    if number is None:
        raise HTTPException(404, f"meter {meter} is not registered")
    return int(meter), number


def _check_microgrid(database: Database, name: str) -> None:
    with database.reads.begin() as connection:
        if not reads.is_controller(connection, name):
            raise HTTPException(404, f"microgrid {name} is not registered")


def _check_range(start: int, end: int, longest_s: int) -> None:
    if not start < end <= start + longest_s:
        raise HTTPException(422, f"end must be after start, by at most {longest_s} s ({longest_s // 86_400} days)")
