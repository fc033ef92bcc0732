"""Commands for a microgrid go to whoever manages it now, and only that controller's outcome closes them (R6)."""

import json

import pytest

from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.protocol.controller_commands import ControllerOutcome
from utility.outbox.changes import Change, CloseCommand, Deposed, OpenCommand, Step
from utility.readings.sending import RESEND_S, Sending

NOW = 1_800_000_000
REDUCE = OpenCommand(
    id="c1",
    controller="r001",
    message='{"v":1,"id":"c1","cmd":"reduce","until":1800009000,"state":"off"}',
    until=NOW + 9000,
)
GET = OpenCommand(
    id="g1",
    controller="r002",
    message='{"v":1,"id":"g1","cmd":"hosted","until":1800009000,"microgrid":"r001","epoch":[4,2],"command":'
    '{"v":1,"id":"g1","cmd":"get","until":1800009000,"blocks":[]}}',
    until=NOW + 9000,
)


def sent(effects: list[Effect[Change]]) -> list[tuple[str, str]]:
    """Return receiver and command of each message."""
    messages = [effect for effect in effects if isinstance(effect, Publish)]
    return [(one.topic.split("/")[1], json.loads(one.payload)["cmd"]) for one in messages]


def told(
    command: OpenCommand, result: str = "done", reason: str | None = None, cmd: str = "reduce"
) -> ControllerOutcome:
    return ControllerOutcome.model_validate(
        {"id": command.id, "cmd": cmd, "result": result, "reason": reason, "time": NOW}
    )


def closed(step: Step) -> list[str]:
    changes = [effect.change for effect in step.effects if isinstance(effect, Write)]
    return [change.controller for change in changes if isinstance(change, CloseCommand)]


def test_a_command_goes_plain_to_its_own_controller_and_wrapped_to_another_manager() -> None:
    sending = Sending()
    sending.managers = {"r001": ("r001", (1, 1))}
    assert sent(sending.due([REDUCE], NOW)) == [("r001", "reduce")]
    sending.managers = {"r001": ("r002", (2, 2))}
    (message,) = sending.due([REDUCE], NOW + 1)
    assert isinstance(message, Publish)
    assert message.topic == "cw1/r002/d/cmd"
    wrapped = json.loads(message.payload)
    assert (wrapped["cmd"], wrapped["microgrid"], wrapped["epoch"]) == ("hosted", "r001", [2, 2])
    assert (wrapped["id"], wrapped["command"]["id"], wrapped["command"]["cmd"]) == ("c1", "c1", "reduce")
    assert sent(sending.due([REDUCE], NOW + 2)) == []
    assert sent(sending.due([REDUCE], NOW + 1 + RESEND_S)) == [("r002", "hosted")]
    sending.managers = {"r001": ("r002", (3, 2))}
    assert sent(sending.due([REDUCE], NOW + 2 + RESEND_S)) == [("r002", "hosted")], "under its new epoch at once"


def test_the_outcome_of_an_earlier_manager_closes_nothing() -> None:
    sending = Sending()
    sending.due([REDUCE], NOW)
    sending.managers = {"r001": ("r002", (2, 2))}
    sending.due([REDUCE], NOW + 2)
    assert closed(sending.answered("r001", told(REDUCE), ())) == []
    assert closed(sending.answered("r002", told(REDUCE), ())) == ["r001"]


@pytest.mark.parametrize("reason", ["deposed by [7, 3]", "the epoch is [7, 3]"])
def test_a_deposed_controller_names_the_epoch_in_force_and_the_command_stays_open(reason: str) -> None:
    sending = Sending()
    sending.due([REDUCE], NOW)
    step = sending.answered("r001", told(REDUCE, "refused", reason), ())
    assert closed(step) == []
    assert step.deposed == Deposed(controller="r001", microgrid="r001", epoch=(7, 3))
    sending.managers = {"r001": ("r003", (7, 3))}
    assert sent(sending.due([REDUCE], NOW + 1)) == [("r003", "hosted")]


def test_any_other_refusal_closes_the_command_as_always() -> None:
    sending = Sending()
    sending.due([REDUCE], NOW)
    assert closed(sending.answered("r001", told(REDUCE, "refused", "nothing to reduce"), ())) == ["r001"]


def test_a_request_for_data_goes_to_the_store_that_is_asked_whoever_manages() -> None:
    sending = Sending()
    sending.managers = {"r001": ("r003", (5, 3)), "r002": ("r003", (5, 3))}
    assert sent(sending.due([GET], NOW)) == [("r002", "hosted")]
    step = sending.answered("r002", told(GET, "refused", "the epoch is [5, 3]", cmd="hosted"), ())
    assert closed(step) == ["r002"], "it is asked again with the next search"
    assert step.deposed == Deposed(controller="r002", microgrid="r001", epoch=(5, 3))
