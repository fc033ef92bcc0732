"""How far the word of one member of a clique raises the counter of an epoch (docs/controllers.md)."""

from commonwatt.model.units import ControllerId
from commonwatt.protocol.commands import EPOCH_STEP, RAISES, RAISES_WITHIN_S


class Raises:
    """What members said of one microgrid's counter.

    One member alone raises it by ``EPOCH_STEP`` in all, in ``RAISES`` times, within ``RAISES_WITHIN_S``.
    """

    def __init__(self) -> None:
        self._said: dict[ControllerId, int] = {}
        self._raised: dict[ControllerId, tuple[float, int, int]] = {}  # since when, how often, by how much in all

    def allow(self, sender: ControllerId, known: int, counter: int, now: float) -> bool:
        """Return whether a member's word may raise a known counter, and note it.

        What another member said, too, may always.
        """
        self._said[sender] = max(counter, self._said.get(sender, 0))
        if counter <= known or any(said >= counter for name, said in self._said.items() if name != sender):
            return True
        since, times, raised = self._raised.get(sender, (now, 0, 0))
        if now - since >= RAISES_WITHIN_S:
            since, times, raised = now, 0, 0
        if times >= RAISES or raised + counter - known > EPOCH_STEP:
            return False
        self._raised[sender] = since, times + 1, raised + counter - known
        return True
