"""Microgrids as a table, and the page of one: batteries and why they share, feeder, line, backlog, commands, a day."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Annotated, Any, Literal, get_args

import numpy as np
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from numpy.typing import NDArray

from commonwatt.look.palette import LOOKS, FlowLook, PowerFlow
from commonwatt.model.calendar import local_day
from commonwatt.model.units import QUARTER_S, EpochSeconds, Quarter, quarter_of
from commonwatt.protocol.topics import MICROGRID_PATTERN
from commonwatt.town.town import Function
from utility.cliques.jobs import unmanaged_of
from utility.cliques.store import explained
from utility.energy.quarters import QUARTERS_A_DAY
from utility.lasting.jobs import lasting_of
from utility.overview.microgrids import (
    BADGES,
    ISLAND,
    ROWS,
    BatteryFacts,
    MicrogridFacts,
    battery_lines,
    cell,
    island_words,
    sharing_summary,
    spans,
)
from utility.overview.pages.town import sources_plot
from utility.overview.store.days import counted_days
from utility.overview.store.microgrid import (
    changes_of_state,
    is_there,
    levels_of,
    meters_of,
    newest_commands,
)
from utility.overview.store.town import following, microgrids
from utility.overview.town import QuarterEnergy, dear_spans, town_power
from utility.readings.store.flows import flows
from utility.settlement.store.sharing import recorded
from utility.tariffs.store import published
from utility.tariffs.tariff import Tariff, in_force
from utility.webkit.console.answers import quarters_of
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.console.plots import plotted, single
from utility.webkit.rights import ReadsTown

PAGE = 100  # rows of a page of the table
SHARED_QUARTERS = 96  # quarters back in which sharing is listed
COMMANDS = 10  # commands that are listed
HANDOVERS = 10  # lines of the history of managers
LACKING_DAYS = 31  # days of which a street's page says that readings are not there
MARKED = 50  # newest commands of which the timeline marks those of its day
NEW_S = 3_600  # seconds for which a quarter-hour's sharing is shown beside the batteries
View = Literal["power", "batteries", "money"]
DRAWN = 6  # places on each side of the picture of sharing

_Name = Annotated[str, Path(pattern=f"^{MICROGRID_PATTERN}$")]


router = APIRouter(include_in_schema=False)


@router.get("/console/microgrids")
def table(
    console: RequestConsole, request: Request, actor: ReadsTown, after: Annotated[int, Query(ge=0, lt=2**31)] = 0
) -> Response:
    """Return a page of the table."""
    names = console.database.read(following, after, PAGE + 1)
    facts = console.database.read(microgrids, console.now(), None, names[:PAGE], unmanaged_of(console.api))
    rows = [(microgrid, cell(microgrid, console.now())) for microgrid in facts]
    later = f"/console/microgrids?after={facts[-1].number}" if len(names) > PAGE else None
    content = {"rows": rows, "later": later, "earlier": "/console/microgrids" if after else None, "badges": BADGES}
    return console.page(request, actor, "microgrids.html", content)


@router.get("/console/microgrids/{name}")
def one(
    console: RequestConsole,
    request: Request,
    actor: ReadsTown,
    name: _Name,
    day: date | None = None,
    of: View | Literal["who"] = "power",
) -> Response:
    """Return the page of one: now, with its day as ``of`` says, or who manages it and its meters."""
    facts = _facts(console, name)
    zone = console.zone()
    shown = day or local_day(console.now(), zone)
    quarters_of(shown, shown, zone)  # A day that the plot refuses may have no day before or after it.
    content = _live(console, facts) | _lists(console, name) | _timeline(console, name, shown)
    is_street, town = console.api.zone.street == name, console.api.zone.name
    shown_as = town if is_street else f"{town}: {name}" if console.api.settings.site is not None else ""
    content |= {"street": shown_as, "lacks": _lacks(console) if is_street else 0}
    content |= {"day": shown, "one_day": timedelta(days=1), "of": of, "views": get_args(View)}
    return console.page(request, actor, "microgrid.html", content)


@router.get("/console/microgrids/{name}/live")
def live(console: RequestConsole, request: Request, actor: ReadsTown, name: _Name) -> Response:
    """Return the part of the page that is polled."""
    content = _live(console, _facts(console, name)) | {"moved": True}
    return console.fragment(request, actor, "microgrid_live.html", content)


@router.get("/console/microgrids/{name}/day.json")
def plot(console: RequestConsole, _: ReadsTown, name: _Name, day: date, of: View = "power") -> dict[str, Any]:
    """Return the series of a local day for its plot: use by source, what batteries store, or dollars."""
    first, until = quarters_of(day, day, console.zone())
    # What is to come is no gap.
    until = max(first + 1, min(until, quarter_of(console.now()) + 1))
    with console.database.reads.begin() as connection:
        course = flows(connection, range(first, until), name)
        tariff = in_force([t for t in published(connection) if t.name == console.api.settings.billing.tariff], first)
    quarters, start = range(first, until), first * QUARTER_S
    if of == "power":
        dear = [] if tariff is None else dear_spans([tariff], first, until)
        there = course.used.is_whole
        energies = [QuarterEnergy.of(course, at) if is_whole else None for at, is_whole in enumerate(there.tolist())]
        return {"stack": True, "series": sources_plot(quarters, energies, dear, _looks(console, name))}
    if of == "batteries":
        line, flow, unit, there, values = "Stored", PowerFlow.BATTERY, "kWh", course.level.is_whole, course.level.energy
    else:
        flow, unit, there = PowerFlow.PLANT, console.api.zone.currency.replace("USD", "$"), course.net.is_whole
        line = f"Energy from {_looks(console, name)[flow].words}"
        values = course.net.energy * 0 if tariff is None else _cost(tariff, first, course.net.energy)
    points = plotted(single(start, QUARTER_S, values, there), 1e-6, {})
    return {"series": [{"label": line, "flow": flow, "unit": unit} | points] if there.any() else []}


def _lacks(console: Console) -> int:
    """Return how many readings of the last days are not there, or were not made."""
    today = quarter_of(console.now()) // QUARTERS_A_DAY
    counts = console.database.read(counted_days, today - LACKING_DAYS, today).total
    return counts.expected - counts.exact - counts.averaged


def _cost(tariff: Tariff, first: Quarter, net: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what each quarter's energy cost, millionths of a dollar; below 0 is credit for what was given."""
    prices = np.array([(float(period.import_), float(period.credit)) for period in tariff.prices])
    return np.asarray(
        np.rint(net * prices[tariff.periods_of(first + np.arange(len(net))), (net < 0).astype(int)]), np.int64
    )


