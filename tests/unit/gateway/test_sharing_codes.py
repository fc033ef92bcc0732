"""The utility can say why a battery does not share: the gateway's heartbeat has its reason as a code."""

import pytest

from commonwatt.model.records import State
from commonwatt.protocol.heartbeats import Heartbeat, Program
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.sharing_words import Why, reason_of_code
from gateway.shown.status import heartbeat
from harness.surroundings.gateway import World
from tests.unit.gateway.test_manager import households


def codes(world: World) -> dict[int, str]:
    sent = heartbeat(
        world.core, world.controller.line, world.core.now, None, {}, {}, Program(release="0.4", cert_days=9)
    )
    said = unpack_json(Heartbeat, sent.payload)
    assert said.program == Program(release="0.4", cert_days=9)
    return dict(said.sharing)


def test_a_heartbeat_says_why_each_battery_shares_or_not(world: World) -> None:
    assert set(codes(world).values()) == {Why.NO_ANSWER}
    households(world, 80, 70, 48)
    found = codes(world)
    assert (found[1], found[2], found[3]) == ("helps?", "helps?", "low"), "no meter has confirmed yet"
    world.now += 600
    world.level(3, 48)
    assert codes(world)[1] == Why.OLD_LEVEL


def test_the_page_and_the_heartbeat_say_alike_why_a_battery_can_not_take_part(world: World) -> None:
    households(world, 80, 70)
    world.introduce(3)
    assert codes(world)[3] == Why.NO_LEVEL
    world.introduce(3, minimum=None)
    world.level(1, 80, State.INITIALIZED | State.ISOLATED)
    world.level(2, 70, State(0))
    world.level(3, 48)
    found = codes(world)
    assert [found[meter] for meter in (1, 2, 3)] == [Why.ISOLATED, Why.SHUT_DOWN, Why.NO_MINIMUM]
    world.core.manager.epochs.fenced[3] = (2, 1)
    assert codes(world)[3] == Why.FENCED
    shown = {meter: battery["why"] for meter, battery in world.view()["batteries"].items()}
    assert shown == {str(meter): reason_of_code(code, 10).why for meter, code in codes(world).items()}


def test_before_a_boundary_meter_reports_a_battery_says_that_sharing_waits_for_it(world: World) -> None:
    world.core.manager.waits = True
    households(world, 80, 48)
    assert codes(world)[1] == Why.WAITS_BOUNDARY


def test_each_reason_is_a_sentence_and_one_of_a_later_version_says_so() -> None:
    for why in Why:
        assert reason_of_code(why, 20).why.endswith(".")
        assert "{" not in reason_of_code(why, 20).why
    assert reason_of_code("waits-band", 20).why.startswith("Less than 2 % of its capacity")
    assert reason_of_code("helps?", 20).why.endswith("it is sent again.")
    assert reason_of_code("by-the-moon", 20).role == "out"
    with pytest.raises(ValueError, match="by-the-moon"):
        Why("by-the-moon")
