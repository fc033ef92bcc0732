"""The certificates of an adapter, and the remedies at its brokers, as ``commonwatt doctor`` prints them."""

from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from adapters.doctor import DOCTOR, judge
from adapters.source import Source
from commonwatt.config.adapter import AdapterSettings, AdapterSource
from commonwatt.doctor.connection import Target, _refusal
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


def test_a_broker_that_may_require_tls_names_the_setting_of_its_authority() -> None:
    def remedy(setting: str) -> str:
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
        return _refusal(target, "ended without an answer")[1]

    assert "set source.ca " in remedy("source.address")
    assert "set broker_ca " in remedy("broker")


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
    assert found.remedy == "find the step that fails: commonwatt doctor --config FILE"


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
    *_, found = examined("source", source=source)
    assert found.remedy == "start the devices' broker there, or correct the port of source.address"
