"""An adapter as ``commonwatt doctor``, ``config check`` and ``status`` see it."""

from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from typer.testing import CliRunner

from adapters.commands import commands_of
from adapters.doctor import DOCTOR, judge
from adapters.mapping.readers import readers_of
from adapters.service import refuse_others
from adapters.source import MAX_WAITING_BYTES, Source
from commonwatt.cli.main import config_app
from commonwatt.config.adapter import AdapterSettings, AdapterSource
from commonwatt.config.files import load_settings
from commonwatt.doctor.checks import Finding, Level
from commonwatt.doctor.connection import ReportedConnection, Target, connection_findings
from commonwatt.doctor.running import Running
from commonwatt.identity.certificates import Purpose
from commonwatt.network.http_server import HttpRequest
from harness.care.certificates import authority, certificate


def examined(check: str, **settings: object) -> list[Finding]:
    adapter = AdapterSettings.model_validate({"microgrid": "r001"} | settings)
    running = Running(part="adapter", config=Path("adapter.toml"), answer=None, failure="", runs=False)
    (found,) = [each for each in DOCTOR.checks(adapter, running) if each.name == check]
    return list(found.find())


def test_the_authority_of_the_devices_broker_needs_no_key(tmp_path: Path) -> None:
    own = certificate(authority(tmp_path), Purpose.DEVICE, "adapter")
    source = {"ca": str(own.with_name("ca.pem")), "certificate": str(own)}
    levels = {found.check: found.level for found in examined("certificate", source=source)}
    assert levels == {"source.ca": Level.GOOD, "source.certificate": Level.WARNING}, "a day is left"


def test_the_certificate_of_another_meter_is_bad(tmp_path: Path) -> None:
    own = certificate(authority(tmp_path), Purpose.DEVICE, "77002", file="77001.pem")
    meter = {"id": 77001, "preset": "tasmota", "source": "kitchen"}
    (found,) = examined("certificate", certificates=str(own.parent), meter=[meter])
    assert (found.check, found.level) == ("certificate of 77001", Level.BAD)


@pytest.mark.parametrize(
    ("why", "ours", "foreign"),
    [
        ("[Errno -2] Name or service not known", "correct broker,", "correct source.address,"),
        ("[Errno 111] Connection refused", "start the broker there", "start the devices' broker"),
        ("timed out", "firewall lets port 1883", "firewall lets port 1883"),
        ("no answer in time", "firewall lets port 1883", "firewall lets port 1883"),
        ("[Errno 113] No route to host", "ip route", "ip route"),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired",
            "broker and broker_ca",
            "source.address and source.ca",
        ),
        ("the broker ended it without an answer; its log says why", "set broker_ca ", "set source.ca "),
        (
            "the broker refused it: Bad user name or password",
            "register 77001",
            "correct source.user and source.password",
        ),
        ("the broker refused it: Client identifier not valid", "register 77001", "correct source.user"),
        ("the broker refused it: Not authorized", "docs/security.md", "correct source.user"),
        ("the broker does not allow it to subscribe to +", "correct broker", "correct source.address"),
        ("the broker refused it: Server busy", "journalctl", "journalctl"),
    ],
)
def test_each_kind_of_error_has_one_remedy_that_names_the_setting(why: str, ours: str, foreign: str) -> None:
    def found(setting: str) -> Finding:
        target = Target(
            setting=setting,
            address="10.1.0.1:1883",
            ca=None,
            certificate=None,
            revoked=None,
            identity="77001",
            token=str,
            subscribe="+",
        )
        (finding,) = connection_findings(target, ReportedConnection(connected=False, complaint=why))
        assert why in finding.found
        return finding

    assert ours in found("broker").remedy
    assert foreign in found("source.address").remedy


def test_a_refused_subscription_is_bad_though_the_broker_is_connected() -> None:
    source = {"name": "", "address": "127.0.0.1:1884", "connected": True, "limits": {"session kept": "no"}}
    answer = {"sources": [source], "connected": 0, "meters": {}, "unreadable": []}
    assert next(iter(judge(answer))).level is Level.GOOD
    subscriber = Source(
        settings=AdapterSource(),
        client_id="a",
        filters=["#"],
        now=lambda: 0.0,
        wake=lambda: None,
    )
    refused = ReasonCode(PacketTypes.SUBACK, identifier=128)
    subscriber._subscribed(Client(CallbackAPIVersion.VERSION2), None, 1, [refused], None)
    found = next(iter(judge(answer | {"sources": [source | {"limits": subscriber.limits}]})))
    assert (found.check, found.level) == ("source", Level.BAD)
    assert "refuses a subscription" in found.found
    away = source | {"connected": False, "complaint": "can't be reached"}
    found = next(iter(judge(answer | {"sources": [away]})))
    assert found.remedy == "see its remedy: commonwatt doctor --config FILE"


