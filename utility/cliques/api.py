"""Which controller manages each microgrid, by the API."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path

from commonwatt.protocol.topics import MICROGRID_PATTERN
from utility.cliques.grants import Assignment, Explained
from utility.cliques.jobs import unmanaged_of
from utility.cliques.store import assignments, explained
from utility.webkit.requests import LOCAL_TIMES
from utility.webkit.rights import READS_TOWN
from utility.webkit.services import RequestApi

router = APIRouter(dependencies=[READS_TOWN, LOCAL_TIMES])


@router.get("/assignments")
def every(api: RequestApi) -> dict[str, list[Assignment]]:
    """Return which controller manages each microgrid, since when and why, and who else may.

    ``epoch``: (counter, rank) under which it manages. ``unmanaged_s``: for how many seconds no controller that can
    command the microgrid was heard.
    """
    return {"assignments": api.database.read(assignments, unmanaged_of(api))}


@router.get("/assignments/{microgrid}")
def one(api: RequestApi, microgrid: Annotated[str, Path(pattern=f"^{MICROGRID_PATTERN}$")]) -> Explained:
    """Return which controller manages a microgrid, and the history of the last year, the newest first."""
    try:
        return api.database.read(explained, unmanaged_of(api), microgrid)
    except LookupError as error:
        raise HTTPException(404, str(error)) from error
