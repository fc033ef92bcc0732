"""The town at a glance, live; its completeness by day and by microgrid; and the search in it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from commonwatt.look.palette import LOOKS, FlowLook, PowerFlow
from commonwatt.model.calendar import month_after, month_before, month_quarters
from commonwatt.model.units import QUARTER_S, ControllerId, EpochSeconds, MicrogridId
from utility.access.people import Actor, Right, Role
from utility.cliques.store import load_orders
from utility.energy.quarters import QUARTERS_A_DAY
from utility.overview.inbox import of_roles
from utility.overview.metrics import Figures, town_metrics
from utility.overview.microgrids import BADGES, Cell
from utility.overview.pages.town_view import TownState, TownView, month_days
from utility.overview.store.days import counted_days
from utility.overview.store.devices import find
from utility.overview.town import QuarterEnergy, Today
from utility.readings.columns import Refilling
from utility.readings.store.completeness import Completeness
from utility.readings.store.gateways import refills
from utility.webkit.columns import columns_of
from utility.webkit.console.answers import KILOWATTS
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.console.plots import line
from utility.webkit.rights import ReadsTown
from utility.webkit.services import Api

MOST_FRAGMENTS = 32  # versions of which the changes are kept rendered: browsers have the last few
# The kinds of microgrids, for people, in the order of the page.
KINDS = {"public": "Public", "apartment": "Apartments", "residential": "Residential"}

# The sums of the town's day: words, the energy's name, its flow, and whether more of it is good.
_FIGURES = (
    ("Used", "used", PowerFlow.USE, False),
    ("Sun", "sun", PowerFlow.SUN, True),
    ("Given between neighbours", "given", PowerFlow.NEIGHBOURS, True),
    ("Taken from the plant", "bought", PowerFlow.PLANT, False),
)

# By what tiles are coloured: the words, and by mark what it means.
TILES = {
    "battery": ("Battery", {"battery": "above the minimum", "warning": "less than 10 % above", "bad": "below it"}),
    "state": ("State", {"good": "well", "warning": "late", "islanded": "island", "bad": "alarm"}),
    "heard": ("Age", {"good": "heard now", "warning": "minutes ago", "bad": "longer ago"}),
    "line": ("Line", {"good": "ok", "warning": "at risk", "bad": "exceeded", "idle": "unknown"}),
}


def begin(console: Console) -> None:
    """Count the town's state in the service's metrics, and have streams tell of a change."""
    view = console.api.part(TownView)
    console.api.metrics.watch(lambda: town_metrics(lambda: metrics_of(view.get())))
    console.streams.marks["town"] = lambda: "" if (now := view.recent()) is None else f"{now.time} {now.version}"


router = APIRouter(include_in_schema=False)


@router.get("/console/town")
def page(console: RequestConsole, request: Request, actor: ReadsTown) -> Response:
    """Return the page."""
    state = console.api.part(TownView).get()
    groups = _groups(state, console.database.read(load_orders))
    content = _figures(state, actor) | {"groups": groups, "since": 0, "tiles": TILES}
    return console.page(request, actor, "town.html", content)


@router.get("/console/town/day.json")
def day(console: RequestConsole, _: ReadsTown) -> dict[str, Any]:
    """Return the use of the last 24 hours by source, for its plot."""
    state = console.api.part(TownView).get()
    return day_plot(state.today, state.dear)


def _rendered(console: Console, request: Request, actor: Actor, since: int) -> bytes:
    state = console.api.part(TownView).get()

    def render() -> bytes:
        changed = [cell for cell in state.cells if state.changed[cell.microgrid] > since]
        content = _figures(state, actor) | {"changed": changed, "now": state.time}
        return bytes(console.fragment(request, actor, "town_live.html", content).body)

    return console.api.part(_fragments).get(state, (since, actor.roles), render)


@router.get("/console/town/live")
async def live(
    console: RequestConsole, request: Request, actor: ReadsTown, since: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """Return the figures, and the cells that changed since a version, which replace those of the page."""
    # Nothing in it is of one person: browsers with one version and the same roles get the same bytes. What is made
    # already needs no thread; that would cost more than the rest of the answer.
    state = console.api.part(TownView).recent()
    body = None if state is None else console.api.part(_fragments).kept(state, (since, actor.roles))
    return HTMLResponse(await run_in_threadpool(_rendered, console, request, actor, since) if body is None else body)


def _fragments(_: Api) -> "_Fragments":
    return _Fragments()


_Which = tuple[int, frozenset[Role]]  # the version that a browser has, and the roles of its person


class _Fragments:
    """The rendered parts of the newest state of the town, by the version that a browser has and its person's roles."""

    def __init__(self) -> None:
        self._of: tuple[TownState | None, dict[_Which, bytes]] = (None, {})

    def kept(self, state: TownState, which: _Which) -> bytes | None:
        """Return a part that is rendered."""
        newest, kept = self._of
        return kept.get(which) if newest is state else None

    def get(self, state: TownState, which: _Which, render: Callable[[], bytes]) -> bytes:
        """Return a part; at most ``MOST_FRAGMENTS`` are kept."""
        newest, kept = self._of
        if newest is not state:
            kept = {}
            self._of = (state, kept)
        body = kept.get(which)
        if body is None:
            body = render()
            if len(kept) < MOST_FRAGMENTS:
                kept[which] = body
        return body


