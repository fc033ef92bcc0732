"""What waits for a person, by the API: dead letters, conflicts, differing accounts, gaps, and commands."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from commonwatt.protocol.dead_letter_words import row_of, wanted
from utility.control.words import answered, words_of
from utility.readings.columns import DeadLetterRow
from utility.readings.store import reads
from utility.readings.store.conflicts import conflicts as conflicting_slots
from utility.readings.store.dead_letters import dead_letters as kept_dead_letters
from utility.registry.columns import Differing
from utility.registry.store.account_differences import account_differences
from utility.webkit.columns import Shown, Written
from utility.webkit.parameters import LOCAL_TIMES, Limit, LongLimit, MeterText, Moment
from utility.webkit.rights import READS_TOWN
from utility.webkit.services import RequestApi
from utility.webkit.shapes import refusing


class GatewayCommand(BaseModel):
    """A command to a gateway. ``what`` and ``result``: message and outcome for people."""

    id: Annotated[str, Shown("Id")]
    controller: Annotated[str, Shown("Controller")]
    created: Annotated[int, Shown("Given", Written.MOMENT)]
    until: int
    what: Annotated[str, Shown("What")]
    message: dict[str, Any]
    state: Annotated[str, Shown("State")]
    result: Annotated[str, Shown("Result")]
    outcome: dict[str, Any] | None


router = APIRouter(dependencies=[READS_TOWN, LOCAL_TIMES])


@router.get("/dead-letters")
def dead_letters(
    api: RequestApi,
    meter: MeterText | None = None,
    reason: Annotated[str | None, Query(max_length=40, description="A reason, by name or number.")] = None,
    since: Moment = 0,
    state: Annotated[
        Literal["quarantined", "released", "refused"] | None, Query(description="What was decided.")
    ] = None,
    limit: Limit = 100,
) -> dict[str, list[DeadLetterRow]]:
    """Return the newest dead letters: rejected records and messages, whole or truncated, with the reason.

    Dead letters in state `quarantined` have readings that are in no block until a person decides: implausible ones,
    and readings from a controller that is not assigned to the meter (`not assigned`); or until the utility's clock
    is confirmed (`ahead`).
    """
    with refusing(422):
        asked = wanted(meter, reason, str(since), 0, state or "")
    found = api.database.read(kept_dead_letters, limit, asked)
    return {"dead_letters": [DeadLetterRow(**row_of(kept)) for kept in found]}


@router.get("/conflicts")
def conflicts(api: RequestApi, limit: Limit = 100) -> dict[str, object]:
    """Return slots with conflicting values, each value with the controllers that sent it.

    The smallest value is used. A slot is listed once its quarter-hour is compacted: up to `compact_s` (900 s)
    and a minute after the quarter-hour's end. Conflicting events are in `/dead-letters`, without
    delay.
    """
    return {"conflicts": conflicting_slots(api.database, limit)}


@router.get("/account-differences")
def differences(api: RequestApi, limit: LongLimit = 100) -> dict[str, list[Differing]]:
    """Return the accounts that meters report and that the registry does not have, newest first."""
    return {"account_differences": api.database.read(account_differences, limit)}


@router.get("/gaps")
def gaps(api: RequestApi, limit: Limit = 100) -> dict[str, object]:
    """Return the oldest blocks with missing slots that are being requested."""
    return {"gaps": api.database.read(reads.gaps, limit)}


@router.get("/commands")
def commands(api: RequestApi, limit: Limit = 100) -> dict[str, list[GatewayCommand]]:
    """Return the newest commands to gateways with their outcomes."""
    return {
        "commands": [
            GatewayCommand(**row, what=words_of(row["message"]), result=answered(row["outcome"]))
            for row in api.database.read(reads.commands, limit)
        ]
    }
