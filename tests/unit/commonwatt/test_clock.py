"""Clocks: all parts of a demonstration agree on the time, and it never runs backwards."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime import clock as module
from commonwatt.runtime.clock import Clock, load_clock, save_clock, wall_clock


class Machine:
    """The machine's two clocks, as the tests set them."""

    def __init__(self) -> None:
        self.wall = 1_790_000_000.0
        self.monotonic = 500.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    it = Machine()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: it.wall, monotonic=lambda: it.monotonic))
    return it


def test_clock_stands_still_before_its_origin(machine: Machine) -> None:
    clock = Clock(origin=1_000.0, monotonic_origin=510.0, speed=60)
    assert clock.now() == 1_000
    machine.monotonic = 509.9
    assert clock.now() == 1_000
    machine.monotonic = 511
    assert clock.now() == 1_060


def test_a_machine_after_2106_starts_in_1970_as_one_without_a_clock_battery(machine: Machine) -> None:
    machine.wall = 2.0**32 - 1
    assert wall_clock().now() == 2**32 - 1
    machine.wall = 2.0**32
    assert wall_clock().now() == 0


def test_fast_clock_waits_less(machine: Machine) -> None:
    clock = Clock(origin=1_000.0, monotonic_origin=500.0, speed=60)
    assert clock.real_s(900) == 15
    assert clock.real_s_until(1_120) == 2
    machine.monotonic = 501
    assert clock.real_s_until(1_120) == 1
    machine.monotonic = 600
    assert clock.real_s_until(1_120) == 0


def test_wall_clock_runs_on_when_the_machines_time_is_set_back(machine: Machine) -> None:
    clock = wall_clock()
    assert clock.now() == 1_790_000_000
    machine.wall -= 3_600
    machine.monotonic += 5
    assert clock.now() == 1_790_000_005


def test_wall_clock_goes_on_from_a_time_it_is_told_to_follow(machine: Machine) -> None:
    clock = wall_clock()
    machine.monotonic += 5
    clock.follow(1_790_003_600)
    assert clock.now() == 1_790_003_600
    machine.monotonic += 5
    assert clock.now() == 1_790_003_605


def test_parts_that_read_one_clock_file_agree(machine: Machine, tmp_path: Path) -> None:
    clock = Clock(origin=1_000.0, monotonic_origin=499.0, speed=60, meters_stop_at=2_000)
    path = tmp_path / "clock.json"
    save_clock(path, clock)
    assert load_clock(path) == replace(clock, path=path)
    assert load_clock(path).now() == 1_060


def test_time_begins_in_every_part_when_the_demonstration_says_so(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    clock = Clock(origin=1_000.0, monotonic_origin=1e9, speed=60)
    save_clock(path, clock)
    part = load_clock(path)
    machine.monotonic = 700
    assert part.now() == 1_000
    save_clock(path, replace(clock, monotonic_origin=702.0))
    assert part.now() == 1_000
    machine.monotonic = 703
    assert part.now() == 1_060
    # Once it runs, nothing stops it: the file is not read again.
    path.unlink()
    machine.monotonic = 704
    assert part.now() == 1_120


def test_a_clock_that_stands_still_does_not_read_its_file_at_each_question(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clock.json"
    save_clock(path, Clock(origin=1_000.0, monotonic_origin=1e9))
    part, look = load_clock(path), Mock(side_effect=load_clock)
    monkeypatch.setattr(module, "load_clock", look)
    for _ in range(1_000):
        assert part.now() == 1_000
    assert look.call_count == 1
    machine.monotonic += 2 * module.LOOK_EVERY_S
    assert part.now() == 1_000
    assert look.call_count == 2


def test_without_a_clock_file_it_is_the_machines_time(machine: Machine) -> None:
    assert load_clock(None) == Clock(origin=1_790_000_000, monotonic_origin=500)


def test_clock_of_an_earlier_boot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    save_clock(path, wall_clock())
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"boot": "another"}))
    with pytest.raises(ConfigError, match=r"clock\.json: made before this machine restarted"):
        load_clock(path)
