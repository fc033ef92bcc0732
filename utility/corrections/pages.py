"""Corrections: proposed estimates with their plots, decided one or many; values that a person enters."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from commonwatt.model.units import QUARTER_S
from utility.corrections.api import ACTIONS
from utility.corrections.correction import STEPS, CorrectionLine, CorrectionState, Review, figure, step_lines, summaries
from utility.corrections.decisions import lines_around, meter_number
from utility.corrections.store.corrections import ChosenCorrections, corrections_page, key_of, steps_of
from utility.corrections.store.corrections import found as corrections_found
from utility.webkit.columns import columns_of
from utility.webkit.console.answers import ROWS, After, address, found
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import CorrectsReadings, ReadsTown

Meter = Annotated[str, Query(pattern="^[0-9]{0,20}$", description="Only of this meter.")]

_START = "/console/quarantine/corrections"
_MAX_QUARTERS = 10_000
_VERBS = {Review.APPROVE: "Approve", Review.REFUSE: "Refuse", Review.REVERT: "Take back"}


Tabs = Callable[[Console, str], dict[str, Any]]  # returns what the tabs of the list of what waits show


def make_router(tabs: Tabs) -> APIRouter:
    """Return the routes."""
    router = ACTIONS.forms
    _add_list(router, tabs)

    @router.get(f"{_START}/edit")
    def form(console: RequestConsole, request: Request, actor: CorrectsReadings, meter: Meter = "") -> HTMLResponse:
        """Show the form for a value that a person enters."""
        return console.page(request, actor, "edit.html", {"meter": meter} | tabs(console, "corrections"))

    @router.get(f"{_START}/{{key}}")
    def correction(console: RequestConsole, request: Request, actor: ReadsTown, key: str) -> HTMLResponse:
        """Show some corrections in a row: the plot around them, and every step."""
        rows = _rows(console, found(lambda: key_of(key))[0])
        steps = console.database.read(steps_of, [row.no for row in rows])
        lines = summaries(rows)
        content = {"rows": lines, "line": lines[0], "steps": step_lines(steps), "key": key}
        content |= {
            "actions": _actions(CorrectionState(lines[0].state), "this line"),
            "columns": columns_of(CorrectionLine),
        }
        return console.page(request, actor, "correction.html", content | tabs(console, "corrections"))

    @router.get(f"{_START}/{{key}}/plot.json")
    def plot(console: RequestConsole, _: ReadsTown, key: str) -> dict[str, Any]:
        """Return readings, corrections and like days around some corrections, by quarter-hour."""
        rows = _rows(console, found(lambda: key_of(key))[0])
        first, lines = found(lambda: lines_around(console.database, rows))
        return figure(lines, first * QUARTER_S, QUARTER_S, rows[0].record_type)

    return router


def _add_list(router: APIRouter, tabs: Tabs) -> None:
    @router.get(_START)
    def corrections(
        console: RequestConsole,
        request: Request,
        actor: ReadsTown,
        after: After = "",
        meter: Meter = "",
        state: Annotated[CorrectionState, Query()] = CorrectionState.PROPOSED,
    ) -> HTMLResponse:
        """List corrections, by meter and time: quarter-hours in a row are a line."""
        with console.database.reads.begin() as connection:
            meters = [found(lambda: meter_number(connection, meter))] if meter else None
            chosen = ChosenCorrections(meters=meters)
            page = found(lambda: corrections_page(connection, chosen, [state], ROWS, after))
        later = address(_START, meter=meter, state=state, after=page.after) if page.after else ""
        content = {"rows": page.rows, "meter": meter, "state": state, "states": list(CorrectionState), "later": later}
        content |= {"actions": _actions(state, "the chosen lines"), "columns": columns_of(CorrectionLine)}
        return console.page(request, actor, "corrections.html", content | tabs(console, "corrections"))


def _rows(console: Console, line: ChosenCorrections) -> list[Any]:
    """Return the corrections of a line; once none is left in its state, those that are there in others."""
    with console.database.reads.begin() as connection:
        for chosen in (line, replace(line, state=None)):
            if rows := corrections_found(connection, chosen, list(CorrectionState), _MAX_QUARTERS):
                return rows
    raise HTTPException(404, "there are no such corrections")


def _actions(state: CorrectionState, what: str) -> dict[str, str]:
    """Return what a person may do with corrections in a state, in words."""
    return {str(action): f"{_VERBS[action]} {what}" for action in Review if (state, action) in STEPS}
