"""How far the word of one member of a clique raises the counter of an epoch (docs/controllers.md)."""

from commonwatt.model.units import ControllerId
from commonwatt.protocol.commands import EPOCH_STEP

WITHIN_S = 86_400.0  # seconds within which one member alone raises a counter by ``EPOCH_STEP`` at most


class Raises:
    """What members said of one microgrid's counter."""

    def __init__(self) -> None:
        self._said: dict[ControllerId, int] = {}
        self._raised: dict[ControllerId, tuple[float, int]] = {}  # since when, and by how much in all

    def allow(self, sender: ControllerId, known: int, counter: int, now: float) -> bool:
        """Return whether a member's word may raise a known counter, and note it.

        Further than a step within ``WITHIN_S``, another member must have said it, too.
        """
        self._said[sender] = max(counter, self._said.get(sender, 0))
        if counter <= known or any(said >= counter for name, said in self._said.items() if name != sender):
            return True
        since, raised = self._raised.get(sender, (now, 0))
        if now - since >= WITHIN_S:
            since, raised = now, 0
        if raised + counter - known > EPOCH_STEP:
            return False
        self._raised[sender] = since, raised + counter - known
        return True