def _groups(
    state: TownState, orders: Mapping[MicrogridId, Sequence[ControllerId]]
) -> list[tuple[str, int, list[list[Cell]]]]:
    """Return the cells by kind, with their count, and by clique: those that may manage each other stand together."""
    kinds = [*KINDS, *sorted({cell.kind for cell in state.cells} - KINDS.keys())]
    groups = []
    for kind in kinds:
        of_kind = [cell for cell in state.cells if cell.kind == kind]
        cliques: dict[str, list[Cell]] = {}
        for cell in of_kind:
            cliques.setdefault(min(orders.get(cell.microgrid, (cell.microgrid,))), []).append(cell)
        groups.append((KINDS.get(kind, kind), len(of_kind), list(cliques.values())))
    return [group for group in groups if group[1]]


def _figures(state: TownState, actor: Actor) -> dict[str, Any]:
    return {
        "items": of_roles(state.items, actor.roles),
        "state": state,
        "badges": BADGES,
        "power": state.power,
        "today": state.today,
        "figures": figures_of(state.today),
        "parts": _parts(state.today),
        "plant": state.supply["plant"],
        "rations": state.supply["rations"],
        "purchase": next(iter(state.supply["purchases"]), None),
        "no_purchase": state.supply["no_purchase"],
        "yesterday": permille_of(state.yesterday.total),
        "month": permille_of(state.month.total),
    }


def _parts(today: Today) -> list[tuple[PowerFlow, float, bool]]:
    """Return where power comes from or goes: the flow, watts, and whether it goes to the homes."""
    flows = ((PowerFlow.SUN, today.sun_w), (PowerFlow.BATTERY, -today.charged_w), (PowerFlow.PLANT, today.net_w))
    return [(flow, abs(watts), watts >= 0) for flow, watts in flows]


def day_plot(today: Today, dear: Sequence[tuple[EpochSeconds, EpochSeconds]] = ()) -> dict[str, Any]:
    """Return what was used in each quarter-hour of the last 24 hours, kW by source; none where it is unknown.

    Args:
        dear: When energy from the town costs most.
    """
    quarters = today.passed_day if today.quarter is None else range(today.passed_day.start, today.quarter + 1)
    energies = [today.quarters.get(quarter) for quarter in quarters]
    unknown = f"{energies.count(None)} of {len(energies)} quarter-hours of the last day are not shown"
    return {
        "stack": True,
        "note": f"{unknown}: without readings, or being read." if None in energies else "",
        "series": sources_plot(quarters, energies, dear),
    }


def sources_plot(
    quarters: range,
    energies: Sequence[QuarterEnergy | None],
    dear: Sequence[tuple[EpochSeconds, EpochSeconds]],
    looks: Mapping[PowerFlow, FlowLook] = LOOKS,
) -> list[dict[str, Any]]:
    """Return series of what was used in quarter-hours, kW by source."""
    by_source = [None if energy is None else energy.by_source() for energy in energies]
    x = [quarter * QUARTER_S for quarter in quarters]
    shaded = [[begin, end, "peak hours, when energy costs most"] for begin, end in dear]
    return [
        line(
            looks[flow].words,
            "kW",
            x,
            QUARTER_S,
            [None if flows is None else round(flows[flow] * KILOWATTS, 4) for flows in by_source],
        )
        | {"flow": flow, "shaded": shaded, "missing": 0}
        for flow in (PowerFlow.SUN, PowerFlow.BATTERY, PowerFlow.NEIGHBOURS, PowerFlow.PLANT)
    ]


def figures_of(today: Today) -> list[dict[str, Any]]:
    """Return the sums of the day that matter, each beside the day before at this time, and its last 24 hours."""
    day = [today.quarters.get(quarter) for quarter in today.passed_day]
    part = f"in {today.known} of {today.passed} quarter-hours" if today.known < today.passed - 1 else ""
    figures: list[dict[str, Any]] = []
    for words, name, flow, is_more_good in _FIGURES:
        now, before = getattr(today.total, name), today.before and getattr(today.before, name)
        percent = round(100 * (now - before) / before) if before and before > 0 else 0
        spark = [None if energy is None else getattr(energy, name) for energy in day]
        figures.append(
            {
                "words": words,
                "value": f"{now / 1e9:,.2f} MWh" if abs(now) >= 1e9 else f"{now / 1e6:,.1f} kWh",
                "flow": flow,
                "change": f"{abs(percent):,} % {'more' if percent > 0 else 'less'}" if percent else "",
                "is_good": (percent > 0) == is_more_good if percent else None,
                "note": part or ("" if before is None else "than yesterday" if percent else "as yesterday"),
                "spark": spark if any(spark) else None,
            }
        )
    return figures


