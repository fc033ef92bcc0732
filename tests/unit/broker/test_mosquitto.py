"""Rights at a broker: every identity against every topic, and that the files for a Mosquitto grant the same."""

import itertools
import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from broker.access_rules import TopicAction, allowed
from broker.cli import app
from broker.mosquitto import rendered
from commonwatt.config.settings import BrokerSettings
from commonwatt.identity.devices import Device, DeviceRole, digest, mosquitto_digest, save_devices
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol import topics
from commonwatt.protocol.topics import MICROGRID_PATTERN

METER_LEAVES = ("rec", "ev", "lvl", "out")
GATEWAY_LEAVES = ("batch", "stat", "out")
DOWN_LEAVES = ("ack", "cmd")


def device(identity: str, role: DeviceRole, microgrid: str) -> Device:
    return Device(identity=identity, role=role, microgrid=microgrid, token_sha256="")


METER_1 = device("1", DeviceRole.METER, "r001")
METER_11 = device("11", DeviceRole.METER, "r001")
METER_2 = device("2", DeviceRole.METER, "r002")
GATEWAY_1 = device("r001", DeviceRole.GATEWAY, "r001")
GATEWAY_2 = device("r002", DeviceRole.GATEWAY, "r002")
UTILITY = device(topics.UTILITY, DeviceRole.UTILITY, "")
PLANT = device(topics.PLANT, DeviceRole.PLANT, topics.PLANT)
DEVICES = (METER_1, METER_11, METER_2, GATEWAY_1, GATEWAY_2, UTILITY, PLANT)

METERS = {"1": "r001", "11": "r001", "2": "r002"}


def granted(who: Device) -> set[tuple[TopicAction, str]]:
    """What the protocol grants, written out by enumeration and not by pattern."""
    grants: set[tuple[TopicAction, str]] = set()
    own, name = who.microgrid, who.identity
    if who.role is DeviceRole.METER:
        grants |= {(TopicAction.PUBLISH, f"cw1/{own}/{name}/u/{leaf}") for leaf in METER_LEAVES}
        grants |= {(TopicAction.SUBSCRIBE, f"cw1/{own}/{name}/d/{leaf}") for leaf in (*DOWN_LEAVES, "+")}
        grants |= {(TopicAction.RECEIVE, f"cw1/{own}/{name}/d/{leaf}") for leaf in DOWN_LEAVES}
    elif who.role is DeviceRole.GATEWAY:
        for meter in (*METERS, "+"):
            for leaf in (*METER_LEAVES, "lte", "+"):
                grants.add((TopicAction.SUBSCRIBE, f"cw1/{own}/{meter}/u/{leaf}"))
        for meter in METERS:
            grants |= {(TopicAction.PUBLISH, f"cw1/{own}/{meter}/d/{leaf}") for leaf in DOWN_LEAVES}
            grants |= {(TopicAction.RECEIVE, f"cw1/{own}/{meter}/u/{leaf}") for leaf in (*METER_LEAVES, "lte")}
        grants |= {(TopicAction.PUBLISH, f"cw1/{name}/u/{leaf}") for leaf in GATEWAY_LEAVES}
        grants |= {(TopicAction.SUBSCRIBE, f"cw1/{name}/d/{leaf}") for leaf in (*DOWN_LEAVES, "+")}
        grants |= {(TopicAction.RECEIVE, f"cw1/{name}/d/{leaf}") for leaf in DOWN_LEAVES}
    elif who.role is DeviceRole.PLANT:
        grants |= {(TopicAction.PUBLISH, f"cw1/plant/u/{leaf}") for leaf in ("stat", "out")}
        grants |= {(TopicAction.SUBSCRIBE, f"cw1/plant/d/{leaf}") for leaf in ("cmd", "+")}
        grants.add((TopicAction.RECEIVE, "cw1/plant/d/cmd"))
    else:
        grants.add((TopicAction.SUBSCRIBE, "cw1/+/u/+"))
        for microgrid in ("r001", "r002", "r0011", "plant"):
            grants |= {(TopicAction.PUBLISH, f"cw1/{microgrid}/d/{leaf}") for leaf in DOWN_LEAVES}
            grants |= {(TopicAction.RECEIVE, f"cw1/{microgrid}/u/{leaf}") for leaf in GATEWAY_LEAVES}
    return grants


