"""Open commands: to whom each is sent, again and again until its outcome, and whose outcome counts (R6; pure).

A command for a microgrid that another controller manages goes to that one, wrapped with the epoch. When the manager
changes, it is sent anew, and the outcome of the earlier manager no longer counts. What concerns no meter's state goes
to the controller that is named.
"""

from collections.abc import Iterable, Mapping

from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.controller_commands import HOSTED, Action, ControllerCommand, ControllerOutcome, sent_to
from commonwatt.protocol.topics import COMMANDS, PLANT, gateway_down
from utility.outbox.changes import CloseCommand, ClosePurchase, CoreStep, Deposed, OpenCommand, UtilityChange

RESEND_S = 10  # seconds after which a command without an outcome is sent again
Absent = tuple[tuple[int, int, int, int], ...]  # blocks as in ``CloseCommand.absent``

_FOR_THE_NAMED = {Action.GET, Action.SYSTEM_INFO, Action.RATES, Action.REPORT, Action.DISCOVER} | {
    *(Action.UPGRADE, Action.UNPACK, Action.WITNESS, HOSTED)
}


class Sending:
    """The open commands of the last look, and when each was sent to whom."""

    def __init__(self) -> None:
        # The manager and the epoch of each microgrid that may be managed by another controller than its own.
        self.managers: Mapping[MicrogridId, tuple[ControllerId, Epoch]] = {}
        self._waiting: dict[str, OpenCommand] = {}
        # When each was sent last, to whom, and under which epoch.
        self._sent: dict[str, tuple[EpochSeconds, ControllerId, Epoch]] = {}

    def due(self, waiting: Iterable[OpenCommand], now: EpochSeconds) -> list[Effect[UtilityChange]]:
        """Send each open command every ``RESEND_S``, and at once under another epoch; close expired ones."""
        effects: list[Effect[UtilityChange]] = []
        sent: dict[str, tuple[EpochSeconds, ControllerId, Epoch]] = {}
        waiting = tuple(waiting)
        for command in waiting:
            if command.until <= now:
                effects.append(Write(_expired(command)))
                continue
            target, epoch, message = self._addressed(command)
            last = self._sent.get(command.id)
            # A negative difference means that the clock was set back: the command is due then, too.
            if last is None or last[1:] != (target, epoch) or not 0 <= now - last[0] < RESEND_S:
                last = now, target, epoch
                effects.append(Publish(gateway_down(target, COMMANDS), message.encode()))
            sent[command.id] = last
        self._sent, self._waiting = sent, {command.id: command for command in waiting}
        return effects

    def _addressed(self, command: OpenCommand) -> tuple[ControllerId, Epoch, str]:
        """Return who is sent a command now, under which epoch ((0, 0): any), and in which form."""
        plain = command.controller, (0, 0), command.message
        manager, epoch = self.managers.get(command.controller, (command.controller, (0, 0)))
        if manager == command.controller:
            return plain
        message = ControllerCommand.model_validate_json(command.message)
        if message.cmd in _FOR_THE_NAMED:
            return plain
        return manager, epoch, sent_to(manager, command.controller, epoch, message).pack().decode()

    def answered(self, sender: ControllerId, outcome: ControllerOutcome, absent: Absent) -> CoreStep:
        """Take in an outcome: close the command, or leave it open for the controller that manages now."""
        command = self._waiting.get(outcome.id)
        wrapped = None if command is None else _wrapped(command)
        microgrid = wrapped or (sender if command is None else command.controller)
        in_force = outcome.in_force
        deposed = None if in_force is None else Deposed(controller=sender, microgrid=microgrid, epoch=in_force)
        is_data = wrapped is not None or outcome.cmd in _FOR_THE_NAMED - {HOSTED}
        if not is_data and (deposed is not None or outcome.has_no_store):
            return CoreStep("outcome", deposed=deposed)
        target = self._sent.get(outcome.id)
        if target is not None and target[1] != sender:
            return CoreStep("outcome")
        closing = CloseCommand(
            id=outcome.id,
            controller=sender if command is None else command.controller,
            state="done",
            outcome=outcome.model_copy(update={"report": None}).pack().decode(),
            report=outcome.report,
            absent=absent,
            has_no_store=outcome.has_no_store,
        )
        return CoreStep("outcome", (Write(closing),), deposed=deposed)


def _wrapped(command: OpenCommand) -> MicrogridId | None:
    """Return the microgrid of a data request to another controller's store; ``None``: the command is none."""
    if f'"cmd":"{HOSTED}"' not in command.message:
        return None
    return ControllerCommand.model_validate_json(command.message).microgrid


def _expired(command: OpenCommand) -> UtilityChange:
    if command.controller == PLANT:
        return ClosePurchase(id=command.id, state="expired")
    return CloseCommand(id=command.id, controller=command.controller, state="expired")
