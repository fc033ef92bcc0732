"""Which epochs a meter takes, over restarts and with a new token (R4)."""

import pytest

from commonwatt.device.changes import DesiredStates, under_token
from commonwatt.device.commands.desired_states import SAVE_S
from commonwatt.device.meter import Meter
from commonwatt.model.effects import Write
from commonwatt.model.records import State
from commonwatt.protocol import topics
from commonwatt.protocol.commands import RAISES, RAISES_WITHIN_S
from tests.unit.device.test_meter import Bench, T, command, stored


def restart(bench: Bench, now: float, token: str = "") -> None:
    """Build the meter from what it last wrote."""
    bench.meter = Meter(bench.description, bench.limits, under_token(stored(bench), token), bench.tally)
    bench.do(bench.meter.boot(now, power_lost=True))


def raised(bench: Bench, rank: int = 7) -> None:
    """Raise the epoch as often as one controller may within a day."""
    for n in range(RAISES):
        assert bench.command("initialize", epoch=[2 + n, rank]).result == "done"


def test_a_step_too_large_is_refused_with_the_meter_s_epoch_and_changes_nothing() -> None:
    bench = Bench()
    bench.command("share_power_on", seq=1, for_s=60)
    refused = bench.command("share_power_off", epoch=[65_538, 1], seq=1)
    assert (refused.result, refused.epoch) == ("refused", (1, 0))
    assert refused.reason == "counter 65538 is more than 65536 above 1"
    assert bench.meter.bits & State.SHARING
    assert bench.command("share_power_off", epoch=[65_537, 1], seq=1).result == "done", "nearer in steps"


@pytest.mark.parametrize("cmd", ["initialize", "stop", "get", "put"])
def test_every_command_under_a_step_too_large_is_refused(cmd: str) -> None:
    bench = Bench()
    bench.command("initialize")
    assert bench.command(cmd, epoch=[2**31, 1], what="state", time=T, trust=3).result == "refused"


def test_a_controller_that_raises_all_day_is_refused_and_another_one_is_not() -> None:
    bench = Bench()
    raised(bench)
    refused = bench.command("initialize", epoch=[500, 7])
    assert (refused.result, refused.epoch) == ("refused", (101, 7))
    assert bench.command("initialize", epoch=[100, 7]).result == "fenced", "a lower epoch"
    assert bench.command("initialize", epoch=[500, 2]).result == "done"


def test_neither_a_restart_nor_a_wrong_clock_makes_the_day_shorter() -> None:
    bench = Bench()
    raised(bench)
    # Ten years later on the machine's clock, but the meter was off.
    restart(bench, T + 10 * 365 * 86_400)
    assert bench.command("initialize", now=T + 10 * 365 * 86_400, epoch=[500, 7]).result == "refused"
    restart(bench, T)
    # The controller reports another time: the meter's own clock counts.
    bench.command("put", now=T, epoch=[101, 7], time=T + RAISES_WITHIN_S * 2, trust=3)
    assert bench.command("initialize", now=T + 10, epoch=[500, 7]).result == "refused"
    assert bench.command("initialize", now=T + RAISES_WITHIN_S + 1, epoch=[500, 7]).result == "done"


def test_a_meter_that_fails_four_times_a_day_forgets_a_quarter_hour_each_time_at_most() -> None:
    bench = Bench()
    now = float(T)
    bench.command("initialize", epoch=[1, 7])
    kept = None
    for _ in range(4):
        for _ in range(6 * 60 + 1):
            written = [e.change for e in bench.meter.tick(now) if isinstance(e, Write)]
            kept = next((change for change in written if isinstance(change, DesiredStates)), kept)
            now += 60
        assert kept is not None
        assert kept.own_s >= bench.meter.desired_states.own_clock.own_s - SAVE_S - 60
        restart(bench, now)
    assert stored(bench).desired_states.own_s >= RAISES_WITHIN_S - 4 * (SAVE_S + 60)


def test_what_is_a_day_old_is_forgotten_and_then_the_own_clock_is_not_written_any_more() -> None:
    bench = Bench()
    bench.command("initialize", epoch=[1, 7])
    assert stored(bench).desired_states.raises == {7: [0.0]}
    bench.meter.tick(T + RAISES_WITHIN_S + 1)
    assert stored(bench).desired_states.raises == {}
    late = bench.meter.tick(T + 2 * RAISES_WITHIN_S)
    assert not [e for e in late if isinstance(e, Write) and isinstance(e.change, DesiredStates)]


def test_the_raise_is_written_in_the_step_that_answers() -> None:
    bench = Bench()
    first, *_ = bench.meter.receive(topics.COMMANDS, command("initialize", epoch=[3, 2]), T)
    assert isinstance(first, Write)
    assert isinstance(first.change, DesiredStates)
    assert (first.change.epoch, first.change.raises) == ((3, 2), {2: [0.0]})


def test_a_new_token_clears_the_epoch_and_states_in_force_stay_to_their_end() -> None:
    bench = Bench()
    restart(bench, T, token="old")
    bench.command("initialize", epoch=[3_000_000, 7])
    bench.command("reduce_power_on", epoch=[3_000_000, 7], seq=5, until=T + 60)
    restart(bench, T + 1, token="old")
    assert bench.command("initialize", now=T + 1, epoch=[1, 1]).result == "fenced"
    restart(bench, T + 2, token="new")
    assert bench.meter.bits & State.REDUCING
    taken = bench.command("reduce_power_off", now=T + 3, epoch=[1, 1], seq=1)
    assert (taken.result, taken.epoch) == ("done", (1, 1))
    assert stored(bench).desired_states.raises == {1: [pytest.approx(1.0)]}


def test_a_store_of_an_earlier_release_keeps_its_epoch_under_the_present_token() -> None:
    bench = Bench()
    bench.command("initialize", epoch=[9, 7])
    restart(bench, T + 1, token="present")
    assert bench.command("get", now=T + 1, what="state", epoch=[9, 7]).epoch == (9, 7)
    assert stored(bench).desired_states.digest == "present"
