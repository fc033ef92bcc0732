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
from commonwatt.town.town import load_town


def test_a_dark_microgrids_broker_and_gateway_are_held_until_the_voltage_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # req: T9
    monkeypatch.setattr(running, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(running, "raise_ceiling", lambda _: None)
    clock = Clock(origin=0, monotonic_origin=time.monotonic(), speed=0)
    stop = threading.Event()
    run = running.Run(Layout(data=Path(), town=load_town(BUILT_IN_TOWN), clock=clock, parts=()), stop)
    run.observer.close()
    held: list[set[str]] = []

    def hold(names: Collection[str]) -> None:
        held.append(set(names))

    seen: dict[str, Any] = {"meters": {}, "r001 meters": {"dark": True}, "r002 meters": {"dark": False}}
    parts = dict.fromkeys(["r001 broker", "r001 gateway", "r002 broker", "r002 gateway", "head-end"])
    replaced: Any = run
    replaced.observer = SimpleNamespace(seen=seen, look=lambda: None, drained=lambda: False)
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