LEAVES = ("rec", "ev", "lvl", "out", "lte", "batch", "stat", "ack", "cmd", "cert", "+", "#", "", "recs", "REC")
EVERYTHING = sorted(
    {
        "/".join(levels)
        for microgrid in ("r001", "r002", "r0011", "plant", "+", "#", "", "$SYS")
        for meter in ("1", "11", "2", "01", "+", "#", "")
        for direction in ("u", "d", "+", "#", "x")
        for leaf in LEAVES
        for levels in (
            ("cw1", microgrid, meter, direction, leaf),
            ("cw1", microgrid, direction, leaf),
            ("cw1", microgrid, meter, direction, leaf, "more"),
            ("cw2", microgrid, meter, direction, leaf),
        )
    }
    | {"#", "+", "+/#", "cw1/#", "cw1/+/#", "$SYS/#", "$SYS/broker", "", "/", "cw1", "+/+/+/+/+", "/cw1/r001/1/u/rec"}
    | {"cw1/r001/1/u/rec\n", " cw1/r001/1/u/rec", "cw1/r001/1/u/rec/", "cw1/r001/1/u/rec\0", "$share/g/cw1/r001/+/u/+"}
)


@pytest.mark.parametrize("who", DEVICES, ids=lambda who: f"{who.role}-{who.identity}")
def test_each_identity_has_exactly_what_the_protocol_grants(who: Device) -> None:
    asked = itertools.product(TopicAction, EVERYTHING)
    assert {(action, topic) for action, topic in asked if allowed(who, action, topic)} == granted(who)


@pytest.mark.parametrize("identity", ["+", "#", "", "1/u", "../2", "$SYS", "r001"])
def test_a_malformed_identity_in_the_devices_file_gains_nothing(identity: str) -> None:
    meter = device(identity, DeviceRole.METER, "r001")
    wanted = [*EVERYTHING, f"cw1/r001/{identity}/u/rec", f"cw1/r001/{identity}/d/+"]
    assert not [(action, topic) for action in TopicAction for topic in wanted if allowed(meter, action, topic)]


@pytest.mark.parametrize("microgrid", ["+", "#", "", "R001", "1"])
def test_a_malformed_microgrid_in_the_devices_file_gains_nothing(microgrid: str) -> None:
    gateway = device(microgrid, DeviceRole.GATEWAY, microgrid)
    wanted = [*EVERYTHING, f"cw1/{microgrid}/+/u/+", f"cw1/{microgrid}/d/+"]
    assert not [(action, topic) for action in TopicAction for topic in wanted if allowed(gateway, action, topic)]


@given(st.sampled_from(DEVICES), st.sampled_from(TopicAction), st.text(alphabet="cw1r0/+#$ud2acklvr\n", max_size=24))
def test_no_text_is_granted_outside_the_own_subtree(who: Device, action: TopicAction, topic: str) -> None:
    if allowed(who, action, topic):
        assert who.role is DeviceRole.UTILITY or topic.startswith(f"cw1/{who.microgrid}/")
        assert "#" not in topic
        assert action is TopicAction.SUBSCRIBE or "+" not in topic


def test_a_gateway_serves_its_own_microgrid_and_those_of_its_clique_alone() -> None:
    gateway = replace(GATEWAY_1, serves=("r002",))
    for microgrid, is_served in (("r001", True), ("r002", True), ("r004", False), ("+", False)):
        assert allowed(gateway, TopicAction.PUBLISH, f"cw1/{microgrid}/1/d/cmd") is is_served
        assert allowed(gateway, TopicAction.SUBSCRIBE, f"cw1/{microgrid}/+/u/+") is is_served
        assert allowed(gateway, TopicAction.RECEIVE, f"cw1/{microgrid}/1/u/rec") is is_served
    assert not allowed(gateway, TopicAction.PUBLISH, "cw1/r002/u/batch"), "at the head-end it is itself alone"
    assert not allowed(gateway, TopicAction.SUBSCRIBE, "cw1/r002/d/cmd")


