"""The ladder of trust: who is believed about the time, and for how long."""

from dataclasses import replace

import pytest

from commonwatt.model.time import MachineClocks, Trust
from gateway.timekeeper import CONFIRMED_FOR_S, DRIFT, KEEP_EVERY_S, MAX_ERROR_S, METER_GOOD_FOR_S, Timekeeper

NOW = 1_790_000_000
HOUR = 3600
MACHINE = MachineClocks(
    raw=NOW, wall=NOW, since_boot_s=1000.0, boot="this", synchronised=False, has_hardware_clock=False
)


def keeper(*meters: float) -> Timekeeper:
    """Return one that has the times of three meters, each so far ahead."""
    it = Timekeeper(None)
    for n, ahead_s in enumerate(meters):
        it.meter(NOW, n, int(NOW + ahead_s))
    return it


def told(it: Timekeeper, raw: float = NOW) -> tuple[int, Trust]:
    return int(it.now(raw) - raw), it.trust(raw)


def test_nothing_is_trusted_before_anybody_said_anything() -> None:
    assert told(Timekeeper(None)) == (0, Trust.NONE)


def test_the_utility_is_believed_and_its_word_stands_for_a_while_then_the_clock_for_its_drift() -> None:
    it = keeper()
    it.network(NOW, NOW + 100, 0)
    assert told(it) == (100, Trust.NETWORK)
    assert told(it, NOW + CONFIRMED_FOR_S + 1) == (100, Trust.HARDWARE)
    assert told(it, NOW + 6 * 86_400)[1] is Trust.HARDWARE
    assert told(it, NOW + MAX_ERROR_S / DRIFT)[1] is Trust.NONE


def test_a_time_told_within_the_round_trip_agrees_and_sets_nothing() -> None:
    it = keeper()
    it.network(NOW, NOW - 30, 30)
    assert told(it) == (0, Trust.NETWORK)
    assert it.stepped_s == 0
    it.network(NOW, NOW - 70, 30)
    assert told(it) == (-40, Trust.NETWORK), "by no more than is certain"
    assert it.stepped_s == -40


@pytest.mark.parametrize("by_s", [HOUR, -HOUR])
def test_who_contradicts_this_machine_is_not_followed_until_a_third_decides(by_s: int) -> None:
    it = keeper()
    it.network(NOW, NOW + by_s, 0)
    assert told(it) == (0, Trust.NONE)
    assert it.contested
    for n in range(3):
        it.meter(NOW, n, NOW + by_s + n)
    assert told(it) == (0, Trust.NONE)
    it.network(NOW, NOW + by_s, 0)
    assert told(it) == (by_s, Trust.NETWORK)


def test_a_utility_that_meters_and_machine_contradict_is_outvoted_but_nothing_is_rejected_as_from_the_future() -> None:
    it = keeper(0, 1, -1)
    it.network(NOW, NOW, 0)
    it.network(NOW, NOW + HOUR, 0)
    assert told(it) == (0, Trust.METERS)
    assert it.counts.contradictions == 1
    it.network(NOW, NOW + 5, 0)
    assert told(it) == (5, Trust.NETWORK)


def test_meters_that_machine_and_utility_contradict_are_outvoted() -> None:
    it = keeper()
    it.network(NOW, NOW, 0)
    for n in range(3):
        it.meter(NOW, n, NOW + HOUR)
    assert told(it) == (0, Trust.NETWORK)
    it.network(NOW, NOW, 0)
    assert told(it) == (0, Trust.NETWORK)


def test_three_who_contradict_each_other_are_all_not_trusted() -> None:
    it = keeper(HOUR, HOUR, HOUR)
    assert told(it) == (HOUR, Trust.METERS)
    it.network(NOW, NOW - HOUR, 0)
    it.network(NOW, NOW + 3 * HOUR, 0)
    assert told(it) == (HOUR, Trust.METERS), "by now the meters' time is this machine's"
    it = keeper()
    it.network(NOW, NOW, 0)
    for n in range(3):
        it.meter(NOW, n, NOW + HOUR)
    it.network(NOW, NOW - HOUR, 0)
    assert told(it) == (0, Trust.NONE)


