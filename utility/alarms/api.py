"""The API's alarms: what stands, and what people do about it."""

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, Field

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.access.people import Right
from utility.alarms.board import MAX_NOTE, Acknowledgement, AlarmRow
from utility.alarms.decisions import Board, alarms_of
from utility.webkit.actions import Act, Actions
from utility.webkit.columns import Time
from utility.webkit.requests import Time as AskedTime
from utility.webkit.rights import READS_TOWN
from utility.webkit.services import RequestApi

Number = Annotated[int, Path(ge=1, lt=2**31)]
Note = Annotated[str, Field(min_length=1, max_length=MAX_NOTE, description="Why, one line.")]
NO_NOTE = "no reason given"
Key = Annotated[str, Field(min_length=1, max_length=30_000, description="The alarm's `key`.")]


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
    since: Time
    runbook: str
    acknowledgement: Acknowledgement | None
    silences: list[str]


class SilenceAnswer(BaseModel):
    """A silence that holds, or will (`holds`: now)."""

    id: str
    subject: str
    start: Time
    until: Time
    person: str
    note: str
    holds: bool


class BoardAnswer(BaseModel):
    """The alarms that stand, and the silences."""

    time: Time
    alarms: list[AlarmAnswer]
    silences: list[SilenceAnswer]


class Made(BaseModel):
    """The number of what was made, and what it does."""

    no: int
    words: str


class Ended(BaseModel):
    """Something was ended."""

    ended: str


class ForAlarm(BaseModel):
    """Which alarm a person sees to or silences, and until when."""

    key: Key
    note: Note = NO_NOTE
    until: AskedTime | None = Field(None, description="The end; or `for_s`.")
    for_s: Annotated[int, Field(ge=1, le=2**31, description="For how many seconds from now; or `until`.")] | None = None
    equal: bool = Field(False, description="All alarms of its name that stand in the same way.")

    def end(self, now: EpochSeconds) -> EpochSeconds:
        """Return the end."""
        if (self.until is None) == (self.for_s is None):
            raise ConfigError("choose for how long, or until when")
        return self.until if self.for_s is None else now + self.for_s  # type: ignore[return-value]

    def words(self, done: str) -> str:
        """Return what was done."""
        return f"{'The alarms are' if self.equal else 'The alarm is'} {done}"


class ToMaintain(BaseModel):
    """A maintenance: all alarms of a place, or of a part there, are silenced for a time."""

    place: Annotated[
        str, Field(max_length=2_000, description="Microgrids, `head-end` or `utility`; empty: `whole`.")
    ] = ""
    whole: bool = Field(False, description="Whether it is of the whole town.")
    part: Annotated[str, Field(description="`broker`, `gateway`, `meters` or `utility`; empty: all.")] = ""
    start: AskedTime
    until: AskedTime
    note: Note


_START = "/console/alarms"
ACTIONS = Actions()
router = ACTIONS.json


@router.get("/alarms", dependencies=[READS_TOWN])
def board(api: RequestApi) -> BoardAnswer:
    """Return the alarms that stand, those that wait for a person first, and the silences."""
    return _board(alarms_of(api).board())


@ACTIONS.add("/alarms/acknowledgements", Right.HANDLE_ALARMS, back=_START, said="{words}", refused=422)
def acknowledge(act: Act, what: ForAlarm) -> Made:
    """Note that you see to an alarm. It is active again at the end, or when it comes anew."""
    alarms, end = alarms_of(act.api), what.end(act.now)
    keys = [row.alarm.key for row in alarms.equal(what.key)] if what.equal else [what.key]
    numbers = [alarms.acknowledge(act.actor, key, what.note, end) for key in keys]
    return Made(no=numbers[0], words=what.words("acknowledged"))


@ACTIONS.add(
    "/alarms/acknowledgements/{number}/end", Right.HANDLE_ALARMS, back=_START, said="The acknowledgement is over"
)
def withdraw(act: Act, number: Number) -> Ended:
    """End an acknowledgement."""
    alarms_of(act.api).end(act.actor, "acknowledgement", number)
    return Ended(ended=str(number))


@ACTIONS.add("/alarms/silences", Right.HANDLE_ALARMS, back=_START, said="{words}", refused=422)
def silence(act: Act, what: ForAlarm) -> Made:
    """Silence an alarm from now until a time."""
    number = alarms_of(act.api).silence(act.actor, what.key, what.note, what.end(act.now), equal=what.equal)
    return Made(no=number, words=what.words("silenced"))


@ACTIONS.add(
    "/alarms/maintenances",
    Right.HANDLE_ALARMS,
    page=f"{_START}/maintenance",
    back=_START,
    said="{words}",
    refused=422,
)
def maintain(act: Act, what: ToMaintain) -> Made:
    """Silence all alarms of a place for a time."""
    place = what.place.strip()
    if bool(place) is what.whole:
        raise ConfigError("place: name the places, or choose the whole town")
    act.api.require_near("start", what.start, 1, 366)
    number = alarms_of(act.api).maintain(act.actor, place, what.part, what.start, what.until, what.note)
    return Made(no=number, words="The maintenance is planned")


@ACTIONS.add("/alarms/silences/{number}/end", Right.HANDLE_ALARMS, back=_START, said="The silence is over")
def end_silence(act: Act, number: Number) -> Ended:
    """End a silence or a maintenance now, by its `id`."""
    alarms_of(act.api).end(act.actor, "silence", number)
    return Ended(ended=str(number))


def runbook_of(name: str) -> str:
    """Return the address of an alarm's section in the runbooks."""
    return f"/runbooks#{name.lower()}"


def _board(board: Board) -> BoardAnswer:
    answer = {
        "time": board.time,
        "alarms": [_alarm(row) for row in board.rows],
        "silences": [vars(one) | {"id": str(one.no), "holds": one.stands(board.time)} for one in board.silences],
    }
    return BoardAnswer.model_validate(answer)


def _alarm(row: AlarmRow) -> dict[str, object]:
    facts = ("key", "name", "severity", "place", "part", "summary", "description", "since")
    return {name: getattr(row.alarm, name) for name in facts} | {
        "state": row.state,
        "runbook": runbook_of(row.alarm.name),
        "acknowledgement": row.acknowledgement,
        "silences": [str(each.no) for each in row.silences],
    }
