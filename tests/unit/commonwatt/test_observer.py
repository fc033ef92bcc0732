"""What the demonstration sees of its parts, and counts."""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from commonwatt.demo.layout import BUILT_IN_TOWN, Layout
from commonwatt.demo.observer import Observer
from commonwatt.demo.parts import Part
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town

NOW = 1_781_964_000


def test_a_microgrid_that_another_controller_manages_is_seen_by_its_own_gateways_status() -> None:
    observer = Observer(SimpleNamespace(town=SimpleNamespace(microgrids=["r001"])))  # type: ignore[arg-type]
    status: dict[str, Any] = {"modes": {"phase": "connected"}, "donors": [], "receivers": []}
    told = []
    for takeover in ({}, {"takeover": {"microgrids": {"r001": {"manages": False}}}}):
        observer.seen = {"r001 gateway": status | takeover}
        told.append(observer.on_stage()["r001"].manages)
    observer.close()
    assert told == [True, False]


def test_lapses_are_counted_over_the_restarts_of_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    part = SimpleNamespace(name="r001 gateway", http="127.0.0.1:1")
    observer = Observer(SimpleNamespace(parts=[part]))  # type: ignore[arg-type]
    answers: list[dict[str, int] | None] = [{"lapses": 3}, {"lapses": 5}, None, {"lapses": 1}, {"lapses": 1}]
    counts = []
    for answer in answers:
        monkeypatch.setattr(observer, "_ask", lambda _, answer=answer: answer)
        observer.look()
        counts.append(observer.lapses)
    observer.close()
    assert counts == [3, 5, 5, 6, 6]


def test_the_line_of_the_audit_turns_green_again_when_late_readings_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(origin=NOW, monotonic_origin=0, speed=60)
    part = Part(name="utility", kind="utility", config=Path(), http="127.0.0.1:1", log=Path())
    observer = Observer(Layout(data=Path(), town=load_town(BUILT_IN_TOWN), clock=clock, parts=(part,), began=NOW))
    monkeypatch.setattr("commonwatt.demo.observer.STORED_EVERY_S", 0)
    said = []
    for minutes, made, stored in ((0, 100, 0), (10, 200, 90), (15, 300, 90), (20, 400, 100), (25, 500, 200)):
        observer.seen = {"meters": {"made": made}, "r001 meters": {"made": made}}
        monkeypatch.setattr(observer, "_ask", lambda *_, stored=stored: {"slots": {"r001": stored}})
        observer.count(NOW + 60 * minutes)
        said.append((observer.is_good, observer.audit))
    observer.close()
    well = (True, "audit: all readings older than 15 minutes are stored")
    assert said == [well, well, (False, "audit: 10 readings older than 15 minutes are not stored yet"), well, well]


def test_a_part_that_dies_in_the_middle_of_its_answer_is_silent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        http = f"127.0.0.1:{server.getsockname()[1]}"
        config = tmp_path / "utility.toml"
        config.write_text(f'[utility]\nhttp = "{http}"\n')
        part = Part(name="utility", kind="utility", config=config, http=http, log=tmp_path / "log")
        observer = Observer(SimpleNamespace(parts=[part]))  # type: ignore[arg-type]
        looking = pool.submit(observer.look)
        connection, _ = server.accept()
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 154\r\n\r\n")
        connection.close()
        looking.result()
        assert (observer.silent, observer.seen) == ({"utility"}, {})
        observer.close()
