"""A connection that is up and silent is distinguished from one that has nothing to send."""

from pathlib import Path

import pytest

import gateway.links
import utility.assembly.head_ends
from commonwatt.network.liveness import Liveness
from harness.surroundings.gateway import World, registered


def test_a_connection_over_which_nothing_was_expected_is_left_alone() -> None:
    liveness = Liveness(30, 3600)
    assert not liveness.too_long(1e9)


def test_an_answer_that_does_not_come_is_noticed_once_and_then_later_and_later() -> None:
    liveness = Liveness(30, 100)
    now = 0.0
    waited = []
    for _ in range(4):
        liveness.expected(now)
        liveness.expected(now + 1)  # another question does not begin the wait anew
        begun = now
        while not liveness.too_long(now):
            now += 1
        waited.append(now - begun)
        assert not liveness.too_long(now)
    assert waited == [30, 60, 100, 100]
    liveness.heard(now)
    liveness.expected(now)
    assert liveness.too_long(now + 30)


def test_whatever_comes_ends_the_wait() -> None:
    liveness = Liveness(30, 3600)
    liveness.expected(0)
    liveness.heard(29)
    assert not liveness.too_long(60)
    assert liveness.quiet_s(60) == 31
    assert Liveness(30, 3600).quiet_s(0) == pytest.approx(float("inf"))


def test_nothing_is_expected_of_a_connection_that_is_gone() -> None:
    liveness = Liveness(30, 3600)
    liveness.expected(0)
    liveness.gone()
    assert not liveness.too_long(60)


def looks(deaf_at: float, watch_s: float, until: float) -> tuple[list[float], list[float]]:
    """Return when a gateway with nothing to send says something, and when it and the utility connect again.

    The utility answers at once, until the gateway's connection passes nothing on any more; so does the utility's then.
    """
    said, again = [], []
    at_gateway = Liveness(gateway.links.LINK_SILENT_S, gateway.links.LONGEST_SILENCE_S)
    at_utility = Liveness(utility.assembly.head_ends.LINK_SILENT_S, utility.assembly.head_ends.LONGEST_SILENCE_S)
    at_gateway.heard(0)
    for look in range(1, int(until / watch_s)):
        now = look * watch_s
        if at_gateway.too_long(now):
            again.append(now)
        elif at_gateway.quiet_s(now) >= gateway.links.HEAD_END_QUIET_S:
            said.append(now)
            at_gateway.expected(now)
            if now < deaf_at:
                at_utility.heard(now)
                at_gateway.heard(now)
        at_utility.expected(now)
        if at_utility.too_long(now):
            again.append(now)
    return said, again


@pytest.mark.parametrize("late_s", [0.0, 1.0, 4.9])
def test_a_deaf_connection_is_noticed_soon_at_both_ends_and_a_quiet_night_is_no_alarm(late_s: float) -> None:
    watch_s = max(gateway.links.WATCH_EVERY_S, utility.assembly.head_ends.WATCH_EVERY_S)
    said, again = looks(8 * 3600.0, watch_s, 8 * 3600.0)
    assert again == []
    assert len(said) > 8 * 60
    deaf_at = 600 + late_s
    _, again = looks(deaf_at, watch_s, 671)
    assert len(again) >= 2
    assert all(now - deaf_at <= 70 for now in again[:2])


def reconnections(world: World, answering: int, until_s: int) -> int:
    """Return how often a gateway connects to its meters again if only one of them answers, and only when it is asked.

    As ``gateway.links`` watches its connection: every 5 s.
    """
    liveness, count, begun = Liveness(gateway.links.LINK_SILENT_S, gateway.links.LONGEST_SILENCE_S), 0, world.now
    liveness.heard(0)
    while (now := world.now - begun) < until_s:
        world.now += int(gateway.links.WATCH_EVERY_S)
        if liveness.too_long(now):
            count += 1
        elif liveness.quiet_s(now) >= gateway.links.QUIET_S:
            sent = world.do(world.core.probe("meters", world.now))
            liveness.expected(now)
            if any(f"/{answering}/" in message.topic for message in sent):
                world.introduce(answering, cmd="get")
                liveness.heard(now)
    return count


@pytest.mark.parametrize("answering", [1, 17, 30])
def test_a_gateway_of_many_meters_of_which_one_answers_does_not_connect_again(tmp_path: Path, answering: int) -> None:
    """An adapter that is idle, beside meters that are not installed yet, for nine minutes."""
    world = World(tmp_path / "gateway.db")
    world.meters = {meter: registered(meter) for meter in range(1, 31)}
    world.new_core()
    world.introduce(answering)
    assert reconnections(world, answering, 540) == 0


def test_who_is_late_itself_waits_anew() -> None:
    liveness = Liveness(30, 3600)
    liveness.put_off(0)
    assert not liveness.too_long(100), "it expected nothing"
    liveness.expected(100)
    liveness.put_off(125)
    assert not liveness.too_long(154)
    assert liveness.too_long(155)