def permille_of(counts: Completeness) -> float | None:
    """Return how many thousandths of the slots that a meter was on for are there; ``None``: none is expected."""
    expected = counts.expected - counts.off
    return 1000 * (counts.exact + counts.averaged) / expected if expected else None


def metrics_of(state: TownState) -> Figures:
    """Return the figures that Prometheus gets."""
    today = state.today
    counts = {"yesterday": state.yesterday.total, "month": state.month.total}
    watts = {"used": today.used_w, "generated": today.sun_w, "taken": today.net_w}
    expected = {period: count.expected - count.off for period, count in counts.items()}
    there = {period: count.exact + count.averaged for period, count in counts.items()}
    return {
        "microgrids": {condition.value: number for condition, number in state.counts.items()},
        "town_watts": {} if today.quarter is None else watts,
        "expected_slots": expected,
        "missing_slots": {period: expected[period] - there[period] for period in counts},
    }


WORST = 50  # microgrids that are listed

_EPOCH = date(1970, 1, 1)
_Month = Annotated[str | None, Query(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$", description="A local month.")]


@router.get("/console/completeness")
def completeness_page(console: RequestConsole, request: Request, actor: ReadsTown, month: _Month = None) -> Response:
    """Return the page."""
    zone = console.zone()
    present, _, until = month_days(console.now(), zone)
    shown = month or present
    first, end = (quarter // QUARTERS_A_DAY for quarter in month_quarters(shown, zone))
    counts = console.database.read(counted_days, first, max(first, min(end, until)))
    worst = sorted(counts.by_microgrid.items(), key=lambda item: permille_of(item[1]) or 0)[:WORST]
    content = {
        "month": shown,
        "found": counts,
        "total": permille_of(counts.total),
        "days": [(_EPOCH + timedelta(days=day), count, permille_of(count)) for day, count in counts.by_day.items()],
        "worst": [(name, count, permille_of(count)) for name, count in worst],
        "earlier": f"?month={month_before(shown)}",
        "later": f"?month={month_after(shown)}" if shown < present else None,
    }
    return console.page(request, actor, "completeness.html", content)


@router.get("/console/refilling")
def refilling(console: RequestConsole, request: Request, actor: ReadsTown) -> Response:
    """Return how far each gateway is in refilling a database that was lost."""
    rows = console.database.read(refills, int(console.now()))
    return console.page(request, actor, "refilling.html", {"rows": rows, "columns": columns_of(Refilling)})


def _results(console: Console, actor: Actor, text: str) -> list[tuple[str, str]]:
    """Return words and address of each result: an account, microgrids, pages of the console, meters."""
    number, hits = text.lower().removeprefix("account").strip(), console.database.read(find, text, console.now())
    by_kind: dict[str, list[tuple[str, str]]] = {"account": [], "microgrid": [], "page": _pages(console, actor, text)}
    if actor.may(Right.READ_BILLS) and any(hit.kind == "account" for hit in hits):
        by_kind["account"].append((f"Account {int(number)}", f"/console/bills/{int(number)}"))
    for hit in hits:
        folder = "microgrids" if hit.kind == "microgrid" else "meters"
        by_kind.setdefault(hit.kind, []).append((hit.text, f"/console/{folder}/{hit.name}"))
    return [link for some in by_kind.values() for link in some]


def _pages(console: Console, actor: Actor, text: str) -> list[tuple[str, str]]:
    """Return the pages that the person may open, of which a word begins so: first those with it in their own title."""
    wanted, pages = f" {text.strip().lower()}", []
    for entry in console.entries(actor):
        is_own, is_group = (wanted in f" {name.lower()}" for name in (entry.title, entry.group))
        if is_own or is_group:
            pages.append((not is_own, f"Page {entry.group}: {entry.title}", entry.path))
    return [(words, path) for _, words, path in sorted(pages, key=lambda row: row[0])]


@router.get("/console/find")
def find_page(
    console: RequestConsole, request: Request, actor: ReadsTown, text: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """Return the results; of a single one its page."""
    results = _results(console, actor, text)
    if len(results) == 1:
        return RedirectResponse(results[0][1], 303)
    return console.page(request, actor, "find.html", {"results": results, "text": text})


@router.get("/console/find/results")
def part(
    console: RequestConsole, request: Request, actor: ReadsTown, text: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """Return the list of results, as one types."""
    content = {"results": _results(console, actor, text), "text": text}
    return console.fragment(request, actor, "find_results.html", content)
