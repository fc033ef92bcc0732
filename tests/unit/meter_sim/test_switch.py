"""The emulated boundary switch: it opens in the slot of the fault, and closes on a stable voltage."""

from collections.abc import Iterable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.control.return_delay import BLOCK_S, BLOCKS, STABLE_S, UNMANAGED_S, return_delay_s
from commonwatt.model.records import State
from commonwatt.protocol.commands import Held
from meter_sim.switch import BoundarySwitch, Kept

DELAY_S = 480


def delay(returned: int) -> int:
    """Return the microgrid's own delay; the tests of the draw are in ``test_return``."""
    return DELAY_S if returned % 15 == 0 else 0


def held(value: str, seq: int, until: int | None = None) -> Held:
    return Held(value=value, epoch=(1, 0), seq=seq, until=until)


def opened_at(switch: BoundarySwitch, steps: Iterable[tuple[int, bool, Held | None]]) -> list[int]:
    """Step the switch; return the times at which it is open."""
    times = []
    for at, voltage, desired in steps:
        switch.step(voltage=voltage, held=desired, at=at)
        times += [at] if switch.is_open else []
    return times


def test_it_trips_in_the_slot_without_voltage_and_tells_so() -> None:
    switch = BoundarySwitch(delay, Kept(is_open=False))
    switch.step(voltage=True, held=None, at=0)
    assert switch.bits == State(0)
    switch.step(voltage=False, held=None, at=15)
    assert switch.bits == State.DEAD_FEEDER | State.SWITCH_OPEN | State.OFF_GRID
    switch.step(voltage=True, held=None, at=30)
    assert switch.bits == State.SWITCH_OPEN | State.OFF_GRID


def test_without_a_manager_it_closes_after_fifteen_stable_minutes_and_its_delay() -> None:
    switch = BoundarySwitch(delay, Kept(is_open=False))
    steps = [(0, False, held("off", 3)), *((t, True, held("off", 3)) for t in range(15, 3000, 15))]
    assert opened_at(switch, steps)[-1] == 15 + UNMANAGED_S + DELAY_S - 15


def test_a_manager_closes_it_by_a_later_command_after_a_stable_voltage_alone() -> None:
    switch = BoundarySwitch(delay, Kept(is_open=False))
    steps = [(0, False, held("off", 3)), *((t, True, held("off", 4)) for t in range(15, 3000, 15))]
    assert opened_at(switch, steps)[-1] == STABLE_S


def test_an_excursion_begins_the_wait_again() -> None:
    switch = BoundarySwitch(delay, Kept(is_open=False))
    steps = [(t, t not in (0, 150), held("off", 4 if t else 3)) for t in range(0, 3000, 15)]
    assert opened_at(switch, steps)[-1] == 150 + STABLE_S


def test_a_command_opens_it_until_its_end_and_an_ended_command_is_no_release() -> None:
    switch = BoundarySwitch(delay, Kept(is_open=False))
    during = [(t, True, held("on", 5, until=600)) for t in range(0, 600, 15)]
    after = [(t, True, held("off", 5)) for t in range(600, 3000, 15)]
    last = during[-1][0]
    assert opened_at(switch, [*during, *after])[-1] == last + UNMANAGED_S + DELAY_S - 15


def test_a_late_renewal_of_the_command_to_open_finds_the_switch_still_open() -> None:
    switch = BoundarySwitch(lambda _: DELAY_S, Kept(is_open=False))
    # The voltage is stable for hours; each command lasts 900 s, and each renewal comes 300 s after its end.
    steps = [(t, True, held("on", 5 + t // 1200, until=t // 1200 * 1200 + 900)) for t in range(0, 14_400, 15)]
    assert opened_at(switch, steps) == [t for t, *_ in steps]


def test_after_a_restart_an_open_switch_stays_open_for_the_wait() -> None:
    switch = BoundarySwitch(delay, Kept(is_open=True))
    assert (
        opened_at(switch, [(t, True, None) for t in range(9000, 12_000, 15)])[-1] == 9000 + UNMANAGED_S + DELAY_S - 15
    )


def test_after_a_restart_only_a_command_after_the_one_that_opened_it_releases_it() -> None:
    switch = BoundarySwitch(delay, Kept(is_open=False))
    switch.step(voltage=True, held=held("on", 5, until=15), at=0)
    ended = [(t, True, held("off", 5)) for t in range(15, 3000, 15)]
    again = BoundarySwitch(delay, switch.kept)
    assert opened_at(again, ended)[-1] == 15 + UNMANAGED_S + DELAY_S - 15
    again = BoundarySwitch(delay, switch.kept)
    assert opened_at(again, [(t, True, held("off", 6)) for t, *_ in ended])[-1] == STABLE_S


def test_a_clock_that_was_set_back_makes_no_wait_longer() -> None:
    switch = BoundarySwitch(delay, Kept(is_open=True))
    switch.step(voltage=True, held=None, at=90_000)
    back = [(t, True, None) for t in range(0, 3000, 15)]
    assert opened_at(switch, back)[-1] == UNMANAGED_S + DELAY_S - 15


def test_without_a_manager_each_return_has_its_own_delay() -> None:
    switch, closed = BoundarySwitch(partial(return_delay_s, "r001", is_public=False), Kept(is_open=False)), set()
    for outage in range(40):
        begin = outage * 6000
        steps = [(begin, False, None), *((t, True, None) for t in range(begin + 15, begin + 6000, 15))]
        closed.add(opened_at(switch, steps)[-1] - begin - UNMANAGED_S)
    assert closed == {BLOCK_S * n for n in range(1, BLOCKS + 1)}


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["on", "off", "none"]), st.integers(1, 9)), max_size=80),
    st.booleans(),
)
def test_whatever_is_commanded_it_is_open_without_voltage_and_closes_after_stable_voltage(
    steps: list[tuple[bool, str, int]], was_open: bool
) -> None:
    switch, stable = BoundarySwitch(delay, Kept(was_open)), 0
    for n, (voltage, value, seq) in enumerate(steps):
        before = switch.is_open
        desired = None if value == "none" else held(value, seq, until=10**9 if value == "on" else None)
        switch.step(voltage=voltage, held=desired, at=n * 15)
        stable = stable + 15 if voltage else 0
        assert voltage or switch.is_open
        if before and not switch.is_open:
            assert stable > STABLE_S
