"""The states of a controller in one microgrid, and how one follows another (docs/controllers.md has the picture)."""

from collections.abc import Iterable

from commonwatt.model.units import ControllerId
from gateway.takeover.states import State

MEANINGS: dict[State, str] = {
    State.DOUBTS: "has an epoch and asks whether it is still the highest; commands nothing",
    State.MANAGES: "commands the meters under its epoch",
    State.STANDS_BY: "knows another manager, or none; watches, votes, and takes records",
    State.CLAIMS: "asks the third member, or meters, whether the manager is lost",
    State.YIELDS: "gave the microgrid up, and repeats that until the receiver answers, 10 s at most",
}
"""What a controller does in each state."""

TRANSITIONS: dict[tuple[State, State], str] = {
    (State.DOUBTS, State.MANAGES): "two meters, a peer or the utility know no higher epoch",
    (State.DOUBTS, State.STANDS_BY): "a higher epoch is known",
    (State.MANAGES, State.DOUBTS): "it was paused for more than 4 s",
    (State.MANAGES, State.STANDS_BY): "two meters report the same higher epoch, or the utility reports one",
    (State.MANAGES, State.YIELDS): "one that comes before it was steady for 60 s, and answers",
    (State.YIELDS, State.STANDS_BY): "the receiver answers, or 10 s are over",
    (State.YIELDS, State.DOUBTS): "its store did not take the receiver's epoch",
    (State.STANDS_BY, State.DOUBTS): "its store did not take the higher epoch",
    (State.STANDS_BY, State.CLAIMS): "the utility is not heard, and the manager's sign is late",
    (State.STANDS_BY, State.MANAGES): "a grant, a yield, or no other controller has it",
    (State.CLAIMS, State.MANAGES): "the manager is lost here and to those who were asked; or a grant",
    (State.CLAIMS, State.DOUBTS): "its store did not take the higher epoch",
    (State.CLAIMS, State.STANDS_BY): "another member sees the manager alive, or 15 s are over",
}
"""Which state may follow another one, and why."""


def manager(order: Iterable[ControllerId], able: Iterable[ControllerId]) -> ControllerId | None:
    """Return the manager of a microgrid in the steady state: the first able one in its order; ``None``: no one."""
    present = set(able)
    return next((name for name in order if name in present), None)
