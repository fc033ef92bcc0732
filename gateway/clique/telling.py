"""Tells the other controllers of a clique what the utility has set for the microgrids that are managed here."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.clique_messages import Tell
from gateway.clique.hooks import Hooks
from gateway.takeover.member import Member

LOOK_S = 1.0  # real seconds between two looks at what the utility has set
TELL_AGAIN_S = (5.0, 60.0, 3_600.0)  # real seconds after which unchanged states are told again: any may be lost


class Telling:
    """The states that are told.

    Args:
        members: The controller's parts in its cliques.
        send: Sends a message to those of a microgrid's clique.
    """

    def __init__(self, members: Mapping[MicrogridId, Member], send: Callable[[MicrogridId, Tell], object]) -> None:
        self._members = members
        self._send = send
        # By managed microgrid, the states that were told last, when, and how often.
        self._told: dict[MicrogridId, tuple[Mapping[str, Any] | None, float, int]] = {}
        self._looked = 0.0

    def look(self, hooks: Hooks, now: float) -> None:
        """Tell what changed, and all now and then."""
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        for name, member in self._members.items():
            if not member.commands:
                self._told.pop(name, None)
                continue
            states = hooks.states(name).states
            before, at, times = self._told.get(name, (None, now, 0))
            times = 0 if before != states else times
            if times == 0 or now - at >= TELL_AGAIN_S[min(times, len(TELL_AGAIN_S)) - 1]:
                self._told[name] = states, now, times + 1
                self.tell(hooks, name, member.post.others)

    def tell(self, hooks: Hooks, microgrid: MicrogridId, to: Iterable[ControllerId]) -> None:
        """Tell some controllers the states of a microgrid."""
        states = hooks.states(microgrid)
        for other in to:
            self._send(microgrid, Tell(other, states))
