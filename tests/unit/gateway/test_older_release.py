"""A command for a microgrid changes no other one, though the manager's release hosts none (docs/protocol.md)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest

from commonwatt.model.effects import Publish, Write
from commonwatt.model.time.now import Now
from commonwatt.protocol.controller_commands import Action, ControllerCommand, ControllerOutcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.topics import COMMANDS, gateway_down
from gateway.relay import utility_commands
from gateway.relay.utility_commands import UtilityCommands
from harness.surroundings.gateway import START, World
from utility.outbox.changes import CloseCommand, OpenCommand
from utility.readings import sending
from utility.readings.sending import RESEND_S, Sending

ISOLATE = ControllerCommand(id="c1", cmd=Action.ISOLATE, until=START + 9000, state="on", for_s=3600)
OPEN = OpenCommand(id="c1", controller="r002", message=ISOLATE.pack().decode(), until=ISOLATE.until)


@contextmanager
def older_release() -> Iterator[None]:
    """The gateway knows no ``hosted``: it ignores the keys, and the command as any that it does not know."""
    with patch.object(utility_commands, "HOSTED", "no such command"):
        yield


class Wire:
    """The utility, which believes that r001 manages r002, and r001's gateway, which hosts its own microgrid alone."""

    def __init__(self, folder: Path) -> None:
        self.gateway, self.utility = World(folder / "gateway.db"), Sending()
        self.utility.managers = {"r001": ("r001", (1, 1)), "r002": ("r001", (2, 1))}
        self.outcomes: list[ControllerOutcome] = []
        self.closed: list[CloseCommand] = []

    def look(self) -> list[str]:
        """Let the utility send what is due, and take the answers; return the topics."""
        sent = [one for one in self.utility.due([OPEN], self.gateway.now) if isinstance(one, Publish)]
        for one in sent:
            if one.topic == gateway_down("r001", COMMANDS):
                self._deliver(one.payload)
        return [one.topic for one in sent]

    def _deliver(self, payload: bytes) -> None:
        for answer in self.gateway.utility_says(COMMANDS, payload):
            outcome = unpack_json(ControllerOutcome, answer.payload)
            self.outcomes.append(outcome)
            effects = self.utility.answered("r001", outcome, ()).effects
            changes = [effect.change for effect in effects if isinstance(effect, Write)]
            self.closed += [change for change in changes if isinstance(change, CloseCommand)]


def is_never_isolated_for_another(folder: Path, result: str) -> None:
    """Let a minute pass; the command stays open, for its own controller."""
    wire = Wire(folder)
    for _ in range(6):
        assert wire.look() == ["cw1/r001/d/cmd"]
        wire.gateway.now += RESEND_S
        assert wire.gateway.core.modes.states.isolate_until == 0, "r001 is isolated by a command for r002"
    assert {outcome.result for outcome in wire.outcomes} == {result}
    assert wire.closed == []
    wire.utility.managers = {"r001": ("r001", (1, 1)), "r002": ("r002", (3, 2))}
    assert wire.look() == ["cw1/r002/d/cmd"]
    wire.gateway.store.close()


RELEASES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "unsupported": older_release,
    "refused": nullcontext,
}
"""Releases of a gateway that has no store of the microgrid, by their answer."""


@pytest.mark.parametrize("result", RELEASES)
def test_a_controller_without_a_store_of_the_microgrid_leaves_its_command_alone(result: str, tmp_path: Path) -> None:
    with RELEASES[result]():
        is_never_isolated_for_another(tmp_path, result)


def test_the_bare_command_would_have_isolated(tmp_path: Path) -> None:
    wire = Wire(tmp_path)
    with older_release():
        wire.gateway.utility_says(COMMANDS, ISOLATE.pack())
    assert wire.gateway.core.modes.states.isolate_until == START + 3600
    wire.gateway.store.close()


def _bare(*given: object) -> ControllerCommand:
    command = given[-1]
    assert isinstance(command, ControllerCommand)
    return command


def _for_its_own(self: UtilityCommands, _: ControllerCommand, wrapped: ControllerCommand, now: Now) -> object:
    return self.do(wrapped, now)


BUGS: dict[str, tuple[Callable[[], AbstractContextManager[object]], str]] = {
    "a command for another microgrid is sent bare": (lambda: patch.object(sending, "sent_to", _bare), "unsupported"),
    "unsupported closes the command": (
        lambda: patch.object(ControllerOutcome, "has_no_store", property(lambda _: False)),
        "unsupported",
    ),
    "a wrapped command is taken for the own microgrid": (
        lambda: patch.object(UtilityCommands, "_hosted", _for_its_own),
        "refused",
    ),
}
"""Planted bugs, each with the answer of the release in which it is found."""


@pytest.mark.parametrize("bug", BUGS)
def test_each_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    plant, result = BUGS[bug]
    with plant(), RELEASES[result](), pytest.raises(AssertionError):
        is_never_isolated_for_another(tmp_path, result)
