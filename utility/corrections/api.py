"""The API's decisions on readings: quarantined ones, corrections, findings. Rights are those of the pages."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from utility.corrections import decisions as decisions
from utility.corrections.correction import Action, CorrectionLine, Finding, State
from utility.corrections.decisions import close_findings, decide_lines, meter_number
from utility.corrections.store.checking import open_findings
from utility.corrections.store.corrections import Chosen, corrections_page, key_of
from utility.corrections.validation import Check
from utility.readings.decisions import MAX_AT_ONCE, decide_letters
from utility.webkit.requests import Asked, Limit, LongLimit, Why, refusing
from utility.webkit.rights import CorrectsReadings, ReadsTown
from utility.webkit.services import RequestApi

Meter = Annotated[str, Query(pattern="^[0-9]{0,20}$", description="A meter's id; empty: of all.")]
Meters = Annotated[Sequence[str], Query(max_length=100, description="Meters' ids; empty: of all.")]
Skip = Annotated[int, Query(ge=0, le=10**7, description="How many come before.")]
Numbers = Annotated[list[Annotated[int, Field(ge=1, lt=2**63)]], Field(min_length=1, max_length=MAX_AT_ONCE)]


class LetterDecision(Asked):
    """A decision on dead letters with quarantined readings, all or none."""

    numbers: Numbers
    decision: Literal["released", "refused"]
    why: Why = ""


class Decided(BaseModel):
    """How much was decided."""

    changed: int = Field(description="Dead letters, quarter-hours or findings.")
    person: str = Field(description="Who decided.")
    meters: int | None = Field(None, description="Meters, of corrections.")
    slots: int | None = Field(None, description="Readings of 15 s, of dead letters.")
    energy_mwh: int | None = Field(None, description="Energy of corrections, milliwatt-hours.")


class CorrectionLines(BaseModel):
    """A page of corrections."""

    corrections: list[CorrectionLine]
    after: str = Field(description="Ask for the next page with it; empty: this is the last one.")


class Selection(Asked):
    """Which corrections are meant; a key that is missing: any."""

    # An empty list would mean any meter.
    meters: list[Annotated[str, Field(max_length=20)]] | None = Field(
        None, min_length=1, max_length=decisions.MAX_CHOSEN
    )
    start: str | None = Field(None, max_length=40, description="The first moment, a quarter-hour.")
    until: str | None = Field(None, max_length=40, description="The moment after the last.")
    method: str | None = Field(None, max_length=20)


class CorrectionDecision(Asked):
    """A decision on lines of corrections, all or none; or on all that are chosen and in a state for it."""

    keys: list[str] = Field([], max_length=decisions.MAX_CHOSEN)
    chosen: Selection | None = None
    action: Action
    why: Why = ""


class Value(Asked):
    """A person's value for a period."""

    meter: str = Field(max_length=20)
    type: str = Field("through", max_length=20)
    start: str = Field(max_length=40, description="The first moment.")
    until: str = Field(max_length=40, description="The moment after the last.")
    energy_kwh: str | None = Field(None, max_length=20, description="Kilowatt-hours; without it, that of like days.")
    why: Why


class Findings(BaseModel):
    """A page of findings."""

    findings: list[Finding]


class Closing(Asked):
    """Findings to close, all or none."""

    numbers: Numbers
    why: Why = ""


router = APIRouter()


@router.post("/dead-letters/decide")
def decide_letter(api: RequestApi, actor: CorrectsReadings, asked: LetterDecision) -> Decided:
    """Release or refuse the quarantined readings of dead letters."""
    with refusing():
        chosen = [(no, asked.decision) for no in asked.numbers]
        done = decide_letters(api.database, chosen, actor, asked.why, int(api.clock.now()))
    slots = sum(int((blocks.quality > 0).sum()) for _, _, blocks in done)
    return Decided(changed=len(done), slots=slots, person=actor.name)


@router.get("/corrections")
def corrections(
    api: RequestApi,
    _: ReadsTown,
    state: State = State.PROPOSED,
    meter: Meter = "",
    after: Annotated[str, Query(max_length=60, description="As the page before says.")] = "",
    limit: Limit = 100,
) -> CorrectionLines:
    """Return corrections in a state, by meter and time."""
    with refusing(422), api.database.reads.begin() as connection:
        meters = [meter_number(connection, meter)] if meter else None
        page = corrections_page(connection, Chosen(meters=meters), [state], limit, after)
    return CorrectionLines(corrections=page.rows, after=page.after)


@router.post("/corrections/decide")
def decide_correction(api: RequestApi, actor: CorrectsReadings, asked: CorrectionDecision) -> Decided:
    """Approve, refuse or revert corrections, by the keys that the list gave; one that has changed is refused."""
    with refusing():
        now, of = int(api.clock.now()), asked.chosen
        if of is None:
            keys = [key_of(key) for key in asked.keys]
            rows = decide_lines(api.database, keys, asked.action, actor, asked.why, now)
        else:
            chosen = api.database.read(decisions.chosen_of, of.meters, of.start, of.until, of.method)
            rows = decisions.decide_chosen(api.database, chosen, asked.action, actor, asked.why, now)
    energy, meters = sum(row.energy for row in rows), len({row.meter_no for row in rows})
    return Decided(changed=len(rows), energy_mwh=energy, meters=meters, person=actor.name)


@router.post("/corrections/edit")
def edit(api: RequestApi, actor: CorrectsReadings, asked: Value) -> Decided:
    """Enter the energy of a period, in place of readings and estimates."""
    of = decisions.Edit(
        meter=asked.meter, record_type=asked.type, start=asked.start, end=asked.until, energy=asked.energy_kwh
    )
    with refusing(422):
        span, energy = decisions.edit(api.database, of, actor, asked.why, int(api.clock.now()))
    return Decided(changed=len(span), energy_mwh=energy, person=actor.name)


@router.get("/findings")
def findings(
    api: RequestApi,
    _: ReadsTown,
    meter: Meters = (),
    check: Check | None = None,
    skip: Skip = 0,
    limit: LongLimit = 100,
) -> Findings:
    """Return the open findings of the daily checks, the oldest first."""
    with refusing(422), api.database.reads.begin() as connection:
        numbers = [meter_number(connection, one) for one in meter if one] or None
        rows = open_findings(connection, limit, numbers, check, skip)
    return Findings(findings=rows)


@router.post("/findings/close")
def close(api: RequestApi, actor: CorrectsReadings, asked: Closing) -> Decided:
    """Close findings."""
    with refusing():
        closed = close_findings(api.database, asked.numbers, actor, asked.why, int(api.clock.now()))
    return Decided(changed=closed, person=actor.name)