def _is_own_street(console: Console, name: str) -> bool:
    """Return whether a microgrid is a street that runs by itself: without a town, a line or other controllers."""
    console.zone()
    return console.api.settings.site is not None and console.api.zone.street == name


def _looks(console: Console, name: str) -> dict[PowerFlow, FlowLook]:
    words = "the grid" if _is_own_street(console, name) else "the town"
    return {**LOOKS, PowerFlow.PLANT: replace(LOOKS[PowerFlow.PLANT], words=words)}


def _facts(console: Console, name: str) -> MicrogridFacts:
    refused = {microgrid: (refusal.time, refusal.text) for microgrid, refusal in console.api.refused.items()}
    facts = console.database.read(microgrids, console.now(), refused, [name], unmanaged_of(console.api))
    if not facts:
        raise HTTPException(404, f"there is no microgrid {name}; search for it above")
    return facts[0]


def _live(console: Console, facts: MicrogridFacts) -> dict[str, Any]:
    now = console.now()
    with console.database.reads.begin() as connection:
        meters = meters_of(connection, facts.microgrid)
        commands = newest_commands(connection, facts.microgrid, COMMANDS)
        managed = explained(connection, unmanaged_of(console.api), facts.microgrid)
    batteries = [row for row in meters if row["battery_capacity"] is not None and is_there(row, quarter_of(now))]
    levels = levels_of(console.database, [row["no"] for row in batteries], quarter_of(now))
    lines = battery_lines((_battery(row, levels) for row in batteries), facts.heartbeat)
    return lasting_of(console.api).told(facts.microgrid) | {
        "facts": facts,
        "cell": cell(facts, now),
        "badges": BADGES,
        "power": town_power([facts], now),
        "looks": _looks(console, facts.microgrid),
        "own_street": _is_own_street(console, facts.microgrid),
        "shared_w": _shared_w(console, facts.microgrid, now),
        "island": island_words(facts, now),
        "lines": lines,
        "summary": sharing_summary(lines, facts.heartbeat),
        "commands": commands,
        "managed": managed.assignment,
        "history": managed.history[:HANDOVERS],
    }


