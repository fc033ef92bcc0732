"""A page of every component of the console once, with invented numbers: the browser's tests look at it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Request, Response
from jinja2 import FileSystemLoader
from pydantic import BaseModel

from commonwatt.look.palette import LOOKS, PowerFlow
from utility.access.people import Actor, Right
from utility.webkit.columns import Shown, Written, columns_of
from utility.webkit.console.console import RequestConsole
from utility.webkit.console.plots import line
from utility.webkit.console.rendering import console_renderer
from utility.webkit.rights import may

_HOURS = 24
_DAY = (0, 0, 0, 0, 1, 2, 4, 6, 8, 9, 9, 8, 7, 6, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0)  # of the sun, by hour


class _Line(BaseModel):
    no: Annotated[int, Shown("Number", Written.TEXT)]
    place: Annotated[str, Shown("Place", link="/console/look?name={place}")]
    energy_mwh: Annotated[int, Shown("Energy", Written.ENERGY)]
    state: Annotated[str, Shown("State", Written.STATE, badges={"done": "good", "failed": "bad"})]


ManagesJobs = Annotated[Actor, may(Right.MANAGE_JOBS)]
router = APIRouter(include_in_schema=False)


def with_parts(app: FastAPI) -> FastAPI:
    """Return a utility's application with this page."""
    loader = console_renderer()._environment.loader
    assert isinstance(loader, FileSystemLoader)
    loader.searchpath.append(str(Path(__file__).parent))
    app.include_router(router)
    return app


@router.get("/console/look")
def look(console: RequestConsole, request: Request, actor: ManagesJobs) -> Response:
    """Show the components."""
    lines = [_Line(no=no, place=f"house {no}", energy_mwh=no * 4_250_000, state=state) for no, state in _STATES]
    span = {"begin": console.now() - 7_200, "end": console.now() - 3_600, "most": 2}
    content = {
        "rows": [("Sharing", [(span, 400, 200)])],
        "columns": columns_of(_Line),
        "steps": [(6 * at, 6 * at + 6, 123 * at) for at in range(15)],
        "lines": lines,
        "parts": [(flow, 500.0 * no, no != 2) for no, flow in enumerate(list(PowerFlow)[:4], 1)],
        "tiles": [
            {"microgrid": f"r{no:03}", "words": "", "condition": state, "battery": level, "heard": "now"}
            | {"line": "ok", "level": 25 * no}
            for no, (state, level) in enumerate(_TILES, 1)
        ],
    }
    return console.page(request, actor, "parts.html", content)


@router.get("/console/look/{kind}.json")
def plot(console: RequestConsole, _: ManagesJobs, kind: Literal["stacked", "lines", "nothing"]) -> dict[str, Any]:
    """Return a plot's series."""
    start = console.now() // 86_400 * 86_400
    if kind == "stacked":
        sources = enumerate(list(PowerFlow)[:5])
        series = [_series(start, LOOKS[flow].words, n, is_gap=True) | {"flow": flow} for n, flow in sources]
        series[0]["marks"] = [[start + 36_000, start + 43_200, "estimated"]]
        return {"series": series, "stack": True}
    names = [f"House {number}" for number in range(1, 7)] if kind == "lines" else []
    return {"series": [_series(start, name, place) for place, name in enumerate(names)]}


_TILES = (("fresh", "high"), ("late", "low"), ("islanded", "half"), ("alarm", "below"))
_STATES = ((1, "done"), (2, "failed"), (3, "waits"))


def _series(start: int, label: str, place: int, *, is_gap: bool = False) -> dict[str, Any]:
    high = [None if is_gap and 14 <= hour < 17 else 1 + place + _DAY[hour] for hour in range(_HOURS)]
    x = [start + 3_600 * hour for hour in range(_HOURS)]
    return line(label, "kW", x, 3_600, high)
