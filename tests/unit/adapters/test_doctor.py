"""The certificates of an adapter, and the remedies at its brokers, as ``commonwatt doctor`` prints them."""

from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from adapters.doctor import DOCTOR, judge
from adapters.source import MAX_WAITING_BYTES, Source
from commonwatt.config.adapter import AdapterSettings, AdapterSource
from commonwatt.doctor.connection import Reported, Target, connection_findings
from commonwatt.doctor.findings import Finding, Level
from commonwatt.doctor.running import Running
from commonwatt.identity.certificates import Kind
from harness.real.enrolled import authority, certificate


def examined(check: str, **settings: object) -> list[Finding]:
    adapter = AdapterSettings.model_validate({"microgrid": "r001"} | settings)
    running = Running(part="adapter", config=Path("adapter.toml"), answer=None, failure="", runs=False)
    (found,) = [each for each in DOCTOR.checks(adapter, running) if each.name == check]
    return list(found.find())


def test_the_authority_of_the_devices_broker_needs_no_key(tmp_path: Path) -> None:
    own = certificate(authority(tmp_path), Kind.DEVICE, "adapter")
    source = {"ca": str(own.with_name("ca.pem")), "certificate": str(own)}
    levels = {found.check: found.level for found in examined("certificate", source=source)}
    assert levels == {"source.ca": Level.GOOD, "source.certificate": Level.WARNING}, "a day is left"


def test_the_certificate_of_another_meter_is_bad(tmp_path: Path) -> None:
    own = certificate(authority(tmp_path), Kind.DEVICE, "77002", file="77001.pem")
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
        (finding,) = connection_findings(target, Reported(connected=False, complaint=why))
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