def _shared_w(console: Console, name: str, now: EpochSeconds) -> dict[str, tuple[int, int]]:
    """Return by meter the mean watts that it gave and received in the newest quarter-hour, if that is new."""
    newest = console.database.read(recorded, quarter_of(now - NEW_S), quarter_of(now), name, 1)
    watts = 3600 / QUARTER_S / 1000
    return {
        row["meter"]: (round(row["given"] * watts), round(row["received"] * watts))
        for quarter in newest
        for row in quarter["meters"]
    }


def _battery(row: dict[str, Any], levels: dict[int, Any]) -> BatteryFacts:
    level = levels.get(row["id"])
    return BatteryFacts(
        meter=row["id"],
        place=row["location"],
        capacity=row["battery_capacity"],
        minimum_percent=row["minimum_percent"] if row["percent"] is None else row["percent"],
        level=None if level is None else level.energy,
        level_time=None if level is None else level.time,
    )


def _lists(console: Console, name: str) -> dict[str, Any]:
    quarter = quarter_of(console.now())
    with console.database.reads.begin() as connection:
        meters = meters_of(connection, name)
        shared = recorded(connection, quarter - SHARED_QUARTERS, quarter, name, SHARED_QUARTERS)
    places = {meter["label"]: meter["location"] for meter in meters}
    return {"meters": meters, "shared": shared, "places": places, "picture": _picture(shared[:1], places)}


def _picture(newest: list[dict[str, Any]], places: dict[str, str]) -> dict[str, Any] | None:
    """Return who gave and who received in the newest quarter-hour with sharing, the greatest first."""
    for quarter in newest:
        most = {}
        for side in ("given", "received"):
            amounts = [(places.get(row["meter"], row["meter"]), row[side]) for row in quarter["meters"] if row[side]]
            most[side] = sorted(amounts, key=lambda amount: -amount[1])[:DRAWN]
        return most | {"start": quarter["start"], "shared": quarter["shared"]}
    return None


def _timeline(console: Console, name: str, day: date) -> dict[str, Any]:
    """Return the day's spans of islanding, sharing and reducing, and its commands, in thousandths of the day."""
    first, until = quarters_of(day, day, console.zone())
    begin, end = first * QUARTER_S, until * QUARTER_S
    with console.database.reads.begin() as connection:
        meters = meters_of(connection, name)
        changes = changes_of_state(connection, [meter["no"] for meter in meters], begin, min(end, console.now()))
        commands = newest_commands(connection, name, MARKED)
    boundary = {meter["no"] for meter in meters if meter["function"] == Function.BOUNDARY}
    rows = []
    for words, mask in ROWS.items():
        of_row = [change for change in changes if (change.meter in boundary) == (mask == ISLAND)]
        stretches = spans(of_row, mask, begin, min(end, console.now()))
        rows.append((words, [(span, *_thousandths(span.begin, span.end, begin, end)) for span in stretches]))
    marks = [(command, _thousandths(command["created"], end, begin, end)[0]) for command in commands]
    return {"rows": rows, "marks": [(command, at) for command, at in marks if 0 <= at < 1000]}


def _thousandths(
    begin: EpochSeconds, end: EpochSeconds, first: EpochSeconds, last: EpochSeconds
) -> tuple[float, float]:
    """Return where a span begins in a longer one, and its length; at least 3, to be seen."""
    at, length = (round(1000 * length_s / (last - first), 1) for length_s in (begin - first, end - begin))
    return at, max(3, length)