def test_the_topics_the_parties_use_are_granted() -> None:
    assert allowed(METER_1, TopicAction.PUBLISH, topics.meter_up("r001", 1, topics.RECORDS))
    assert allowed(METER_1, TopicAction.SUBSCRIBE, topics.meter_down("r001", 1, "+"))
    assert allowed(GATEWAY_1, TopicAction.SUBSCRIBE, topics.all_meters_up("r001"))
    assert allowed(GATEWAY_1, TopicAction.PUBLISH, topics.meter_down("r001", 2**64 - 1, topics.COMMANDS))
    assert allowed(GATEWAY_1, TopicAction.PUBLISH, topics.gateway_up("r001", topics.BATCHES))
    assert allowed(GATEWAY_1, TopicAction.SUBSCRIBE, topics.gateway_down("r001", "+"))
    assert allowed(UTILITY, TopicAction.SUBSCRIBE, topics.all_gateways_up())
    assert allowed(UTILITY, TopicAction.PUBLISH, topics.gateway_down("r002", topics.ACKS))


SETTINGS = BrokerSettings()
ACTIONS = (TopicAction.PUBLISH, TopicAction.RECEIVE)
"""What Mosquitto judges; it grants every subscription, and passes on what may be received."""

PROPER = re.compile(rf"cw1/{MICROGRID_PATTERN}(/(0|[1-9][0-9]{{0,19}}))?/[^/+#]*/[^/+#]*")
"""Topics whose microgrid and meter may be some: elsewhere ``+`` grants more, where nobody reads or is."""


def registered(
    identity: str, role: DeviceRole = DeviceRole.METER, microgrid: str = "r001", revoked: str = ""
) -> Device:
    token = f"token of {identity}".encode()
    return Device(
        identity=identity,
        role=role,
        microgrid=microgrid,
        token_sha256=digest(token),
        revoked=revoked,
        mosquitto=mosquitto_digest(token),
    )


def render(devices: list[Device], settings: BrokerSettings = SETTINGS) -> dict[str, str]:
    return rendered(settings, {d.identity: d for d in devices}, Path("/out"))


class Access:
    """An access file, judged as mosquitto.conf(5) says: by the user's lines, default deny; ``+`` is any one level."""

    def __init__(self, text: str) -> None:
        self._topics: dict[str, list[tuple[str, re.Pattern[str]]]] = defaultdict(list)
        user = ""
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if word == "user":
                user = rest
            elif word == "topic":
                access, _, topic = rest.partition(" ")
                levels = [{"+": "[^/]*", "#": ".*"}.get(level, re.escape(level)) for level in topic.split("/")]
                self._topics[user].append((access, re.compile("/".join(levels), re.DOTALL)))
            else:
                assert not word or word == "#", line
        assert "" not in self._topics, "lines of everybody"

    def grants(self, who: Device, action: TopicAction, topic: str) -> bool:
        wanted = {TopicAction.PUBLISH: "write", TopicAction.RECEIVE: "read"}[action]
        own = self._topics.get(who.identity, [])
        return any(access in (wanted, "readwrite") and rule.fullmatch(topic) for access, rule in own)


def agree(access: Access, who: Device, topic: str) -> None:
    """Compare the access file with the rules."""
    for action in ACTIONS:
        ours, theirs = allowed(who, action, topic), access.grants(who, action, topic)
        assert theirs == ours or (theirs and not PROPER.fullmatch(topic)), (who, action, topic)


def test_the_access_file_grants_each_identity_exactly_what_the_rules_grant() -> None:
    access = Access(render([registered(d.identity, d.role, d.microgrid) for d in DEVICES])["access"])
    for who in DEVICES:
        for topic in EVERYTHING:
            agree(access, who, topic)
        wanted = {(action, topic) for action, topic in granted(who) if action is not TopicAction.SUBSCRIBE}
        assert len(wanted) >= 3
        assert all(access.grants(who, *each) for each in wanted)


