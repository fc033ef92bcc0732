"""Messages that a broker sends again are told from others, and recordings of them can be read back."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.cli import app
from adapters.messages import MOST_IN_FLIGHT, Arrived, Handled, messages_in
from commonwatt.model.exceptions import ConfigError


def message(number: int, payload: bytes = b"20", *, dup: bool = False, qos: int = 1, session: int = 0) -> Arrived:
    return Arrived("p", payload, False, 0, qos=qos, number=number, session=session, dup=dup)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_handled_message_that_comes_again_is_known_also_after_a_crash(qos: int) -> None:
    handled = Handled()
    assert not handled.take(message(7, qos=qos))
    assert handled.take(message(7, qos=qos, dup=True))
    handled = Handled(handled.pack())
    assert handled.take(message(7, qos=qos, dup=True))
    assert handled.take(message(7, qos=qos, dup=True)), "each time, until the broker has the acknowledgement"


@pytest.mark.parametrize(
    "other",
    [
        message(7, b"21", dup=True),
        message(7)._replace(topic="q", dup=True),
        message(8, dup=True),
        message(7),
        message(7, dup=True, session=1),
        message(7, dup=True, qos=0),
    ],
    ids=["another payload", "another topic", "another packet id", "no DUP", "another session", "QoS 0"],
)
def test_another_message_is_taken(other: Arrived) -> None:
    handled = Handled()
    handled.take(message(7))
    assert not handled.take(other)


def test_a_packet_id_that_is_used_again_stands_for_the_newer_message() -> None:
    handled = Handled()
    handled.take(message(7, b"20"))
    handled.take(message(7, b"21"))
    assert not Handled(handled.pack()).take(message(7, b"20", dup=True))
    assert Handled(handled.pack()).take(message(7, b"21", dup=True))


def test_messages_of_a_session_that_the_broker_lost_are_not_remembered() -> None:
    handled = Handled()
    handled.take(message(7))
    handled.begin(1)
    assert not handled.pack()
    assert not handled.take(message(8))  # It was waiting, and the broker has forgotten it.
    assert not handled.take(message(8, dup=True, session=1))


def test_all_that_a_broker_may_have_in_flight_is_remembered_in_a_page_of_the_store() -> None:
    handled = Handled()
    for number in range(10_000):
        handled.take(message(number))
    stored = handled.pack()
    assert len(stored) < 4000
    in_flight = range(10_000 - MOST_IN_FLIGHT, 10_000)
    for _ in range(2):  # The connection is lost again before the broker has the acknowledgements.
        assert all(handled.take(message(number, dup=True)) for number in in_flight)
    assert len(handled.pack()) == len(stored)


CONFIG = """
[adapter]
microgrid = "r001"
zone = "America/New_York"

[[meter]]
id = 1
preset = "tasmota"
source = "kitchen"
"""


def recording(folder: Path, content: bytes) -> Path:
    path = folder / "messages"
    path.write_bytes(content)
    return path


def test_output_of_mosquitto_sub_has_payloads_of_any_bytes_and_none(tmp_path: Path) -> None:
    path = recording(tmp_path, b"a/b \xff\xfe 1\na/c (null)\na/d 5\xc2\x855\r\n")
    assert [message.payload for message in messages_in(path)] == [b"\xff\xfe 1", b"", b"5\xc2\x855\r"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"time": 1e999, "topic": "a", "payload": "1"}',
        b'{"time": 1e15, "topic": "a", "payload": "1"}',
        b'{"time": -5, "topic": "a", "payload": "1"}',
        b'{"topic": "\\ud800", "payload": "1"}',
        b'{"topic": ' + b"[" * 100_000,
        b"a\xff/b 1",
        b"alone",
    ],
)
def test_a_line_that_is_no_message_is_named(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(ConfigError, match="line 2: not a"):
        list(messages_in(recording(tmp_path, b"a 1\n" + line + b"\n")))


def test_a_telegram_printed_in_several_lines_is_refused_with_the_way_to_record_it(tmp_path: Path) -> None:
    path = recording(tmp_path, b"dsmr/raw /XMX5\n\n1-0:1.8.1(000123.456*kWh)\n!\n")
    (tmp_path / "adapter.toml").write_text(CONFIG)
    done = CliRunner().invoke(app, ["test", "--config", str(tmp_path / "adapter.toml"), str(path)])
    assert done.exit_code == 2
    assert "line 3: not a topic and a payload" in done.stderr
    assert "commonwatt adapter record" in done.stderr


def test_a_dry_run_says_that_a_wrong_zone_makes_the_devices_times_useless(tmp_path: Path) -> None:
    config = tmp_path / "adapter.toml"
    config.write_text(CONFIG)
    lines = [
        f'{{"time": {1_790_000_100 + n}, "topic": "tele/kitchen/SENSOR", "payload": '
        f'"{{\\"Time\\": \\"2026-09-21T16:15:{n:02}\\", \\"ENERGY\\": {{\\"Total\\": 1.{n:02}}}}}"}}\n'
        for n in range(0, 50, 10)
    ]
    path = recording(tmp_path, "".join(lines).encode())
    done = CliRunner().invoke(app, ["test", "--config", str(config), str(path)])
    assert done.exit_code == 0, done.output
    assert "5 device times not used" in done.stdout
    assert "America/New_York" in done.stdout
    config.write_text(CONFIG.replace("America/New_York", "Europe/Berlin"))
    done = CliRunner().invoke(app, ["test", "--config", str(config), str(path)])
    assert "device times not used" not in done.stdout


OWN = """
[[rule]]
preset = "own"
topic = "house"
path = "kwh"
kind = "register"
unit = "kWh"

