"""What an assignment is, who managed a microgrid when, for API, terminal and page."""

from typing import Annotated

from pydantic import BaseModel

from utility.webkit.columns import Shown, Time, Written


class Assignment(BaseModel):
    """Which controller manages a microgrid."""

    microgrid: Annotated[str, Shown("Microgrid")]
    order: Annotated[list[str], Shown("Who may manage it")]  # the first one first; alone: it is in no clique
    manager: Annotated[str, Shown("Managed by")]  # empty: no controller that the utility knows
    since: Annotated[Time | None, Shown("Since", Written.MOMENT)]  # when the utility learned of it; ``None``: never
    why: Annotated[str, Shown("Why")]
    epoch: tuple[int, int]  # the epoch, counter and rank; (0, 0): there is none
    unmanaged_s: int  # for how many seconds no controller that can command it was heard; 0: one is


class Held(BaseModel):
    """A line of the history of a microgrid."""

    controller: Annotated[str, Shown("Managed by")]
    since: Annotated[Time, Shown("Since", Written.MOMENT)]
    why: Annotated[str, Shown("Why")]
    epoch: tuple[int, int]  # the epoch, counter and rank


class Explained(BaseModel):
    """An assignment with its history."""

    assignment: Assignment
    history: list[Held]  # the newest first