MICROGRIDS = st.from_regex(MICROGRID_PATTERN, fullmatch=True)
METER_NUMBERS = st.integers(0, 2**64 - 1).map(str)


@given(st.data())
def test_in_any_town_access_file_and_rules_agree_on_every_kind_of_topic(data: st.DataObject) -> None:
    microgrids = data.draw(
        st.lists(MICROGRIDS.filter(lambda m: m not in ("utility", "plant")), min_size=1, max_size=3, unique=True)
    )
    meters = data.draw(st.dictionaries(METER_NUMBERS, st.sampled_from(microgrids), min_size=1, max_size=4))
    devices = [registered("utility", DeviceRole.UTILITY, ""), registered("plant", DeviceRole.PLANT, "plant")]
    devices += [registered(microgrid, DeviceRole.GATEWAY, microgrid) for microgrid in microgrids]
    devices += [registered(meter, DeviceRole.METER, microgrid) for meter, microgrid in meters.items()]
    access = Access(render(devices)["access"])
    some = st.sampled_from([*microgrids, *meters, "0", "r", "u", "d", "", "utility", "plant"])
    leaf = st.sampled_from(["rec", "ev", "lvl", "out", "batch", "stat", "ack", "cmd", "x"])
    for _ in range(20):
        levels = data.draw(st.lists(some, min_size=1, max_size=2))
        topic = "/".join(["cw1", *levels, data.draw(st.sampled_from("ud")), data.draw(leaf)])
        agree(access, data.draw(st.sampled_from(devices)), topic)


def test_a_revoked_device_is_in_no_file() -> None:
    files = render([registered("1"), registered("2", revoked="stolen")])
    assert re.findall(r"^user (.*)$", files["access"], re.MULTILINE) == ["1"]
    assert [line.split(":")[0] for line in files["passwords"].splitlines()] == ["1"]


def test_with_certificates_there_are_no_passwords() -> None:
    settings = BrokerSettings(
        listen="0.0.0.0:8883",
        certificate=Path("/b/broker.pem"),
        clients_ca=Path("/b/ca.pem"),
        clients_revoked=Path("/b/revoked.pem"),
    )
    files = render([registered("1")], settings)
    assert files.keys() == {"mosquitto.conf", "access"}
    lines = files["mosquitto.conf"].splitlines()
    for wanted in (
        "listener 8883 0.0.0.0",
        "certfile /b/broker.pem",
        "keyfile /b/broker.pem",
        "cafile /b/ca.pem",
        "crlfile /b/revoked.pem",
        "require_certificate true",
        "use_identity_as_username true",
    ):
        assert wanted in lines
    assert not [line for line in lines if line.startswith("password_file")]


def test_with_a_broker_certificate_alone_tokens_are_asked_for() -> None:
    files = render([registered("1")], BrokerSettings(certificate=Path("/b/broker.pem")))
    assert "certfile /b/broker.pem" in files["mosquitto.conf"]
    assert "require_certificate" not in files["mosquitto.conf"]
    assert "password_file /out/passwords" in files["mosquitto.conf"]
    assert files["passwords"].startswith("1:$7$1$")


@pytest.mark.parametrize(
    ("identity", "role", "microgrid"),
    [
        ("+", DeviceRole.METER, "r001"),
        ("1\ntopic readwrite #", DeviceRole.METER, "r001"),
        ("1:x", DeviceRole.METER, "r001"),
        ("1", DeviceRole.METER, "+"),
        ("1", DeviceRole.METER, "#"),
        ("1", DeviceRole.METER, ""),
        ("#", DeviceRole.GATEWAY, "r001"),
        ("r001", DeviceRole.GATEWAY, "r001/+"),
        ("utility", DeviceRole.UTILITY, "+"),
    ],
)
def test_a_device_that_would_stand_for_more_than_itself_is_refused(
    identity: str, role: DeviceRole, microgrid: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(repr(identity))):
        render([registered(identity, role, microgrid)])


