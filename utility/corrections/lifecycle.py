"""The states of a correction, and the steps between them.

A proposed estimate counts for nothing until a person approves it. A person's own value counts at once. Every step can
be taken back: a decision on an estimate makes it a proposal again, a person's value goes out of force.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """The state of a correction."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    EDITED = "edited"
    REFUSED = "refused"
    REVERTED = "reverted"


class Action(StrEnum):
    """What a person does to a correction."""

    APPROVE = "approve"
    REFUSE = "refuse"
    REVERT = "revert"


STEPS: Mapping[tuple[State, Action], State] = MappingProxyType(
    {
        (State.PROPOSED, Action.APPROVE): State.APPROVED,
        (State.PROPOSED, Action.REFUSE): State.REFUSED,
        (State.APPROVED, Action.REVERT): State.PROPOSED,
        (State.REFUSED, Action.REVERT): State.PROPOSED,
        (State.EDITED, Action.REVERT): State.REVERTED,
    }
)
"""Every legal step; another one is refused, and changes nothing."""

IN_FORCE = frozenset({State.APPROVED, State.EDITED})  # states whose values settlement takes


def before(action: Action) -> frozenset[State]:
    """Return the states from which an action leads somewhere."""
    return frozenset(state for state, of in STEPS if of is action)
