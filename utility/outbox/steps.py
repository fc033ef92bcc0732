"""What handling a message leads to: effects, and what is told of a refused batch."""

from dataclasses import dataclass

from commonwatt.model.effects import Effect
from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.batches import BatchRefusal
from utility.outbox.changes import Change


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The refusal of a controller's batch, shown to people as the reason why its data waits.

    Attributes:
        controller: The batch's sender.
        time: Time of receipt.
        status: As in the acknowledgement.
        reason: Metric label; one of a small set.
        text: Message for people; it names the meter.
    """

    controller: ControllerId
    time: EpochSeconds
    status: BatchRefusal
    reason: str
    text: str


@dataclass(frozen=True)
class Step:
    """The result of handling one message.

    Attributes:
        result: Metric label: ``stored``, ``stored_for_another`` (the data belongs to another controller's microgrid),
            ``not_assigned`` (some of it is of meters that the sender may not hold), ``seen``, ``outcome``, or why not.
        effects: Effects for the shell to perform.
        refused: The refusal of a registered controller's batch; else ``None``.
        unknown_states: Number of events with state bits unknown to this version.
    """

    result: str
    effects: tuple[Effect[Change], ...] = ()
    refused: Refused | None = None
    unknown_states: int = 0