[[rule]]
preset = "own"
topic = "house"
path = "{}"
kind = "{}"
unit = "{}"
type = "generation"

[[meter]]
id = 2
preset = "own"
"""


@pytest.mark.parametrize(
    ("path", "kind", "unit", "every_s", "code"),
    [
        ("sun", "register", "kWh", 10, 0),
        ("sum", "register", "kWh", 10, 1),
        ("w", "power", "W", 10, 0),
        ("w", "power", "W", 400, 1),
    ],
)
def test_a_dry_run_ends_with_1_if_a_rule_counted_nothing(
    tmp_path: Path, path: str, kind: str, unit: str, every_s: int, code: int
) -> None:
    """The meter has values by its other rule, so the exit code was 0."""
    config = tmp_path / "adapter.toml"
    config.write_text(CONFIG.partition("[[meter]]")[0] + OWN.format(path, kind, unit))
    lines = [
        f'{{"time": {1_790_000_100 + n * every_s}, "topic": "house", "payload": '
        f'"{{\\"kwh\\": 1.{n}, \\"sun\\": 2.{n}, \\"w\\": 60}}"}}\n'
        for n in range(5)
    ]
    done = CliRunner().invoke(app, ["test", "--config", str(config), str(recording(tmp_path, "".join(lines).encode()))])
    assert done.exit_code == code, done.output
    assert done.stderr == f"meter 2: generation house {path}: nothing counted; check source, preset and rule\n" * code


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (range(813_010, 813_015), "5 values held back: they rise faster than rated_w allows, or fall; check the unit"),
        ([813], "messages of a longer time are needed"),
    ],
)
def test_a_dry_run_says_why_a_register_in_another_unit_counts_nothing(
    tmp_path: Path, values: Sequence[int], why: str
) -> None:
    config = tmp_path / "adapter.toml"
    config.write_text('[adapter]\nmicrogrid = "r001"\n[[meter]]\nid = 7\npreset = "plain"\nsource = "wh"\n')
    lines = [
        f'{{"time": {1_790_000_100 + n * 10}, "topic": "wh", "payload": "{value}"}}\n' for n, value in enumerate(values)
    ]
    done = CliRunner().invoke(app, ["test", "--config", str(config), str(recording(tmp_path, "".join(lines).encode()))])
    assert done.exit_code == 1
    assert f"meter 7: through: nothing counted; {why}" in done.stderr


def test_a_dry_run_goes_on_after_a_device_time_that_no_record_can_name(tmp_path: Path) -> None:
    config = tmp_path / "adapter.toml"
    config.write_text(CONFIG)
    lines = [
        f'tele/kitchen/SENSOR {{"Time": "9999-09-21T10:0{n}:00", "ENERGY": {{"Total": 1.{n}}}}}\n' for n in range(6)
    ]
    done = CliRunner().invoke(app, ["test", "--config", str(config), str(recording(tmp_path, "".join(lines).encode()))])
    assert done.exit_code == 0, done.output
    assert "6 values used" in done.stdout
