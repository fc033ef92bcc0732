"""The API's changes of gateways: previewed, made, put back, cancelled (K5). Rights are those of the page."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import HTTPException, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import Action
from utility.access.people import Right
from utility.control import changes as values
from utility.control.commands import FieldsError, answered, before_words, words_of
from utility.control.decisions import cancel_change, make_change, preview_change, put_back
from utility.control.preview import PreviewedEffect
from utility.control.store import ChangePreview, find_change, newest_change, newest_changes, targets_of
from utility.database.database import Database
from utility.webkit.actions import Act, Actions
from utility.webkit.columns import Time
from utility.webkit.requests import LOCAL_TIMES
from utility.webkit.requests import Time as AskedTime
from utility.webkit.rights import ReadsTown, SendsCommands
from utility.webkit.services import RequestApi

Number = Annotated[int, Path(ge=1, lt=2**63, description="The change's number.")]


@dataclass(frozen=True, kw_only=True)
class NewChange(values.AskedChange):
    """A change of gateways: of named microgrids, of a kind, or of everyone."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    at: Annotated[AskedTime | None, Field(description="When it is sent; without it, now.")] = None
    valid_s: Annotated[int, Field(ge=10, le=86_400)] = 3600


class Previewed(BaseModel):
    """What a change would do; nothing was changed."""

    microgrids: int
    words: list[str]
    refused: str = Field(description="Why it would be refused; empty: it would be made.")
    effects: list[PreviewedEffect] = Field(description="The fullest line first.")
    newest: int = Field(description="The newest change, for `seen`.")


class ChangedMicrogrid(BaseModel):
    """A change at one microgrid."""

    microgrid: str
    state: str
    what: str
    before: str
    command: str | None
    answer: str
    answered: Time | None


class ChangeInFull(BaseModel):
    """A change with each of its microgrids."""

    change: values.ControlChange
    microgrids: list[ChangedMicrogrid]
    newest: int


class Changes(BaseModel):
    """The newest changes; for the next page set `before` to the last one's number."""

    changes: list[values.ControlChange]
    newest: int


_CHANGE = "/console/schedules/changes/{no}"
ACTIONS = Actions()
router = ACTIONS.json


@router.post("/commands/preview", dependencies=[LOCAL_TIMES])
def preview(api: RequestApi, _: SendsCommands, asked: NewChange) -> Previewed:
    """Return what a change would do; nothing is changed."""
    with _refusing():
        found = preview_change(api.database, asked, int(api.clock.now()))
    return _previewed(found, api.database.read(newest_change))


@router.post("/commands", dependencies=[LOCAL_TIMES])
def make(api: RequestApi, actor: SendsCommands, asked: NewChange) -> ChangeInFull:
    """Make a change, now or at its time; the service sends it until each gateway answers."""
    if asked.action is Action.SCHEDULE and asked.seen is None:
        raise HTTPException(428, "a schedule needs `seen`: the newest change that you saw, `newest` in each answer")
    with _refusing():
        number = make_change(api.database, actor, asked, int(api.clock.now()))
    return change_in_full(api.database, number)


@router.get("/commands/changes")
def changes(
    api: RequestApi,
    _: ReadsTown,
    before: Annotated[int | None, Query(ge=0, lt=2**63, description="Only changes below this number.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="How many at most.")] = 20,
) -> Changes:
    """Return the newest changes that people made at gateways, newest first."""
    with api.database.reads.begin() as connection:
        found = newest_changes(connection, limit, before)
        return Changes(changes=found, newest=newest_change(connection))


@router.get("/commands/{no}")
def one(api: RequestApi, _: ReadsTown, no: Number) -> ChangeInFull:
    """Return a change: at each microgrid what was before, what was asked, and the answer."""
    return change_in_full(api.database, no)


@ACTIONS.add(
    "/commands/{no}/put-back",
    Right.SEND_COMMANDS,
    page=f"{_CHANGE}/put-back",
    back="/console/schedules/changes/{change.no}",
    said="What was before change {no} is being put back.",
)
def back(act: Act, no: Number) -> ChangeInFull:
    """Put back what was in force before a change, as a new change."""
    with _refusing():
        number = put_back(act.database, act.actor, no, act.now)
    return change_in_full(act.database, number)


@ACTIONS.add(
    "/commands/{no}/cancel",
    Right.SEND_COMMANDS,
    page=f"{_CHANGE}/cancel",
    back=_CHANGE,
    said="Change {no} is cancelled.",
)
def cancel(act: Act, no: Number) -> ChangeInFull:
    """Cancel a planned change before it is sent."""
    with _refusing():
        cancel_change(act.database, act.actor, no, act.now)
    return change_in_full(act.database, no)


@contextmanager
def _refusing() -> Iterator[None]:
    """Answer 422 for wrong fields, 404 for a change that is not there, and 409 for a change that can't be made."""
    try:
        yield
    except ConfigError as error:
        statuses = ((FieldsError, 422), (values.NoSuchChangeError, 404))
        status = next((code for kind, code in statuses if isinstance(error, kind)), 409)
        raise HTTPException(status, str(error)) from error


def change_in_full(database: Database, number: int) -> ChangeInFull:
    """Return a change with its microgrids."""
    with _refusing(), database.reads.begin() as connection:
        change = find_change(connection, number)
        targets = targets_of(connection, number, values.MAX_MICROGRIDS)
        newest = newest_change(connection)
    return ChangeInFull(change=change, microgrids=[row_of(target) for target in targets], newest=newest)


def row_of(target: values.ChangeTarget) -> ChangedMicrogrid:
    """Return a change at one microgrid in words."""
    words = {"what": words_of(target.fields), "before": before_words(target.before)}
    answer = {"answer": answered(target.outcome), "answered": (target.outcome or {}).get("time")}
    return ChangedMicrogrid.model_validate(vars(target) | words | answer)


def _previewed(preview: ChangePreview, newest: int) -> Previewed:
    return Previewed(
        microgrids=len(preview.microgrids),
        words=list(preview.words),
        refused=preview.refused,
        effects=list(preview.effects),
        newest=newest,
    )
