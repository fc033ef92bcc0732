"""What a proxy does with each MQTT message: its fate, by a judge."""

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum


class Way(Enum):
    """A direction of transmission."""

    UP = "from the client to the server"
    DOWN = "from the server to the client"


class Fate(Enum):
    """The proxy's treatment of a message."""

    PASS = "passed"
    DROP = "dropped"
    TWICE = "passed twice"
    SWAP = "overtaken by the next message of its way and connection"
    HOLD = "held until release"


@dataclass(frozen=True)
class Message:
    """A PUBLISH packet."""

    way: Way  # which way it goes
    topic: str  # its topic
    payload: bytes  # its payload

    @property
    def leaf(self) -> str:
        """The last level of its topic."""
        return self.topic.rpartition("/")[2]


Judge = Callable[[Message], Fate]


def chance(seed: int, shares: Mapping[Fate, float], leaves: Collection[str] | None = None) -> Judge:
    """Return a judge that draws fates at random, by their shares; other draws, and topics of other leaves, pass."""
    rng = random.Random(seed)

    def judge(message: Message) -> Fate:
        if leaves is not None and message.leaf not in leaves:
            return Fate.PASS
        draw = rng.random()
        for fate, share in shares.items():
            if draw < share:
                return fate
            draw -= share
        return Fate.PASS

    return judge
