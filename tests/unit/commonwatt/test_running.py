"""A controller without power is dead when its battery is empty, and starts again with the voltage."""

import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from commonwatt.demo import running
from commonwatt.demo.layout import BUILT_IN_TOWN, Layout
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town


def a_run(monkeypatch: pytest.MonkeyPatch, stop: Any) -> running.Run:
    """Return a run without processes; a test gives it an observer and a supervisor."""
    monkeypatch.setattr(running, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(running, "set_ceiling", lambda *_: None)
    clock = Clock(origin=0, monotonic_origin=time.monotonic(), speed=60)
    run = running.Run(Layout(data=Path(), town=load_town(BUILT_IN_TOWN), clock=clock, parts=()), stop)
    run.observer.close()
    return run


def test_a_slow_machine_may_relay_as_long_as_something_arrives_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = a_run(monkeypatch, SimpleNamespace(wait=lambda _: False))
    run.supervisor = SimpleNamespace(running={}, watch=lambda: None, hold=lambda _: None)
    now, arrived = 0.0, 0
    run.observer = SimpleNamespace(
        seen={}, silent=set(), look=lambda: None, drained=lambda: False, arrived=lambda: arrived
    )
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: now))

    def looked() -> None:
        nonlocal now, arrived
        now += 50
        arrived = min(int(now), 500)

    assert not run.watch(100.0, looked)
    assert 500 + running.DRAIN_WITHIN_S <= now <= 500 + running.DRAIN_WITHIN_S + 2 * 50


def test_a_dark_microgrids_broker_and_gateway_are_held_until_the_voltage_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # req: T9
    stop = threading.Event()
    run = a_run(monkeypatch, stop)
    held: list[set[str]] = []

    def hold(names: Collection[str]) -> None:
        held.append(set(names))

    seen: dict[str, Any] = {
        "meters": {},
        "r001 meters": {"dark": True, "time": 0},
        "r002 meters": {"dark": False, "time": 0},
    }
    parts = dict.fromkeys(["r001 broker", "r001 gateway", "r002 broker", "r002 gateway", "head-end"])
    replaced: Any = run
    replaced.observer = SimpleNamespace(
        seen=seen, silent=set(seen), look=lambda: None, drained=lambda: False, arrived=lambda: 0
    )
    replaced.supervisor = SimpleNamespace(running=parts, watch=lambda: None, hold=hold)
    run.dead = {"head-end"}

    def looked() -> None:
        if held:
            seen["r001 meters"]["dark"] = False
            run.dead = frozenset()
        if len(held) == 1:
            stop.set()

    run.watch(None, looked)
    assert held == [{"r001 broker", "r001 gateway", "head-end"}, set()]
