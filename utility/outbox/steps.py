"""What handling a message leads to: effects, and the report of a refused batch."""

from dataclasses import dataclass

from commonwatt.model.effects import Effect
from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.batches import BatchRefusal
from utility.outbox.changes import Change


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The refusal of a controller's batch, shown to people as the reason why its data waits."""

    controller: ControllerId  # the batch's sender
    time: EpochSeconds  # time of receipt
    status: BatchRefusal  # as in the acknowledgement
    reason: str  # metric label; one of a small set
    text: str  # message for people; it names the meter


@dataclass(frozen=True)
class Step:
    """The result of handling one message."""

    # Metric label: ``stored``, ``stored_for_another`` (the data belongs to another controller's microgrid),
    # ``not_assigned`` (some of it is of meters that the sender may not hold), ``seen``, ``outcome``, or why not.
    result: str
    effects: tuple[Effect[Change], ...] = ()  # effects for the shell to perform
    refused: Refused | None = None  # the refusal of a registered controller's batch; else ``None``
    unknown_states: int = 0  # number of events with state bits unknown to this version
