"""The API's alarms: what stands, and what people do about it."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, Field

from utility.access.people import Right
from utility.alarms.board import MAX_NOTE, Row
from utility.alarms.decisions import Board, alarms_of
from utility.webkit.actions import Act, Actions
from utility.webkit.requests import Time
from utility.webkit.rights import READS_TOWN
from utility.webkit.services import RequestApi

Number = Annotated[int, Path(ge=1, lt=2**31)]
Note = Annotated[str, Field(min_length=1, max_length=MAX_NOTE, description="Why, one line.")]
Key = Annotated[str, Field(min_length=1, max_length=30_000, description="The alarm's `key`.")]


class AcknowledgementAnswer(BaseModel):
    """A person's word that they see to an alarm."""

    no: int
    person: str
    note: str
    made: datetime
    until: datetime


class AlarmAnswer(BaseModel):
    """An alarm that stands. `silences`: the ids of the silences that hold it."""

    key: str
    name: str
    severity: Literal["critical", "warning"]
    state: Literal["active", "acknowledged", "suppressed"]
    place: str
    part: str
    summary: str
    description: str
    since: datetime
    runbook: str
    acknowledgement: AcknowledgementAnswer | None
    silences: list[str]


class SilenceAnswer(BaseModel):
    """A silence that holds, or will (`holds`: now)."""

    id: str
    subject: str
    start: datetime
    until: datetime
    person: str
    note: str
    holds: bool


class BoardAnswer(BaseModel):
    """The alarms that stand, and the silences."""

    time: datetime
    alarms: list[AlarmAnswer]
    silences: list[SilenceAnswer]


class Made(BaseModel):
    """The number of what was made."""

    no: int


class Ended(BaseModel):
    """Something was ended."""

    ended: str


class ForAlarm(BaseModel):
    """Which alarm a person sees to or silences, and until when."""

    key: Key
    note: Note
    until: Time


class ToMaintain(BaseModel):
    """A maintenance: all alarms of a place, or of a part there, are silenced for a time."""

    place: Annotated[
        str, Field(max_length=2_000, description="Microgrids, `head-end` or `utility`; empty: the whole town.")
    ] = ""
    part: Annotated[str, Field(description="`broker`, `gateway`, `meters` or `utility`; empty: all.")] = ""
    start: Time
    until: Time
    note: Note


_START = "/console/alarms"
ACTIONS = Actions()
router = ACTIONS.json


@router.get("/alarms", dependencies=[READS_TOWN])
def board(api: RequestApi) -> BoardAnswer:
    """Return the alarms that stand, those that wait for a person first, and the silences."""
    return _board(alarms_of(api).board())


@ACTIONS.add("/alarms/acknowledgements", Right.HANDLE_ALARMS, refused=422)
def acknowledge(act: Act, what: ForAlarm) -> Made:
    """Note that you see to an alarm. It is active again at the end, or when it comes anew."""
    return Made(no=alarms_of(act.api).acknowledge(act.actor, what.key, what.note, what.until))


@ACTIONS.add(
    "/alarms/acknowledgements/{number}/end", Right.HANDLE_ALARMS, back=_START, said="The acknowledgement is over"
)
def withdraw(act: Act, number: Number) -> Ended:
    """End an acknowledgement."""
    alarms_of(act.api).withdraw(act.actor, number)
    return Ended(ended=str(number))


@ACTIONS.add("/alarms/silences", Right.HANDLE_ALARMS, refused=422)
def silence(act: Act, what: ForAlarm) -> Made:
    """Silence one alarm from now until a time."""
    return Made(no=alarms_of(act.api).silence(act.actor, what.key, what.note, what.until))


@ACTIONS.add("/alarms/maintenances", Right.HANDLE_ALARMS, refused=422)
def maintain(act: Act, what: ToMaintain) -> Made:
    """Silence all alarms of a place for a time."""
    return Made(no=alarms_of(act.api).maintain(act.actor, what.place, what.part, what.start, what.until, what.note))


@ACTIONS.add("/alarms/silences/{number}/end", Right.HANDLE_ALARMS, back=_START, said="The silence is over")
def end_silence(act: Act, number: Number) -> Ended:
    """End a silence or a maintenance now, by its `id`."""
    alarms_of(act.api).end_silence(act.actor, number)
    return Ended(ended=str(number))


def runbook_of(name: str) -> str:
    """Return the address of an alarm's section in the runbooks."""
    return f"/runbooks#{name.lower()}"


def _board(board: Board) -> BoardAnswer:
    answer = {
        "time": board.time,
        "alarms": [_alarm(row) for row in board.rows],
        "silences": [
            vars(one) | {"id": str(one.no), "until": one.end, "holds": one.stands(board.time)} for one in board.silences
        ],
    }
    return BoardAnswer.model_validate(answer)


def _alarm(row: Row) -> dict[str, object]:
    said, facts = row.acknowledgement, ("key", "name", "severity", "place", "part", "summary", "description", "since")
    return {name: getattr(row.alarm, name) for name in facts} | {
        "state": row.state,
        "runbook": runbook_of(row.alarm.name),
        "acknowledgement": None if said is None else vars(said) | {"until": said.end},
        "silences": [str(each.no) for each in row.silences],
    }
