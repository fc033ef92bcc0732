"""Microgrids as a table, and the page of one: batteries and why they share, feeder, line, backlog, commands, a day."""

from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path, Query, Request, Response

from commonwatt.model.palette import PowerFlow
from commonwatt.model.units import QUARTER_S, EpochSeconds, quarter_of
from commonwatt.protocol.topics import MICROGRID_PATTERN
from commonwatt.town.town import Function
from utility.overview.batteries import BatteryFacts, battery_lines, sharing_summary
from utility.overview.microgrids import SHAPES, Facts, cell, island_words
from utility.overview.store.microgrid import (
    changes_of_state,
    day_of_microgrid,
    is_there,
    levels_of,
    meters_of,
    newest_commands,
)
from utility.overview.store.town import microgrids
from utility.overview.timeline import ISLAND, ROWS, spans
from utility.settlement.store.sharing import recorded
from utility.takeover.jobs import unmanaged_of
from utility.takeover.store import explained
from utility.webkit.console.console import Console
from utility.webkit.console.days import KILOWATTS, local_day, quarters_of
from utility.webkit.console.plots import plotted, single
from utility.webkit.rights import Staff

PAGE = 100  # rows of a page of the table
SHARED_QUARTERS = 96  # quarters back in which sharing is listed
COMMANDS = 10  # commands that are listed
HANDOVERS = 10  # lines of the history of managers
MARKED = 50  # newest commands of which the timeline marks those of its day
DRAWN = 6  # places on each side of the picture of sharing

_Name = Annotated[str, Path(pattern=f"^{MICROGRID_PATTERN}$")]


def add_microgrids(app: FastAPI, console: Console) -> None:
    """Add the routes."""

    @app.get("/console/microgrids", include_in_schema=False)
    def table(request: Request, actor: Staff, after: Annotated[int, Query(ge=0, lt=2**31)] = 0) -> Response:
        """Return a page of the table."""
        found = console.database.read(microgrids, console.now(), unmanaged=unmanaged_of(console.api))
        facts = [each for each in found if each.number > after]
        rows = [(each, cell(each, console.now())) for each in facts[:PAGE]]
        later = f"/console/microgrids?after={rows[-1][0].number}" if len(facts) > PAGE else None
        content = {"rows": rows, "later": later, "earlier": "/console/microgrids" if after else None}
        return console.page(request, actor, "microgrids.html", content)

    @app.get("/console/microgrids/{name}", include_in_schema=False)
    def one(request: Request, actor: Staff, name: _Name, day: date | None = None) -> Response:
        """Return the page of one."""
        facts = _facts(console, name)
        zone = console.zone()
        shown = day or local_day(console.now(), zone)
        quarters_of(shown, shown, zone)  # A day that the plot refuses may have no day before or after it.
        content = _live(console, facts) | _lists(console, name) | _timeline(console, name, shown)
        content |= {"day": shown, "one_day": timedelta(days=1)}
        return console.page(request, actor, "microgrid.html", content)

    @app.get("/console/microgrids/{name}/live", include_in_schema=False)
    def live(request: Request, actor: Staff, name: _Name) -> Response:
        """Return the part of the page that is polled."""
        return console.fragment(request, actor, "microgrid_live.html", _live(console, _facts(console, name)))

    @app.get("/console/microgrids/{name}/day.json", include_in_schema=False)
    def plot(_: Staff, name: _Name, day: date) -> dict[str, Any]:
        """Return the series of a local day for its plot."""
        first, until = quarters_of(day, day, console.zone())
        # What is to come is no gap.
        until = max(first + 1, min(until, quarter_of(console.now()) + 1))
        with console.database.reads.begin() as connection:
            meters = meters_of(connection, name)
            found = day_of_microgrid(connection, meters, first, until)
        lines = (
            ("Taken from the town", PowerFlow.PLANT, "kW", KILOWATTS, found.net, found.has_net),
            ("Sun", PowerFlow.SUN, "kW", KILOWATTS, found.sun, found.has_sun),
            ("Stored", PowerFlow.BATTERY, "kWh", 1e-6, found.stored, found.has_stored),
        )
        return {
            "series": [
                {"label": label, "flow": flow, "unit": unit}
                | plotted(single(first * QUARTER_S, QUARTER_S, values, whole), scale, {})
                for label, flow, unit, scale, values, whole in lines
                if whole.any()
            ]
        }