def test_messages_that_wait_are_bounded_in_bytes_too() -> None:
    source = Source(settings=AdapterSource(), client_id="a", filters=["#"], now=lambda: 0.0, wake=lambda: None)
    message = MQTTMessage(topic=b"plug/state")
    message.payload = bytes(MAX_WAITING_BYTES // 4)
    for _ in range(6):
        source._received(source._client, None, message)
    assert (source.waiting, source.dropped) == (4, 2)
    source.take(1)
    source._received(source._client, None, message)
    assert (source.waiting, source.dropped) == (4, 2), "there is room again"


def test_a_battery_that_is_never_told_to_share_is_named_before_the_first_start() -> None:
    command = {"preset": "own", "kind": "share", "topic": "set", "on": "1", "off": "0"}
    rule = {"preset": "own", "topic": "level", "format": "plain", "kind": "level", "unit": "%"}
    meter = {"id": 77001, "preset": "own", "obeys": "share", "capacity_wh": 9000, "token": "t" * 32}
    settings = {"rule": [rule], "command": [command], "tokens": None}
    found, last = examined("mapping", meter=[meter], **settings)
    assert (found.check, found.level, last.level) == ("meter 77001", Level.WARNING, Level.GOOD)
    assert "is never told to share" in found.found
    assert "accept_unsafe = true" in found.remedy
    (last,) = examined("mapping", meter=[meter | {"accept_unsafe": True}], **settings)
    assert last.level is Level.GOOD


def test_the_devices_broker_is_no_service_of_ours() -> None:
    source = {"address": "127.0.0.1:9"}
    (found,) = examined("source", source=source)
    assert found.remedy == "start the devices' broker there, or correct the port of source.address"


HEAD = '[adapter]\nmicrogrid = "r001"\n'
KITCHEN = '[[meter]]\nid = 77001\ntoken = "t"\nsource = "kitchen"\npreset = "tasmota"\n'
CELLAR = KITCHEN.replace("77001", "77002").replace("tasmota", "tasmotta")
RULE = '[[rule]]\npreset = "tasmota"\ntopic = "t"\nformat = "plain"\nkind = "register"\nunit = "kWh"\n'
COMMAND = '[[command]]\npreset = "tasmota"\nkind = "reduce"\ntopic = "own"\non = "0"\noff = "1"\n'
WILD = "meter.0.{}: must be one topic: not empty, and without + and #"


def checked(path: Path, text: str) -> tuple[int, str]:
    path.write_text(text)
    done = CliRunner().invoke(config_app, ["check", str(path)])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (KITCHEN + CELLAR, "line 12: meter.1.preset: [[meter]] 77002: no preset 'tasmotta'; there are: "),
        (KITCHEN + COMMAND, "line 9: command.0.preset: [[command]] of preset tasmota: Commonwatt has one of this name"),
        *((KITCHEN.replace("kitchen", each), f"line 6: {WILD.format('source')}") for each in ("flat #2", "+", "a/#")),
        (KITCHEN + 'channel = "+"\n', f"line 8: {WILD.format('channel')}"),
        (KITCHEN + 'reduce = {topic = "a", on = "0", off = "1"}\n', "line 3: meter.0: reduce: is no table of a meter"),
        (KITCHEN + RULE.replace("tasmota", "own") + 'restart_topic = "+/LWT"\n', "line 14: rule.0.restart_topic.0: "),
        (KITCHEN + 'direction = "generated"\n', "line 8: meter.0.direction: "),
    ],
)
def test_a_fault_of_a_preset_is_named_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "adapter.toml"
    code, told = checked(path, HEAD + text)
    assert code == 2
    assert f"{path}: {fault}" in told


def test_an_unknown_preset_is_shown_the_known_ones(tmp_path: Path) -> None:
    _, told = checked(tmp_path / "adapter.toml", HEAD + CELLAR)
    assert "tasmota," in told
    assert "shelly-gen1," in told


def test_a_file_with_known_presets_is_good(tmp_path: Path) -> None:
    path = tmp_path / "adapter.toml"
    assert checked(path, HEAD + KITCHEN) == (0, f"{path}: good, for: commonwatt adapter run --config {path}\n")


def test_rules_and_commands_of_a_person_win_over_a_later_preset_of_the_same_name(tmp_path: Path) -> None:
    """An upgrade brings a preset that is named as that of a file: the file goes on as before, and a notice says so."""
    path = tmp_path / "adapter.toml"
    assert checked(path, HEAD + KITCHEN + 'obeys = "reduce"\n' + RULE + COMMAND)[0] == 0
    settings = load_settings(path, "adapter", AdapterSettings)
    assert [reader.topics for reader in readers_of(settings).all] == [("t",)]
    assert [command.settings.topic for command in commands_of(settings)] == ["own"]
    running = Running(part="adapter", config=path, answer=None, failure="", runs=False)
    (check,) = [each for each in DOCTOR.checks(settings, running) if each.name == "mapping"]
    notice, *_ = check.find()
    assert (notice.level, "preset tasmota: the rules and commands of this file count" in notice.found) == (
        "warning",
        True,
    )


def test_a_preset_of_a_person_has_none_of_the_commands_of_a_later_one(tmp_path: Path) -> None:
    code, told = checked(tmp_path / "adapter.toml", HEAD + KITCHEN + 'obeys = "reduce"\n' + RULE)
    assert (code, "preset tasmota has no command reduce; it has none" in told) == (2, True)


@pytest.mark.parametrize(
    ("path", "address", "refused"),
    [
        ("/status", "10.1.0.77", True),
        ("/status", "fe80::1%eth0", True),
        ("/status", "127.0.0.1", False),
        ("/status", "::1", False),
        ("/status", "10.1.0.1", False),
        ("/metrics", "10.1.0.77", False),
    ],
)
def test_the_meters_values_are_not_shown_beyond_the_adapters_machine(path: str, address: str, *, refused: bool) -> None:
    settings = AdapterSettings.model_validate({"microgrid": "r001", "http": "10.1.0.1:9102", "http_plain_text": True})
    answer = refuse_others(settings, HttpRequest(method="GET", path=path, address=address, headers={}))
    assert (answer is not None and answer.status == 403) == refused


def test_nothing_can_be_sent() -> None:
    settings = AdapterSettings.model_validate({"microgrid": "r001", "http": "127.0.0.1:9102"})
    answer = refuse_others(settings, HttpRequest(method="POST", path="/metrics", address="127.0.0.1", headers={}))
    assert answer is not None
    assert answer.status == 405