def test_a_machine_that_starts_in_1970_is_no_witness() -> None:
    it = Timekeeper(None)
    it.network(100, NOW, 0)
    assert (it.now(100), it.trust(100)) == (NOW, Trust.NETWORK)
    it = Timekeeper(None)
    for n in range(3):
        it.meter(100, n, NOW + HOUR)
    assert (it.now(100), it.trust(100)) == (NOW + HOUR, Trust.METERS)


def test_nobody_who_starts_in_1970_is_a_witness_not_even_two_of_them() -> None:
    """Found by the simulation: the utility and the gateway agreed on a day of 1970, and good readings were refused."""
    it = Timekeeper(None)
    it.network(100, 150, 60)
    it.network(100, 4000, 0)
    for n in range(3):
        it.meter(100, n, 150)
    assert (it.now(100), it.trust(100)) == (100, Trust.NONE)


def test_the_median_of_three_meters_is_better_than_nothing_and_one_that_is_far_off_moves_it_not() -> None:
    it = keeper(600, 601)
    assert told(it) == (0, Trust.NONE)
    it.meter(NOW, 7, NOW - 9 * HOUR)
    assert told(it) == (600, Trust.METERS)
    assert told(it, NOW + METER_GOOD_FOR_S + 1)[1] is Trust.NONE
    it.meter_slot(NOW, 8, NOW + 595)
    it.forget({0, 1})
    assert told(it)[1] is Trust.NONE


def test_small_differences_between_meters_do_not_move_the_time_for_ever() -> None:
    it = keeper(600, 601, 602)
    it.meter(NOW, 1, NOW + 620)
    it.meter(NOW, 2, NOW + 620)
    assert it.counts.steps == 1


def test_a_jump_of_the_machines_clock_ends_trust_until_it_is_confirmed() -> None:
    it = keeper()
    it.network(NOW, NOW, 0)
    it.jumped()
    assert told(it) == (0, Trust.NONE)
    it.network(NOW, NOW, 0)
    assert told(it) == (0, Trust.NETWORK)


def test_after_a_jump_nobody_outvotes_the_utility_by_what_was_said_before() -> None:
    """A machine that slept for eight hours; whoever spoke before has not counted them."""
    it = keeper(*[0] * 20)
    it.network(NOW, NOW, 0)
    it.jumped()
    it.machine(replace(MACHINE, wall=NOW + 8 * HOUR))
    assert told(it) == (0, Trust.NONE)
    it.network(NOW + 10, NOW + 8 * HOUR + 10, 0)
    assert told(it, NOW + 10) == (8 * HOUR, Trust.NETWORK), "the machine's clock, as it is now, agrees"
    it = keeper(0, 0, 0)
    it.network(NOW, NOW, 0)
    it.jumped()
    it.machine(MACHINE)
    it.network(NOW, NOW + 8 * HOUR, 0)
    assert told(it) == (0, Trust.NONE)
    for n in range(3):
        it.meter(NOW, n, NOW + 8 * HOUR)
    it.network(NOW, NOW + 8 * HOUR, 0)
    assert told(it) == (8 * HOUR, Trust.NETWORK), "the meters agree"


@pytest.mark.parametrize("synchronised", [False, True])
def test_a_machine_that_was_paused_trusts_no_time_that_the_utility_contradicts(synchronised: bool) -> None:
    """None of its clocks has gone on, and its kernel takes itself for synchronised until NTP has looked."""
    paused = replace(MACHINE, synchronised=synchronised)
    it = keeper(0, 0, 0)
    it.machine(paused)
    it.network(NOW, NOW, 0)
    assert told(it) == (0, Trust.NETWORK)
    it.network(NOW, NOW + 3 * HOUR, 0)
    it.machine(paused)
    assert told(it) == (0, Trust.METERS), "records of the right time are kept"
    assert it.contested
    assert it.keep() is None
    for n in range(3):
        it.meter(NOW, n, NOW + 3 * HOUR)
    it.network(NOW, NOW + 3 * HOUR, 0)
    it.machine(paused)
    if synchronised:
        assert told(it)[1] is Trust.NONE
        it.machine(replace(paused, wall=NOW + 3 * HOUR))
    assert told(it) == (3 * HOUR, Trust.NETWORK)
    assert not it.contested


