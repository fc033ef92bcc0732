"""The boundary switch opens on a dead feeder, and closes on a stable voltage alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonwatt.model.control.return_delay import BLOCK_S, BLOCKS, return_delay_s
from gateway.control.islanding import (
    REPORT_GOOD_FOR_S,
    Boundary,
    Phase,
    Sensor,
    Wish,
    contradiction,
    wish,
)

STABLE_S, DELAY_S = 300, 60


def seen(*reports: tuple[int, bool, bool]) -> Boundary:
    """What was observed after reports of (time, voltage, switch open)."""
    boundary = Boundary()
    for heard, voltage, is_open in reports:
        boundary = boundary.observe(Sensor(voltage=voltage, is_open=is_open, heard=heard))
    return boundary


def wanted(
    boundary: Boundary, now: int, *, commanded: bool = False, isolated: bool = False, released: bool = False
) -> Wish:
    return wish(
        boundary,
        now,
        commanded=commanded,
        isolated=isolated,
        stable_s=STABLE_S,
        delay_s=DELAY_S,
        released=released,
    )


def test_a_report_of_a_closed_switch_neither_ends_nor_renews_the_command_to_open() -> None:
    boundary = seen((0, True, False))
    assert wanted(boundary, 0).phase is Phase.CONNECTED
    waiting = wanted(boundary, 0, isolated=True)
    assert (waiting.phase, waiting.is_open) == (Phase.RESYNCHRONISING, None)
    opened = wanted(seen((0, True, True)), 0, isolated=True)
    assert (opened.phase, opened.is_open) == (Phase.RESYNCHRONISING, True)
    assert wanted(boundary, 0, commanded=True, isolated=True).phase is Phase.ISOLATING


@pytest.mark.parametrize(
    ("voltage", "is_open", "commanded", "phase"),
    [
        (True, False, False, Phase.CONNECTED),
        (False, False, False, Phase.ISOLATING),
        (False, True, False, Phase.ISLANDED),
        (True, True, False, Phase.RESYNCHRONISING),
        (True, False, True, Phase.ISOLATING),
        (True, True, True, Phase.ISLANDED),
    ],
)
def test_the_phase_follows_from_voltage_switch_and_command(
    voltage: bool, is_open: bool, commanded: bool, phase: Phase
) -> None:
    assert wanted(seen((0, voltage, is_open)), 0, commanded=commanded).phase is phase


def test_a_silent_sensor_never_closes_the_switch() -> None:
    boundary = seen(*((t, True, True) for t in range(0, 61, 15)))
    assert wanted(boundary, 10_000, isolated=True).is_open is True
    assert "silent" in wanted(boundary, 10_000).reason


def test_a_silent_sensor_opens_no_switch_that_may_have_closed_since() -> None:
    boundary = seen(*((t, True, True) for t in range(0, 61, 15)))
    assert wanted(boundary, 10_000).is_open is None


def test_a_switch_that_was_commanded_to_close_is_opened_again_by_the_loss_of_voltage_alone() -> None:
    closing = [(t, True, True) for t in range(0, STABLE_S + DELAY_S + 1, 15)]
    now = closing[-1][0]
    assert wanted(seen(*closing), now).is_open is False
    late = seen(*closing, (now + REPORT_GOOD_FOR_S + 15, True, True))
    assert wanted(late, now + REPORT_GOOD_FOR_S + 15, released=True).is_open is None, "a late report of an open switch"
    assert wanted(seen(*closing), now + 90, released=True).is_open is None, "no report for a while"
    assert wanted(seen(*closing, (now + 15, False, True)), now + 15, released=True).is_open is True


def test_the_sensor_is_right_against_a_notice_and_the_contradiction_is_told() -> None:
    live, dead = seen((0, True, False)), seen((0, False, True))
    assert wanted(live, 0).phase is Phase.CONNECTED
    assert "power is lost, but the boundary sensor has voltage" in str(contradiction(live, notice=True))
    assert "power is back, but the boundary sensor has no voltage" in str(contradiction(dead, notice=False))
    assert contradiction(live, notice=False) is None
    assert contradiction(dead, notice=True) is None
    assert contradiction(Boundary(), notice=True) is None
    assert contradiction(live, notice=None) is None


def test_the_time_being_set_changes_no_wait() -> None:
    boundary = seen(*((t, True, True) for t in range(0, 61, 15)))
    assert wanted(boundary.shift(3600), 3660).reason == wanted(boundary, 60).reason
    assert Boundary().shift(5) == Boundary()


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, 90), st.booleans(), st.booleans(), st.booleans(), st.booleans()),
        max_size=60,
    )
)
def test_it_never_closes_without_observed_stable_voltage(
    steps: list[tuple[int, bool, bool, bool, bool]],
) -> None:
    """Whatever comes, in whatever order, with restarts: closing needs reports without a gap for the whole wait."""
    now, boundary, good = 0, Boundary(), list[int]()
    for after_s, voltage, is_open, commanded, restarts in steps:
        now += after_s
        if restarts:
            boundary, good = Boundary(), []
        boundary = boundary.observe(Sensor(voltage=voltage, is_open=is_open, heard=now))
        good = [*good, now] if voltage and (not good or now - good[-1] <= REPORT_GOOD_FOR_S) else [now] * voltage
        it = wanted(boundary, now, commanded=commanded)
        if it.is_open is False and is_open:
            assert not commanded
            assert now - good[0] >= STABLE_S + DELAY_S


def test_the_public_microgrid_returns_first_and_the_others_in_blocks() -> None:
    assert return_delay_s("public", 0, is_public=True) == 0
    delays = Counter(return_delay_s(f"r{n:03}", 0, is_public=False) for n in range(1, 801))
    assert sorted(delays) == [BLOCK_S * n for n in range(1, BLOCKS + 1)]
    assert max(delays.values()) < 2 * 800 // BLOCKS
    assert return_delay_s("apt", 0, is_public=False) in delays


def test_the_order_of_return_is_drawn_anew_for_each_outage() -> None:
    """No microgrid is always among the last, and two outages have the same order in no more than by chance."""
    outages = [[return_delay_s(f"r{n:03}", at, is_public=False) for n in range(1, 101)] for at in range(0, 36_000, 15)]
    last = np.array(outages) == BLOCKS * BLOCK_S
    assert 0.1 < last.mean(axis=0).min() < last.mean(axis=0).max() < 0.24
    same = np.array(outages[:-1]) == np.array(outages[1:])
    assert 0.16 < same.mean() < 0.18
