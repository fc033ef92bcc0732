"""Schedules and commands: what is in force, a form for each change with its preview, and what became of each (K5)."""

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from fastapi import Depends, HTTPException, Path, Query, Request, Response

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.controller_commands import PERIODS, STRATEGY_WORDS, Action, Strategy
from commonwatt.protocol.heartbeats import Heartbeat
from utility.access.people import Actor
from utility.control.api import ACTIONS, row_of
from utility.control.changes import LABELS, TITLES, ChangeTarget, ControlChange, asked_by, local_input
from utility.control.commands import FieldsError, before_words, called, in_force, usual_of
from utility.control.decisions import make_change, preview_change
from utility.control.store import find_change, kinds_of, newest_change, newest_changes, schedules_page, targets_of
from utility.outbox.changes import settings_of
from utility.readings.store.gateways import last_heartbeats
from utility.webkit.console.answers import ROWS, FormFaults, Skip, faults_of, found, other_pages
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import ReadsTown, SendsCommands

PATH = "/console/schedules"

NEWEST = 10  # changes that are listed beside the table
LATER_S = 3_600  # a planned change is proposed for so many seconds from now
INPUTS = frozenset({"microgrids", "minutes", "time", "strategy", "mode", "at", "state", *PERIODS})
"""The fields of the form that show a fault beside them."""

SHOWN = 20  # most lines of a preview, and most microgrids of a card that differ


async def _given(request: Request) -> dict[str, str]:
    async with request.form() as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


Given = Annotated[dict[str, str], Depends(_given)]  # the fields of a form

Number = Annotated[int, Path(ge=1, lt=2**63)]
Short = Annotated[str, Query(max_length=16)]


router = ACTIONS.forms


@router.get(PATH)
def table(
    console: RequestConsole,
    request: Request,
    actor: ReadsTown,
    name: Short = "",
    kind: Short = "",
    tuned: bool = False,
    skip: Skip = 0,
) -> Response:
    """Show what is usual in each kind, list what is in force at each microgrid, and the newest changes."""
    with console.database.reads.begin() as connection:
        rows = schedules_page(connection, ROWS + 1, skip, name=name, kind=kind, tuned=tuned)
        changes = newest_changes(connection, NEWEST)
        kind_of, said = kinds_of(connection), last_heartbeats(connection)
        seen = newest_change(connection)
    kinds = list(dict.fromkeys(kind_of.values()))
    by_kind = {
        each: {name: said.get(name, (0, None))[1] for name in kind_of if kind_of[name] == each} for each in kinds
    }
    words = {"name": name, "kind": kind, "tuned": "true" if tuned else ""}
    content = words | {
        "rows": rows[:ROWS],
        "periods": PERIODS,
        "kinds": kinds,
        "usual": [usual_of(each, heard) for each, heard in by_kind.items()],
        "called": called,
        "seen": seen,
        "shown": SHOWN,
        "is_open": bool(name or kind or tuned or skip),
        "actions": TITLES,
        "changes": changes,
        **other_pages(PATH, skip, is_more=len(rows) > ROWS, **words),
    }
    return console.page(request, actor, "schedules.html", content)


@router.get(f"{PATH}/new")
def form(
    console: RequestConsole,
    request: Request,
    actor: SendsCommands,
    action: Action = Action.SCHEDULE,
    microgrid: Annotated[list[str] | None, Query(max_length=ROWS)] = None,
) -> Response:
    """Show the form for a change."""
    given = {"action": action, "microgrids": " ".join(microgrid or ())}
    return _form(console, request, actor, given)


@router.post(f"{PATH}/preview")
def preview(console: RequestConsole, request: Request, actor: SendsCommands, given: Given) -> Response:
    """Show what the change of the form would do; nothing is changed."""
    content: dict[str, Any] = {"preview": None, "fault": "", "shown": SHOWN, "brief": "brief" in given}
    try:
        content["preview"] = preview_change(console.database, asked_by(given, console.zone()), console.now())
    except (ConfigError, ValueError) as error:
        content["fault"] = next(iter(_faults(error).values()))
    return console.fragment(request, actor, "schedule_preview.html", content)