@pytest.mark.parametrize("seen", [False, True])
def test_ntp_and_the_utility_together_win_over_meters_and_the_time_at_the_start(seen: bool) -> None:
    """It starts three days behind, and its meters have taken that from it; then NTP sets the clock."""
    right = replace(MACHINE, wall=NOW + 72 * HOUR, synchronised=True)
    it = keeper(0, 0, 0)
    it.machine(MACHINE)
    if seen:
        it.jumped()
    it.machine(right)
    assert told(it) == ((72 * HOUR, Trust.NETWORK) if seen else (0, Trust.METERS))
    it.network(NOW, NOW + 72 * HOUR, 0)
    it.machine(right)
    assert told(it) == (72 * HOUR, Trust.NETWORK)


def test_ntp_that_meters_contradict_is_followed_when_the_utility_agrees_and_not_before() -> None:
    it = keeper(0, 0, 0)
    it.network(NOW, NOW, 0)
    it.machine(replace(MACHINE, wall=NOW + HOUR, synchronised=True))
    assert told(it) == (0, Trust.METERS)
    it.machine(replace(MACHINE, wall=NOW + HOUR, synchronised=False))
    assert told(it) == (0, Trust.NETWORK), "nobody says so any more"


def test_ntp_and_a_utility_that_is_minutes_off_do_not_set_the_time_in_turns() -> None:
    it = keeper()
    for n in range(0, 600, 60):
        it.machine(replace(MACHINE, raw=NOW + n, wall=NOW + n + 20, synchronised=True))
        it.network(NOW + n, NOW + n + 600, 0)
        assert told(it, NOW + n) == (20, Trust.NETWORK)
    assert it.counts.steps == 1
    it.network(NOW + 700, NOW + 700 + HOUR, 0)
    assert told(it, NOW + 700) == (20, Trust.NONE)
    assert it.counts.contradictions == 1


def test_a_clock_that_ntp_keeps_is_believed() -> None:
    it = keeper()
    it.machine(replace(MACHINE, wall=NOW + 20, synchronised=True))
    assert told(it) == (20, Trust.NETWORK)


def kept() -> str:
    it = keeper()
    it.machine(MACHINE)
    assert it.keep() is None, "nobody has confirmed the time"
    it.network(NOW, NOW + 10, 0)
    text = it.keep()
    assert text is not None
    it.machine(replace(MACHINE, raw=NOW + 60, since_boot_s=1060.0))
    assert it.keep() is None, "what is kept is fresh"
    it.machine(replace(MACHINE, raw=NOW + KEEP_EVERY_S, since_boot_s=1000.0 + KEEP_EVERY_S))
    assert it.keep() is not None
    return text


def test_a_restart_goes_on_by_the_clock_that_counts_since_the_boot_whatever_the_machines_clock_says() -> None:
    it = Timekeeper(kept())
    it.machine(replace(MACHINE, raw=5.0, wall=5.0, since_boot_s=1600.0))
    assert (it.now(5), it.trust(5)) == (NOW + 610, Trust.HARDWARE)


def test_after_a_reboot_a_hardware_clock_that_was_right_goes_on_and_nothing_else_does() -> None:
    for has, wall, trust in (
        (True, NOW + 86_400, Trust.HARDWARE),
        (False, NOW + 86_400, Trust.NONE),
        (True, NOW - HOUR, Trust.NONE),
        (True, NOW + 30 * 86_400, Trust.NONE),
    ):
        it = Timekeeper(kept())
        it.machine(replace(MACHINE, raw=wall, wall=wall, since_boot_s=9.0, boot="another", has_hardware_clock=has))
        assert it.trust(wall) is trust, (has, wall)
        if trust is Trust.HARDWARE:
            assert it.now(wall) == wall + 10


def test_a_time_that_nobody_confirmed_for_days_is_not_kept_as_good_over_restarts() -> None:
    it = Timekeeper(kept())
    it.machine(replace(MACHINE, raw=NOW + 600, wall=NOW + 600, since_boot_s=1600.0))
    it.network(NOW + 600, NOW + 610, 0)
    for day in range(1, 6):
        later = replace(MACHINE, raw=NOW + day * 86_400, wall=NOW + day * 86_400, since_boot_s=1000.0 + day * 86_400)
        it.machine(later)
        assert it.trust(later.raw) is Trust.HARDWARE
        assert it.keep() is None, day


def test_what_an_earlier_release_kept_is_no_reason_to_fail() -> None:
    it = Timekeeper("yesterday")
    it.machine(MACHINE)
    assert told(it) == (0, Trust.NONE)
