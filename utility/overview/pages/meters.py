"""Meters as a list, and the page of one: any range of its series, events, exchange history, conflicts."""

from datetime import date, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from commonwatt.model.calendar import local_day
from commonwatt.model.exceptions import StoreError
from commonwatt.model.records import KNOWN_STATES, RecordType, State
from commonwatt.model.units import QUARTER_S, SLOT_S, MeterId, quarter_of
from commonwatt.protocol.topics import MICROGRID_PATTERN
from utility.energy.quarters import QUANTITY_WORDS, SettledQuality
from utility.overview.store.meters import MeterFacts, exchange_history, meter_facts, settled_series, slot_series
from utility.readings.store import reads
from utility.readings.store.compactor import conflicts
from utility.webkit.console.answers import KILOWATTS, quarters_of
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.console.plots import plotted, thinned
from utility.webkit.rights import ReadsTown

_CHANGES = {
    State.INITIALIZED: ("started", "shut down"),
    State.OFF_GRID: ("left the power net", "came back to the power net"),
    State.LOSSLESS: ("began to aggregate without loss", "stopped aggregating without loss"),
    State.LOSSY: ("began to aggregate by averages", "stopped aggregating by averages"),
    State.SHARING: ("began to share", "stopped sharing"),
    State.REDUCING: ("reduced its demand", "stopped reducing its demand"),
    State.ISOLATED: ("was isolated by command", "is no longer isolated"),
    State.DEAD_FEEDER: ("the feeder lost its voltage", "the feeder has voltage again"),
    State.SWITCH_OPEN: ("the boundary switch opened", "the boundary switch closed"),
}
"""What begins with a bit of the state, and what ends with it, for people."""

PAGE = 100  # meters of a page of the list
MOST_READ_DAYS = 190  # days of a plot of readings: they are kept for six months
EVENTS, CONFLICTS, CHANGES = 50, 20, 20  # rows of these tables on the page of a meter
# Offered ranges in days, up to today.
RANGES = (("day", 1), ("week", 7), ("month", 31), ("year", 366), ("five years", 5 * 366))
KINDS = {
    "through": "through the meter",
    "generation": "generated",
    "stored": "stored",
    "register": "register",
    "settled": "settled quarter-hours",
}
"""What can be plotted, for people."""
_SLOT_KILOWATTS = 3600 / SLOT_S / 1e6
_READINGS = {1: "averaged"}
_SETTLED = {
    int(SettledQuality.ESTIMATED): "estimated",
    int(SettledQuality.EDITED): "entered by a person",
    int(SettledQuality.AVERAGED): "averaged",
}
What = Literal["through", "generation", "stored", "register", "settled"]
_Id = Annotated[str, Path(pattern="^[0-9]{1,20}$")]
_Name = Annotated[str, Query(pattern=f"^({MICROGRID_PATTERN})?$")]


def event_words(previous: int, new: int) -> str:
    """Return what changed between two states of a meter."""
    begun = [_CHANGES[state][0] for state in State if new & ~previous & state]
    ended = [_CHANGES[state][1] for state in State if previous & ~new & state]
    unknown = ["an unknown state changed"] if (previous ^ new) & ~KNOWN_STATES else []
    return "; ".join([*begun, *ended, *unknown]) or "nothing changed"


router = APIRouter(include_in_schema=False)


@router.get("/console/meters")
def table(
    console: RequestConsole,
    request: Request,
    actor: ReadsTown,
    after: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    microgrid: _Name = "",
) -> Response:
    """Return a page of the list."""
    rows = console.database.read(reads.meter_rows, microgrid or None, after, PAGE + 1, console.now())
    of = f"microgrid={microgrid}&" if microgrid else ""
    later = f"/console/meters?{of}after={rows[PAGE - 1]['no']}" if len(rows) > PAGE else None
    earlier = f"/console/meters?{of.rstrip('&')}" if after else None
    content = {"rows": rows[:PAGE], "microgrid": microgrid, "later": later, "earlier": earlier}
    return console.page(request, actor, "meters.html", content)