def _facts(console: Console, name: str) -> Facts:
    refused = {one: (each.time, each.text) for one, each in console.api.refused.items()}
    found = console.database.read(microgrids, console.now(), refused, name, unmanaged_of(console.api))
    if not found:
        raise HTTPException(404, f"there is no microgrid {name}; search for it above")
    return found[0]


def _live(console: Console, facts: Facts) -> dict[str, Any]:
    now = console.now()
    with console.database.reads.begin() as connection:
        meters = meters_of(connection, facts.microgrid)
        commands = newest_commands(connection, facts.microgrid, COMMANDS)
        managed = explained(connection, unmanaged_of(console.api), facts.microgrid)
    batteries = [each for each in meters if each["battery_capacity"] is not None and is_there(each, quarter_of(now))]
    levels = levels_of(console.database, [each["no"] for each in batteries], quarter_of(now))
    lines = battery_lines((_battery(each, levels) for each in batteries), facts.heartbeat)
    return {
        "facts": facts,
        "cell": cell(facts, now),
        "shapes": SHAPES,
        "island": island_words(facts),
        "lines": lines,
        "summary": sharing_summary(lines, facts.heartbeat),
        "commands": commands,
        "managed": managed.assignment,
        "history": managed.history[:HANDOVERS],
    }


def _battery(row: dict[str, Any], levels: dict[int, Any]) -> BatteryFacts:
    level = levels.get(row["no"])
    return BatteryFacts(
        meter=row["id"],
        place=row["location"],
        capacity=row["battery_capacity"],
        minimum_percent=row["minimum_percent"] if row["percent"] is None else row["percent"],
        level=None if level is None else level.level,
        level_time=None if level is None else level.time,
    )


def _lists(console: Console, name: str) -> dict[str, Any]:
    quarter = quarter_of(console.now())
    with console.database.reads.begin() as connection:
        meters = meters_of(connection, name)
        shared = recorded(connection, quarter - SHARED_QUARTERS, quarter, name, SHARED_QUARTERS)
    places = {each["label"]: each["location"] for each in meters}
    return {"meters": meters, "shared": shared, "places": places, "picture": _picture(shared[:1], places)}


def _picture(newest: list[dict[str, Any]], places: dict[str, str]) -> dict[str, Any] | None:
    """Return who gave and who received in the newest quarter-hour with sharing, the greatest first."""
    for one in newest:
        most = {}
        for side in ("given", "received"):
            found = [(places.get(each["meter"], each["meter"]), each[side]) for each in one["meters"] if each[side]]
            most[side] = sorted(found, key=lambda each: -each[1])[:DRAWN]
        return most | {"start": one["start"], "shared": one["shared"]}
    return None


def _timeline(console: Console, name: str, day: date) -> dict[str, Any]:
    """Return the day's spans of islanding, sharing and reducing, and its commands, in thousandths of the day."""
    first, until = quarters_of(day, day, console.zone())
    begin, end = first * QUARTER_S, until * QUARTER_S
    with console.database.reads.begin() as connection:
        meters = meters_of(connection, name)
        changes = changes_of_state(connection, [each["no"] for each in meters], begin, min(end, console.now()))
        commands = newest_commands(connection, name, MARKED)
    boundary = {each["no"] for each in meters if each["function"] == Function.BOUNDARY}
    rows = []
    for words, mask in ROWS.items():
        of_row = [each for each in changes if (each.meter in boundary) == (mask == ISLAND)]
        found = spans(of_row, mask, begin, min(end, console.now()))
        rows.append((words, [(each, *_thousandths(each.begin, each.end, begin, end)) for each in found]))
    marks = [(each, _thousandths(each["created"], end, begin, end)[0]) for each in commands]
    return {"rows": rows, "marks": [(each, at) for each, at in marks if 0 <= at < 1000]}


def _thousandths(
    begin: EpochSeconds, end: EpochSeconds, first: EpochSeconds, last: EpochSeconds
) -> tuple[float, float]:
    """Return where a span begins in a longer one, and its length; at least 3, to be seen."""
    at, length = (round(1000 * each / (last - first), 1) for each in (begin - first, end - begin))
    return at, max(3, length)
