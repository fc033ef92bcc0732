"""The API of long works: how far one is."""

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from utility.webkit import works
from utility.webkit.columns import Time
from utility.webkit.rights import ReadsBills
from utility.webkit.services import RequestApi


class WorkAnswer(BaseModel):
    """A long work that was started."""

    id: str
    what: str
    person: str
    started: Time
    state: works.State
    done: int = Field(description="Meters done so far.")
    whole: int = Field(description="All meters; 0: not known yet.")
    fault: str = Field(description="Why it failed.")
    result: str = Field(description="The address of its result in the API; empty: there is none yet.")


router = APIRouter()


@router.get("/works/{work_id}")
def state(api: RequestApi, _: ReadsBills, work_id: str) -> WorkAnswer:
    """Return how far a long work is. One from before the service's last start is not known, and stored nothing."""
    work = api.works.find(work_id)
    if work is None:
        raise HTTPException(404, "this work is not known; if its result is not there, start it again")
    return work_answer(work)


def work_answer(work: works.Work) -> WorkAnswer:
    """Return a work as an answer."""
    facts = {name: getattr(work, name) for name in WorkAnswer.model_fields if name != "result"}
    return WorkAnswer(**facts, result=work.path.removeprefix("/console").replace("/rates/preview", "/tariffs/preview"))