@router.get("/console/meters/{meter}")
def one(
    console: RequestConsole,
    request: Request,
    actor: ReadsTown,
    meter: _Id,
    what: What | None = None,
    first: Annotated[date | None, Query(alias="from")] = None,
    last: Annotated[date | None, Query(alias="to")] = None,
) -> Response:
    """Return the page of one meter."""
    facts = _facts(console, meter)
    zone = console.zone()
    today = local_day(console.now(), zone)
    last = min(last or today, today)
    first = first or last
    quarters_of(first, last, zone)
    kind = what or ("through" if RecordType.THROUGH in facts.record_types else facts.record_types[0].name.lower())
    content = _lists(console, facts) | {"facts": facts, "what": kind, "first": first, "last": last}
    content |= {"kinds": [*(k.name.lower() for k in facts.record_types), "settled"], "names": KINDS, "today": today}
    content |= {"ranges": [(name, today - timedelta(days=days - 1)) for name, days in RANGES]}
    return console.page(request, actor, "meter.html", content)


@router.get("/console/meters/{meter}/plot.json")
def plot(
    console: RequestConsole,
    _: ReadsTown,
    meter: _Id,
    what: What,
    first: Annotated[date, Query(alias="from")],
    last: Annotated[date, Query(alias="to")],
) -> JSONResponse:
    """Return the series of a plot: at most about 1,000 points, with their extremes."""
    facts = _facts(console, meter)
    begin, until = quarters_of(first, last, console.zone())
    until = max(begin + 1, min(until, quarter_of(console.now()) + 1))
    if what == "settled":
        return JSONResponse(_settled(console, facts, begin, until))
    if until - begin > MOST_READ_DAYS * 96:
        raise HTTPException(422, f"readings are shown for at most {MOST_READ_DAYS} days; settled ones for five years")
    return JSONResponse(_readings(console, facts, RecordType[what.upper()], begin, until))


def _facts(console: Console, meter: str) -> MeterFacts:
    facts = console.database.read(meter_facts, MeterId(int(meter))) if int(meter) < 2**64 else None
    if facts is None:
        raise HTTPException(404, f"there is no meter {meter}; search for it above")
    return facts


def _lists(console: Console, facts: MeterFacts) -> dict[str, Any]:
    with console.database.reads.begin() as connection:
        events = reads.events(connection, facts.number, facts.id, EVENTS)
        at_place, changes = exchange_history(connection, facts, CHANGES)
    told = conflicts(console.database, CONFLICTS, (facts.number, facts.owner))
    names = {int(kind): kind.name.lower() for kind in RecordType}
    words = [
        each | {"words": event_words(int(str(each["previous_state"])), int(str(each["new_state"])))} for each in events
    ]
    return {"events": words, "at_place": at_place, "changes": changes, "conflicts": told, "types": names}


def _readings(console: Console, facts: MeterFacts, kind: RecordType, begin: int, until: int) -> dict[str, Any]:
    found = slot_series(console.database, facts.number, int(kind), begin, until)
    scale, unit = (_SLOT_KILOWATTS, "kW") if kind.is_flow else (1e-6, "kWh")
    line = {"label": KINDS[kind.name.lower()].capitalize(), "unit": unit, **plotted(thinned(found), scale, _READINGS)}
    return {"series": [line], "begin": begin * QUARTER_S, "end": until * QUARTER_S}


def _settled(console: Console, facts: MeterFacts, begin: int, until: int) -> dict[str, Any]:
    try:
        found = settled_series(console.database, facts.id, begin, until)
    except StoreError as error:
        raise HTTPException(500, str(error)) from error
    lines = [
        {"label": QUANTITY_WORDS[quantity].capitalize(), "unit": "kW", **plotted(thinned(series), KILOWATTS, _SETTLED)}
        for quantity, series in found.quantities.items()
    ]
    note = f"{found.provisional} quarter-hours may still change by late readings." if found.provisional else ""
    return {"series": lines, "begin": begin * QUARTER_S, "end": until * QUARTER_S, "note": note}
