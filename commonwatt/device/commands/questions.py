"""Questions whether a controller's gateway still answers this meter: ``get what=manager`` (docs/protocol.md)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from commonwatt.device.records.delivery import Delivery
from commonwatt.model.records import Log
from commonwatt.protocol.commands import Command
from commonwatt.protocol.meter_messages import Put, PutAck, Refusal

ANSWER_S = 3.0  # most seconds until the answer
MAX_OPEN = 8  # most questions open at once; more are refused


@dataclass(frozen=True)
class Question:
    """An open question."""

    command: Command  # the question
    puts: Sequence[Put]  # what was sent because of it
    deadline: float  # when it is answered
    via: str  # the broker over which it came

    @property
    def silence(self) -> bool | None:
        """What is answered without an acknowledgement: ``False``, or ``None`` if a sound gateway may be that slow.

        A gateway acknowledges events at once, and lets a small put of records wait for others.
        """
        return False if any(put.log is Log.EVENT for put in self.puts) else None


class Questions:
    """The open questions of one meter; volatile, since the asker does not wait for a meter that restarts."""

    def __init__(self) -> None:
        self._open: list[Question] = []

    @property
    def is_full(self) -> bool:
        """Whether no further question is taken."""
        return len(self._open) >= MAX_OPEN

    @property
    def next(self) -> float | None:
        """When the next question is answered; ``None``: none is open."""
        return min((question.deadline for question in self._open), default=None)

    def ask(self, command: Command, puts: Sequence[Put], now: float, via: str) -> None:
        """Open a question about the gateway to which ``puts`` were just sent."""
        self._open.append(Question(command, tuple(puts), now + ANSWER_S, via))

    def about(self, name: str) -> list[Put]:
        """Return the puts of the open questions about a controller."""
        return [put for question in self._open if question.command.about == name for put in question.puts]

    def answered(self, ack: PutAck, via: str) -> list[Question]:
        """Close and return the questions that this answers; BUSY answers none: that gateway can't store."""
        of_it = [question for question in self._open if via in ("", question.command.about)]
        found = [one for one in of_it if ack.status is not Refusal.BUSY and any(map(ack.is_of, one.puts))]
        self._open = [question for question in self._open if question not in found]
        return found

    def due(self, now: float) -> list[Question]:
        """Close and return the questions to which no acknowledgement came in time."""
        due = [question for question in self._open if question.deadline <= now]
        self._open = [question for question in self._open if question.deadline > now]
        return due


def puts_of(deliveries: Collection[Delivery]) -> tuple[list[Put], Put | None]:
    """Return the puts in flight, and the newest event again if none of events is: a gateway answers events at once."""
    puts = [put for delivery in deliveries if (put := delivery.log.batch())]
    again = next((one.newest for one in deliveries if one.newest is not None and not one.log.frozen), None)
    return puts if again is None else [*puts, again], again
