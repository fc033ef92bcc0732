"""The demonstration's table, drawn as wide as a terminal is."""

import io
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from commonwatt.demo.layout import BUILT_IN_TOWN, Layout
from commonwatt.demo.parts import Part
from commonwatt.demo.supervisor import Supervisor
from commonwatt.demo.view import Observer, draw
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town

NOW = 1_781_964_000


def battery(level: int) -> dict[str, int]:
    return {"level": level, "minimum": 75, "capacity": 100}


@pytest.fixture
def seen() -> dict[str, Any]:
    """What the parts of a busy town answer."""
    seen: dict[str, Any] = {"utility": {"totals": {"dead_letters": 0}, "microgrids": {}}}
    for name in load_town(BUILT_IN_TOWN).microgrids:
        seen[f"{name} meters"] = {"made": 1_234_567, "acknowledged": 1_234_000, "held": 567, "lag_s": 15.2}
        seen[f"{name} gateway"] = {
            "relayed_slots": 1_233_000,
            "backlog": {"parts": 12, "events": 0, "dead_letters": 0},
            "batteries": {f"1{number:04}": battery(80 + number) for number in range(1, 9)}
            | {"10009": battery(53), "10010": {"role": "out", "why": "Its meter has not reported a level yet."}},
            "donors": [f"1{number:04}" for number in range(1, 9)],
            "receivers": ["10009"],
            "modes": {"phase": "connected"},
            "lte": {"used": [1_940_000, 2_060_000]},
            "last_commands": [{"time": NOW - 1101, "meter": "10001", "cmd": "share", "result": "done"}],
        }
        seen["utility"]["microgrids"][name] = {"received_slots": 1_243_000}
    return seen


def drawn(seen: dict[str, Any], columns: int, width: int | None, speed: float | None = None) -> list[str]:
    clock = Clock(origin=NOW, monotonic_origin=time.monotonic(), speed=0 if speed is None else 60)
    layout = Layout(data=Path(), town=load_town(BUILT_IN_TOWN), clock=clock, parts=())
    observer = Observer(layout)
    observer.seen = seen
    observer.stored = dict.fromkeys(layout.town.microgrids, 1_232_000) if seen else {}
    observer.close()
    out = io.StringIO()
    Console(file=out, width=columns).print(draw(layout, observer, Supervisor(layout), width, speed))
    return out.getvalue().splitlines()


def test_everything_fits_a_small_terminal(seen: dict[str, Any]) -> None:
    lines = drawn(seen, 80, 80)
    assert len(lines) < 24
    assert lines[0] == "0 processes, 0 restarts"
    text = "\n".join(lines)
    assert text.count("9, lowest house 5 53/75") == 4
    assert text.count(" 8 > 1") == 4
    assert "…" not in text


@pytest.mark.parametrize("width", [80, 250])
def test_a_slot_is_stored_once_and_what_came_again_stands_apart(seen: dict[str, Any], width: int) -> None:
    row = next(line for line in drawn(seen, width, width) if "r001" in line)
    assert [row.count(number) for number in ("1,234,567", "1,232,000", "11,000", "1,243,000")] == [1, 1, 1, 0]


def test_a_wide_terminal_names_the_batteries_as_the_console_does(seen: dict[str, Any]) -> None:
    text = "\n".join(drawn(seen, 250, None))
    assert text.count("⇄ 8 batteries to house 5") == 4
    assert "r001 house 1 share: done" in text
    assert text.count("1.9 + 2.1") == 4


def test_ages_are_in_the_seconds_of_the_town(seen: dict[str, Any]) -> None:
    assert any("share: done (1101 town s ago)" in line for line in drawn(seen, 80, 80))


def test_the_view_says_that_the_clock_is_slower_than_asked_for(seen: dict[str, Any]) -> None:
    words = "this machine can't keep up with 60x: the town's clock runs at 15x"
    assert any(words in line for line in drawn(seen, 200, 200, speed=15))
    assert not any("can't keep up" in line for line in drawn(seen, 200, 200, speed=60))


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
    monkeypatch.setattr("commonwatt.demo.view.STORED_EVERY_S", 0)
    said = []
    for minutes, made, stored in ((0, 100, 0), (10, 200, 90), (15, 300, 90), (20, 400, 100), (25, 500, 200)):
        observer.seen = {"meters": {"made": made}, "r001 meters": {"made": made}}
        monkeypatch.setattr(observer, "_ask", lambda *_, stored=stored: {"slots": {"r001": stored}})
        observer.count(NOW + 60 * minutes)
        said.append((observer.is_good, observer.audit))
    observer.close()
    well = (True, "audit: all readings older than 15 minutes are stored")
    assert said == [well, well, (False, "audit: 10 readings older than 15 minutes are not stored yet"), well, well]


def test_letters_are_told_last_if_there_are_any(seen: dict[str, Any]) -> None:
    assert "letter" not in "\n".join(drawn(seen, 80, 80))
    seen["utility"]["totals"]["dead_letters"] = 2
    next(status for name, status in seen.items() if "gateway" in name)["backlog"]["dead_letters"] = 1
    assert drawn(seen, 80, 80)[-1] == "3 dead letters: see commonwatt show dead-letters"


@pytest.mark.parametrize("width", [80, None])
def test_parts_that_did_not_answer_yet_are_dashes(width: int | None) -> None:
    assert any(" - " in line for line in drawn({}, width or 200, width))


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


def test_the_line_of_the_town_shows_sun_price_plant_and_supply(seen: dict[str, Any]) -> None:
    power = {"load_w": 117_284, "sun_w": 308_711, "import_w": -2_000}
    plant = {"level": 1_098, "capacity": 1_464, "battery_w": 2_000, "bought_w": 3_000, "price_permille": 1500}
    seen["meters"] = {"power": power, "sun_percent": 84.3, "plant": plant | {"supply": "LOW", "voltage": False}}
    for name in load_town(BUILT_IN_TOWN).microgrids:
        seen[f"{name} meters"]["power"] = power
    text = "\n".join(drawn(seen, 300, None))
    assert "town: ⌂ 117.3 kW used · ☀ 308.7 kW of sun · ⬢ plant 75.0 % full, 2.0 kW into it" in text
    assert "≋ buys 3.0 kW at 150 % of its off-peak price · regional supply LOW · the regional line is dead" in text
    assert text.count("⌂ 117.3  ☀ 308.7  ⬢ gives 2.0") == 4
    assert len(drawn(seen, 80, 80)) < 24


def test_energy_that_flows_the_other_way_has_another_word_and_no_minus(seen: dict[str, Any]) -> None:
    power = {"load_w": 0, "sun_w": 0, "import_w": 4_000}
    plant = {"level": 1, "capacity": 2, "battery_w": -2_000, "bought_w": -219_600, "price_permille": 1000}
    seen["meters"] = {"power": power, "sun_percent": 0.0, "plant": plant | {"supply": "NORMAL", "voltage": True}}
    seen["r001 meters"]["power"] = power
    text = "\n".join(drawn(seen, 300, None))
    assert all(words in text for words in ("⬢ takes 4.0", "2.0 kW out of it", "≋ sells 219.6 kW"))
    assert "-2" not in text