def test_the_command_writes_files_for_one_user_alone(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text('[broker]\nlisten = "127.0.0.1:1883"\n')
    save_devices(tmp_path / "devices.json", [registered("1"), registered("2", revoked="stolen")])
    out = tmp_path / "mosquitto"
    done = CliRunner().invoke(app, ["render", "mosquitto", "--config", str(config), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "1 devices, at 127.0.0.1:1883" in done.output
    assert {path.name for path in out.iterdir()} == {"mosquitto.conf", "passwords", "access"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in out.iterdir())
    assert f"password_file {out}/passwords" in (out / "mosquitto.conf").read_text()


def test_nothing_is_written_into_a_folder_whose_owner_could_not_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "broker.toml"
    config.write_text("[broker]\n")
    save_devices(tmp_path / "devices.json", [registered("1")])
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr("os.geteuid", lambda: out.stat().st_uid + 1)
    done = CliRunner().invoke(app, ["render", "mosquitto", "--config", str(config), "--out", str(out)])
    assert done.exit_code == 2
    assert f"sudo -u {out.owner()} commonwatt broker render" in done.stderr
    assert list(out.iterdir()) == []


def test_devices_registered_by_an_older_version_are_told_to_be_registered_again(tmp_path: Path) -> None:
    (tmp_path / "devices.json").write_text(
        json.dumps({"1": {"role": "meter", "microgrid": "r001", "token_sha256": "00" * 32}})
    )
    config = tmp_path / "broker.toml"
    config.write_text("[broker]\n")
    words = ["render", "mosquitto", "--config", str(config), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "devices.json: 1 devices have no digest for Mosquitto, the first is 1" in done.stderr
    assert "commonwatt utility register" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_gateway_has_each_topic_of_the_microgrids_that_it_serves_once() -> None:
    lines = render([replace(registered("r001", DeviceRole.GATEWAY), serves=("r002",))])["access"].splitlines()
    topics = [line for line in lines if line.startswith("topic")]
    assert len(set(topics)) == len(topics)
    assert {"topic read cw1/r001/+/u/rec", "topic read cw1/r002/+/u/rec", "topic write cw1/r002/+/d/cmd"} <= set(topics)
    assert not [line for line in topics if "cw1/r002/u/" in line or "cw1/r002/d/" in line]


def test_one_broker_serves_the_devices_of_several_microgrids(tmp_path: Path) -> None:
    config, out = tmp_path / "broker.toml", tmp_path / "mosquitto"
    config.write_text("[broker]\n")
    files = [tmp_path / "r001.json", tmp_path / "r004.json"]
    save_devices(files[0], [registered("10001"), registered("r001", DeviceRole.GATEWAY)])
    save_devices(files[1], [registered("40001", microgrid="r004"), registered("r004", DeviceRole.GATEWAY, "r004")])
    words = ["render", "mosquitto", "--config", str(config), "--out", str(out)]
    words += [word for path in files for word in ("--devices", str(path))]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "4 devices" in done.output
    access = Access((out / "access").read_text())
    gateway = registered("r001", DeviceRole.GATEWAY)
    assert access.grants(gateway, TopicAction.RECEIVE, "cw1/r001/10001/u/rec")
    assert not access.grants(gateway, TopicAction.RECEIVE, "cw1/r004/40001/u/rec"), "a neighbour at the same broker"


def test_a_client_that_would_be_at_a_broker_twice_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text("[broker]\n")
    files = [tmp_path / "r001.json", tmp_path / "r002.json"]
    for path in files:
        save_devices(path, [registered("10001")])
    words = ["render", "mosquitto", "--config", str(config), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--devices", str(files[0]), "--devices", str(files[1])])
    assert done.exit_code == 2
    assert f"{files[1]}: 10001 is in {files[0]} too" in done.stderr
    assert "need different brokers" in done.stderr
