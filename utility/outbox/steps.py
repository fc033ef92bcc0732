"""What handling a message leads to: effects, and the report of a refused batch."""

from dataclasses import dataclass

from commonwatt.model.effects import Effect
from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId
from commonwatt.protocol.batches import BatchRefusal, Mark
from commonwatt.protocol.commands import Epoch
from utility.outbox.changes import Change


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The refusal of a controller's batch, shown to people as the reason why its data waits."""

    controller: ControllerId  # the batch's sender
    time: EpochSeconds  # time of receipt
    status: BatchRefusal  # as in the acknowledgement
    reason: str  # metric label; one of a small set
    text: str  # message for people; it names the meter


@dataclass(frozen=True, kw_only=True)
class Deposed:
    """A controller names another epoch than the one under which it was sent a command."""

    controller: ControllerId  # the controller
    microgrid: MicrogridId  # the microgrid that the command is for
    epoch: Epoch  # the epoch that it names as the one in force


@dataclass(frozen=True)
class Step:
    """The result of handling one message."""

    # Metric label: ``stored``, ``stored_for_another`` (the data belongs to another controller's microgrid),
    # ``not_assigned`` (some of it is of meters that the sender may not hold), ``seen``, ``outcome``, or why not.
    result: str
    effects: tuple[Effect[Change], ...] = ()  # effects for the shell to perform
    refused: Refused | None = None  # the refusal of a registered controller's batch; else ``None``
    deposed: Deposed | None = None  # what an outcome says of who manages; else ``None``
    unknown_states: int = 0  # number of events with state bits unknown to this version
    # A mark that a heartbeat names and the database lacks: it went back (``readings.marks``); else ``None``.
    lost: Mark | None = None
