"""The command ``upgrade`` at a gateway's core: taken once, told when it ended, kept over a restart."""

import json

from commonwatt.protocol.controller_commands import ControllerOutcome
from commonwatt.protocol.json_messages import unpack_json
from gateway.events import Upgraded
from gateway.upgrade.wanted import Ended, Wanted
from harness.surroundings.gateway import World

SHA = "a" * 64


def ask(world: World, name: str, release: str = "0.4.1") -> list[ControllerOutcome]:
    fields = {"v": 1, "id": name, "cmd": "upgrade", "until": world.now + 600, "release": release, "sha256": SHA}
    sent = world.utility_says("cmd", json.dumps(fields).encode())
    return [unpack_json(ControllerOutcome, each.payload) for each in sent if each.topic == "cw1/r001/u/out"]


def wanted(world: World) -> Wanted | None:
    return world.core.utility_commands.upgrade


def test_it_is_taken_once_and_kept_over_a_restart(world: World) -> None:
    assert [one.result for one in ask(world, "upgrade-1")] == ["partial"]
    assert [one.result for one in ask(world, "upgrade-1")] == ["partial"], "the same again is the same command"
    world.crash()
    assert wanted(world) == Wanted(id="upgrade-1", release="0.4.1", sha256=SHA)


def test_the_release_that_runs_then_tells_how_it_ended_also_when_it_is_asked_again(world: World) -> None:
    ask(world, "upgrade-1")
    world.crash()
    why = "went back to 0.4.0: no verdict within 10 minutes"
    (sent,) = world.handle(Upgraded(Ended(id="upgrade-1", result="refused", why=why)))
    told = unpack_json(ControllerOutcome, sent.payload)
    assert (told.id, told.result, told.reason) == ("upgrade-1", "refused", why)
    world.crash()
    assert wanted(world) is None
    assert ask(world, "upgrade-1") == [told]


def test_a_later_command_takes_the_place_of_an_earlier_one(world: World) -> None:
    ask(world, "upgrade-1")
    first, second = ask(world, "upgrade-2", "0.4.2")
    assert (first.id, first.result, first.reason) == ("upgrade-1", "superseded", "0.4.2 is wanted")
    assert (second.id, second.result) == ("upgrade-2", "partial")
    assert world.handle(Upgraded(Ended(id="upgrade-1", result="done"))) == [], "it does not count any more"
    assert wanted(world) == Wanted(id="upgrade-2", release="0.4.2", sha256=SHA)
