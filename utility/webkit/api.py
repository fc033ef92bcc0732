"""The API of long works: how far one is."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import Field

from utility.webkit import works
from utility.webkit.rights import ReadsBills
from utility.webkit.services import RequestApi


@dataclass(frozen=True, kw_only=True)
class WorkAnswer(works.LongWork):
    """A long work that was started. `fault`: why it failed."""

    result: Annotated[str, Field(description="The address of its result in the API; empty: there is none yet.")] = ""


router = APIRouter()


@router.get("/works/{work_id}")
def state(api: RequestApi, _: ReadsBills, work_id: str) -> WorkAnswer:
    """Return how far a long work is. One from before the service's last start is not known, and stored nothing."""
    work = api.works.find(work_id)
    if work is None:
        raise HTTPException(404, "this work is not known; if its result is not there, start it again")
    return work_answer(work)


def work_answer(work: works.LongWork) -> WorkAnswer:
    """Return a work as an answer."""
    result = work.path.removeprefix("/console").replace("/rates/preview", "/tariffs/preview")
    return WorkAnswer(**vars(work) | {"result": result})
