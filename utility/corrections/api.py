"""The API's decisions on readings: quarantined ones, corrections, findings. Rights are those of the pages."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from commonwatt.model.text import counted
from utility.access.people import Right
from utility.corrections import decisions as decisions
from utility.corrections.correction import CorrectionLine, CorrectionState, OpenFinding, Review
from utility.corrections.decisions import close_findings, decide_lines, meter_number
from utility.corrections.store.checking import open_findings
from utility.corrections.store.corrections import ChosenCorrections, corrections_page, key_of
from utility.corrections.validation import ReadingCheck
from utility.readings.decisions import MAX_AT_ONCE, decide_letters
from utility.webkit.actions import Act, Actions
from utility.webkit.requests import Limit, LongLimit, RequestBody, Why, refusing
from utility.webkit.rights import ReadsTown
from utility.webkit.services import RequestApi

Meter = Annotated[str, Query(pattern="^[0-9]{0,20}$", description="A meter's id; empty: of all.")]
Meters = Annotated[Sequence[str], Query(max_length=100, description="Meters' ids; empty: of all.")]
Skip = Annotated[int, Query(ge=0, le=10**7, description="How many come before.")]
Numbers = Annotated[list[Annotated[int, Field(ge=1, lt=2**63)]], Field(min_length=1, max_length=MAX_AT_ONCE)]


class LetterDecision(RequestBody):
    """A decision on dead letters with quarantined readings, all or none."""

    numbers: Numbers
    decision: Literal["released", "refused"]
    why: Why = ""


class Decided(BaseModel):
    """How much was decided."""

    words: str = Field(description="What happened.")
    changed: int = Field(description="Dead letters, quarter-hours or findings.")
    person: str = Field(description="Who decided.")
    meters: int | None = Field(None, description="Meters, of corrections.")
    slots: int | None = Field(None, description="Readings of 15 s, of dead letters.")
    energy_mwh: int | None = Field(None, description="Energy of corrections, milliwatt-hours.")


class CorrectionLines(BaseModel):
    """A page of corrections."""

    corrections: list[CorrectionLine]
    after: str = Field(description="Ask for the next page with it; empty: this is the last one.")


class Selection(RequestBody):
    """Which corrections are meant; a key that is missing: any."""

    # An empty list would mean any meter.
    meters: list[Annotated[str, Field(max_length=20)]] | None = Field(
        None, min_length=1, max_length=decisions.MAX_CHOSEN
    )
    start: str | None = Field(None, max_length=40, description="The first moment, a quarter-hour.")
    until: str | None = Field(None, max_length=40, description="The moment after the last.")
    method: str | None = Field(None, max_length=20)


class CorrectionDecision(RequestBody):
    """A decision on lines of corrections, all or none; or on all that are chosen and in a state for it."""

    keys: list[str] = Field([], max_length=decisions.MAX_CHOSEN)
    chosen: Selection | None = None
    action: Review
    why: Why = ""


class Findings(BaseModel):
    """A page of findings."""

    findings: list[OpenFinding]


class Closing(RequestBody):
    """Findings to close, all or none."""

    numbers: Numbers
    why: Why = ""


_START = "/console/quarantine"
_DONE = {Review.APPROVE: "approved", Review.REFUSE: "refused", Review.REVERT: "taken back"}
ACTIONS = Actions()
router = ACTIONS.json


@ACTIONS.add("/dead-letters/decide", Right.CORRECT_READINGS, page=_START, back=_START, said="{words}")
def decide_letter(act: Act, asked: LetterDecision) -> Decided:
    """Release or refuse the quarantined readings of dead letters, all or none."""
    done = decide_letters(act.database, [(no, asked.decision) for no in asked.numbers], act.actor, asked.why, act.now)
    slots = sum(int((blocks.quality > 0).sum()) for _, _, blocks in done)
    words = f"{counted(slots, 'reading')} {asked.decision}"
    return Decided(words=words, changed=len(done), slots=slots, person=act.actor.name)


@router.get("/corrections")
def corrections(
    api: RequestApi,
    _: ReadsTown,
    state: CorrectionState = CorrectionState.PROPOSED,
    meter: Meter = "",
    after: Annotated[str, Query(max_length=60, description="As the page before says.")] = "",
    limit: Limit = 100,
) -> CorrectionLines:
    """Return corrections in a state, by meter and time."""
    with refusing(422), api.database.reads.begin() as connection:
        meters = [meter_number(connection, meter)] if meter else None
        page = corrections_page(connection, ChosenCorrections(meters=meters), [state], limit, after)
    return CorrectionLines(corrections=page.rows, after=page.after)


@ACTIONS.add(
    "/corrections/decide",
    Right.CORRECT_READINGS,
    page=f"{_START}/corrections",
    back=f"{_START}/corrections",
    said="{words}",
)
def decide_correction(act: Act, asked: CorrectionDecision) -> Decided:
    """Approve, refuse or revert corrections, by the keys that the list gave; one that has changed is refused."""
    done, of = (asked.action, act.actor, asked.why, act.now), asked.chosen
    if of is None:
        rows = decide_lines(act.database, [key_of(key) for key in asked.keys], *done)
    else:
        chosen = act.database.read(decisions.chosen_of, of.meters, of.start, of.until, of.method)
        rows = decisions.decide_chosen(act.database, chosen, *done)
    energy, meters = sum(row.energy for row in rows), len({row.meter_no for row in rows})
    words = f"{counted(len(rows), 'quarter-hour')}, {energy / 1e6:.3f} kWh: {_DONE[asked.action]}"
    return Decided(words=words, changed=len(rows), energy_mwh=energy, meters=meters, person=act.actor.name)


@ACTIONS.add(
    "/corrections/edit",
    Right.CORRECT_READINGS,
    page=f"{_START}/corrections/edit",
    back=f"{_START}/corrections?meter={{asked.meter}}&state={CorrectionState.EDITED}",
    said="{words}",
    refused=422,
)
def edit(act: Act, asked: decisions.Edit) -> Decided:
    """Enter the energy of a period, in place of readings and estimates."""
    span, energy = decisions.edit(act.database, asked, act.actor, act.now)
    words = f"meter {asked.meter}: {counted(len(span), 'quarter-hour')} entered, {energy / 1e6:.3f} kWh"
    return Decided(words=words, changed=len(span), energy_mwh=energy, person=act.actor.name)


@router.get("/findings")
def findings(
    api: RequestApi,
    _: ReadsTown,
    meter: Meters = (),
    check: ReadingCheck | None = None,
    skip: Skip = 0,
    limit: LongLimit = 100,
) -> Findings:
    """Return the open findings of the daily checks, the oldest first."""
    with refusing(422), api.database.reads.begin() as connection:
        numbers = [meter_number(connection, one) for one in meter if one] or None
        rows = open_findings(connection, limit, numbers, check, skip)
    return Findings(findings=rows)


@ACTIONS.add(
    "/findings/close",
    Right.CORRECT_READINGS,
    page=f"{_START}/findings",
    back=f"{_START}/findings",
    said="{words}",
)
def close(act: Act, asked: Closing) -> Decided:
    """Close findings, all or none."""
    closed = close_findings(act.database, asked.numbers, act.actor, asked.why, act.now)
    return Decided(words=f"{counted(closed, 'finding')} closed", changed=closed, person=act.actor.name)
