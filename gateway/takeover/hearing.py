"""Which meters of a microgrid a controller reaches: by what they send, and by questions to those that are silent.

The warm meters count alone, since the others have no session with a controller to which they do not send. A question to
a meter without a session costs nothing on the line: the broker has nobody to send it to.
"""

from collections import Counter
from collections.abc import Collection

from commonwatt.model.control.relaying import PUT_S
from commonwatt.model.ids import MeterId

# Seconds without a message after which a meter counts as not reached, where it is commanded; with longer periods of
# puts later, since half of it must be longer than a period.
MANAGED_S = 180.0
HOSTED_S = 7_200.0  # the same elsewhere: each question costs bytes
ASK_AGAIN_S = 15.0  # seconds between two questions to a silent meter; the first ones follow sooner: 1, 2, 4, 8
PATIENCE = 2.0  # times the longest recent wait for an answer: before that no meter is asked again
MOST_AT_ONCE = 20  # questions in one step


class Hearing:
    """The meters of one microgrid at one controller.

    Args:
        meters: Its warm meters.
    """

    def __init__(self, meters: Collection[MeterId]) -> None:
        self.meters = frozenset(meters)
        self.put_s = PUT_S  # seconds between the meters' puts
        self._heard: dict[MeterId, float] = {}
        self._asked: dict[MeterId, float] = {}
        self._first_asked: dict[MeterId, float] = {}  # since when each meter was asked in vain
        self._answer_s = 0.0  # seconds until an answer, the longest recent ones
        self._tries: Counter[MeterId] = Counter()

    def heard(self, meter: MeterId, now: float) -> None:
        """Note a message of a meter."""
        self._heard[meter] = now
        if meter in self._tries:
            del self._tries[meter]
            # A longer silence is not that of an answer on its way.
            waited_s = min(now - self._first_asked.pop(meter), ASK_AGAIN_S)
            self._answer_s = max(self._answer_s / 2, waited_s)

    def lost(self) -> None:
        """Forget all: the own broker, with its sessions, is gone."""
        self._heard.clear()
        self._asked.clear()
        self._first_asked.clear()
        self._tries.clear()

    def reached(self, now: float, *, manages: bool) -> int:
        """Return how many of the warm meters are reached."""
        silent_s = self._silent_s(manages=manages)
        return sum(now - self._heard.get(meter, -HOSTED_S) < silent_s for meter in self.meters)

    def is_enough(self, reached: int) -> bool:
        """Return whether two thirds of them are reached."""
        return reached * 3 >= len(self.meters) * 2

    def due(self, now: float, *, manages: bool) -> list[MeterId]:
        """Return the meters to ask now, and note it."""
        quiet_s = self._silent_s(manages=manages) / 2
        silent = (meter for meter in self.meters if now - self._heard.get(meter, -HOSTED_S) >= quiet_s)
        due = [meter for meter in silent if now - self._asked.get(meter, -ASK_AGAIN_S) >= self._wait_s(meter)]
        due = due[:MOST_AT_ONCE]
        self._asked.update(dict.fromkeys(due, now))
        for meter in due:
            self._first_asked.setdefault(meter, now)
        self._tries.update(due)
        return due

    def _silent_s(self, *, manages: bool) -> float:
        return MANAGED_S + 2 * (self.put_s - PUT_S) if manages else HOSTED_S

    def _wait_s(self, meter: MeterId) -> float:
        """Return the seconds between two questions: after a start of the broker its meters connect within some."""
        # Where answers take long, more questions would make them take longer.
        return max(min(2.0 ** self._tries[meter], ASK_AGAIN_S), PATIENCE * self._answer_s)

    def nearest(self, meters: Collection[MeterId], count: int) -> list[MeterId]:
        """Return the meters that were heard last, as many as asked for; all are known by their last messages."""
        return sorted(meters, key=lambda meter: self._heard.get(meter, -HOSTED_S), reverse=True)[:count]
