"""A battery that does not obey counts as not sharing at once; others give more, and it is told again later (52-A2)."""

from itertools import pairwise

from commonwatt.protocol.commands import Command, Kind
from commonwatt.protocol.device_states import Stage
from commonwatt.protocol.sharing_words import Why, reason_of_code
from harness.surroundings.gateway import World, commands
from tests.unit.gateway.test_manager import households
from tests.unit.gateway.test_sharing_codes import codes


def state(stage: Stage, failsafe: str = "watchdog") -> dict[str, object]:
    return {"stage": stage, "since": 5, "failsafe": failsafe, "finding": "should be on, and shows 'idle'"}


def answers(world: World, meter: int, kind: Kind, cmd: str, stage: Stage, result: str = "refused") -> list[Command]:
    """Let a foreign meter answer that its device is at a stage; it withdraws what was refused."""
    desired = world.core.manager.desired(meter, kind)
    assert desired is not None
    held: dict[str, object] = {"value": "on" if result == "done" else "off", "epoch": desired.epoch, "seq": desired.seq}
    until = {"until": desired.until} if result == "done" else {}
    return world.introduce(meter, cmd=cmd, result=result, states={kind: state(stage)}, held={kind: held | until})


def told(world: World, since: int, cmd: str) -> list[str]:
    return [p.topic.split("/")[2] for p in world.sent[since:] for c in commands([p]) if c.cmd == cmd]


def test_others_give_at_once_and_it_is_told_again_after_longer_and_longer_waits(world: World) -> None:
    world.settings = world.settings.model_copy(update={"sharing": "rangers"})
    world.crash()
    households(world, 80, 80, 30)
    before = len(world.sent)
    answers(world, 1, Kind.SHARING, "share_power_on", Stage.DISOBEYS)
    assert "1" in told(world, before, "share_power_off")
    assert codes(world)[1] == Why.DISOBEYS
    assert set(world.core.manager.decision.donors) == {2}
    at = []
    for _ in range(8 * 60):
        world.now += 60
        before = len(world.sent)
        for meter, percent in ((1, 80), (2, 80), (3, 30)):
            world.level(meter, percent)
        world.tick("retry")
        if "1" in told(world, before, "share_power_on"):
            at.append(world.now)
            answers(world, 1, Kind.SHARING, "share_power_on", Stage.DISOBEYS)
    assert [(b - a) // 60 for a, b in pairwise(at)] == [20, 40, 80, 160, 160]
    world.now += 160 * 60
    for meter, percent in ((1, 80), (2, 80), (3, 30)):
        world.level(meter, percent)
    answers(world, 1, Kind.SHARING, "share_power_on", Stage.OBEYS, "done")
    assert codes(world)[1] == Why.HELPS


def test_a_load_that_does_not_reduce_is_not_told_each_minute(world: World) -> None:
    world.introduce(1)
    manager = world.core.manager
    world.do(manager.keep(1, Kind.REDUCING, True, world.core.now))
    answers(world, 1, Kind.REDUCING, "reduce_power_on", Stage.DISOBEYS)
    before = len(world.sent)
    for _ in range(9):
        world.now += 60
        world.do(manager.keep(1, Kind.REDUCING, True, world.core.now))
        world.do(manager.resend(world.core.now))
    assert not told(world, before, "reduce_power_on")
    world.now += 120
    world.do(manager.keep(1, Kind.REDUCING, True, world.core.now))
    world.do(manager.resend(world.core.now))
    assert told(world, before, "reduce_power_on")


def test_a_battery_that_can_not_show_whether_it_obeys_is_unconfirmed_for_people(world: World) -> None:
    households(world, 80, 30)
    assert codes(world)[1] == "helps?"
    answers(world, 1, Kind.SHARING, "share_power_on", Stage.UNCONFIRMED, "done")
    assert codes(world)[1] == "helps~"
    assert reason_of_code("helps~", 10).why.endswith("It can't show whether it obeys (unconfirmed).")


def test_a_switch_that_did_not_open_is_still_permitted_to_close(world: World) -> None:
    world.introduce(1)
    manager = world.core.manager
    world.do(manager.keep(1, Kind.ISOLATED, True, world.core.now))
    answers(world, 1, Kind.ISOLATED, "isolate", Stage.DISOBEYS)
    before = len(world.sent)
    world.do(manager.keep(1, Kind.ISOLATED, False, world.core.now, explicit=True))
    assert told(world, before, "isolate")
    before = len(world.sent)
    world.now += 120
    world.tick("retry")
    assert told(world, before, "isolate"), "until it is confirmed"


def test_refusals_during_a_wait_make_it_no_longer(world: World) -> None:
    """An adapter whose device's broker is away tries to end the state, and is refused again and again."""
    world.introduce(1)
    manager = world.core.manager
    world.do(manager.keep(1, Kind.REDUCING, True, world.core.now))
    for _ in range(6):
        answers(world, 1, Kind.REDUCING, "reduce_power_off", Stage.DISOBEYS)
        world.now += 100
    world.now += 60
    before = len(world.sent)
    world.tick("retry")
    world.do(manager.keep(1, Kind.REDUCING, True, world.core.now))
    world.do(manager.resend(world.core.now))
    assert told(world, before, "reduce_power_on")