@router.post(PATH)
def make(console: RequestConsole, request: Request, actor: SendsCommands, given: Given) -> Response:
    """Make the change of the form; if it is refused, show the form again with the reason."""
    try:
        number = make_change(console.database, actor, asked_by(given, console.zone()), console.now())
    except (ConfigError, ValueError) as error:
        return _form(console, request, actor, given, _faults(error))
    return console.see_other(actor, f"{PATH}/changes/{number}")


@router.get(f"{PATH}/changes")
def changes(
    console: RequestConsole,
    request: Request,
    actor: ReadsTown,
    before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> Response:
    """List all changes, newest first."""
    rows = console.database.read(newest_changes, ROWS, before)
    later = f"{PATH}/changes?before={rows[-1].no}" if len(rows) == ROWS else ""
    content = {"changes": rows, "later": later}
    return console.page(request, actor, "schedule_changes.html", content)


@router.get(f"{PATH}/changes/{{no}}")
def change(console: RequestConsole, request: Request, actor: ReadsTown, no: Number, skip: Skip = 0) -> Response:
    """Show a change: at each microgrid what was before, what was asked, and what became of it."""
    return console.page(request, actor, "schedule_change.html", _shown(console, no, skip))


@router.get(f"{PATH}/changes/{{no}}/live")
def live(console: RequestConsole, request: Request, actor: ReadsTown, no: Number, skip: Skip = 0) -> Response:
    """Return the part of the page that is polled."""
    return console.fragment(request, actor, "schedule_change_live.html", _shown(console, no, skip))


def _form(
    console: Console, request: Request, actor: Actor, given: Mapping[str, str], faults: FormFaults | None = None
) -> Response:
    try:
        action = Action(given.get("action", ""))
    except ValueError:
        action = Action.SCHEDULE
    if action not in TITLES:
        raise HTTPException(404, f"the page has no form for {action}")
    with console.database.reads.begin() as connection:
        kinds, seen = sorted(set(kinds_of(connection).values())), newest_change(connection)
    later = local_input(console.now() + LATER_S, console.zone())
    usual = dict.fromkeys((*INPUTS, "kind", "meters"), "") | {"which": "chosen", "when": "now", "time": later}
    content = {
        "action": action,
        "title": TITLES[action],
        "given": {**usual, **given},
        "faults": faults or FormFaults(),
        "seen": seen,
        "kinds": kinds,
        "periods": LABELS,
        "strategies": {"": "as it is"}
        | {name: STRATEGY_WORDS[name] for name in get_args(Strategy)}
        | {"file": "as the gateway's own settings say"},
    }
    return console.page(request, actor, "schedule_form.html", content, 409 if faults else 200)


def _faults(error: Exception) -> FormFaults:
    """Return what is wrong with a change, by the field of the form."""
    if not isinstance(error, FieldsError):
        return faults_of(error, INPUTS, microgrid="microgrids")
    inputs = [called(name) if name == "for_s" else name for name in error.fields]
    shown = inputs if inputs and INPUTS.issuperset(inputs) else [""]
    return FormFaults(dict.fromkeys(shown, error.named(called)))


def _shown(console: Console, no: int, skip: int) -> dict[str, Any]:
    with console.database.reads.begin() as connection:
        change: ControlChange = found(lambda: find_change(connection, no))
        targets = targets_of(connection, no, ROWS, skip)
        said = last_heartbeats(connection, [target.microgrid for target in targets])
    return {
        "change": change,
        "rows": [_row(target, *said.get(target.microgrid, (None, None))) for target in targets],
        "skip": skip,
        **other_pages(f"{PATH}/changes/{no}", skip, is_more=change.microgrids > skip + ROWS),
    }


def _row(target: ChangeTarget, time: EpochSeconds | None, said: Heartbeat | None) -> dict[str, Any]:
    """Return a microgrid's row of a change: before, asked, answer, and what its gateway says now."""
    in_doubt = target.fields.get("at") == "meters"
    now = {} if said is None or in_doubt else in_force(settings_of(target.fields), said)
    return vars(row_of(target)) | {"outcome": target.outcome, "now": before_words(now), "said": time}
