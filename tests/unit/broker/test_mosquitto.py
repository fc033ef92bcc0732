"""The files for a Mosquitto grant what our rules grant; tests/integration/test_mosquitto.py asks the real one."""

import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from broker.access_rules import Action, allowed
from broker.cli import app
from broker.mosquitto import rendered
from commonwatt.config.settings import BrokerSettings
from commonwatt.identity.devices import Device, Role, digest, mosquitto_digest, save_devices
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.topics import MICROGRID_PATTERN
from tests.unit.broker.test_rules import DEVICES, EVERYTHING, granted

SETTINGS = BrokerSettings()
ACTIONS = (Action.PUBLISH, Action.RECEIVE)
"""What Mosquitto judges; it grants every subscription, and passes on what may be received."""

PROPER = re.compile(rf"cw1/{MICROGRID_PATTERN}(/(0|[1-9][0-9]{{0,19}}))?/[^/+#]*/[^/+#]*")
"""Topics whose microgrid and meter may be some: elsewhere ``+`` grants more, where nobody reads or is."""


def device(identity: str, role: Role = Role.METER, microgrid: str = "r001", revoked: str = "") -> Device:
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

    def grants(self, who: Device, action: Action, topic: str) -> bool:
        wanted = {Action.PUBLISH: "write", Action.RECEIVE: "read"}[action]
        own = self._topics.get(who.identity, [])
        return any(access in (wanted, "readwrite") and rule.fullmatch(topic) for access, rule in own)


def agree(access: Access, who: Device, topic: str) -> None:
    """Compare the access file with the rules."""
    for action in ACTIONS:
        ours, theirs = allowed(who, action, topic), access.grants(who, action, topic)
        assert theirs == ours or (theirs and not PROPER.fullmatch(topic)), (who, action, topic)


def test_the_access_file_grants_each_identity_exactly_what_the_rules_grant() -> None:
    access = Access(render([device(d.identity, d.role, d.microgrid) for d in DEVICES])["access"])
    for who in DEVICES:
        for topic in EVERYTHING:
            agree(access, who, topic)
        wanted = {(action, topic) for action, topic in granted(who) if action is not Action.SUBSCRIBE}
        assert len(wanted) >= 3
        assert all(access.grants(who, *each) for each in wanted)


MICROGRIDS = st.from_regex(MICROGRID_PATTERN, fullmatch=True)
METERS = st.integers(0, 2**64 - 1).map(str)


@given(st.data())
def test_in_any_town_access_file_and_rules_agree_on_every_kind_of_topic(data: st.DataObject) -> None:
    microgrids = data.draw(
        st.lists(MICROGRIDS.filter(lambda m: m not in ("utility", "plant")), min_size=1, max_size=3, unique=True)
    )
    meters = data.draw(st.dictionaries(METERS, st.sampled_from(microgrids), min_size=1, max_size=4))
    devices = [device("utility", Role.UTILITY, ""), device("plant", Role.PLANT, "plant")]
    devices += [device(microgrid, Role.GATEWAY, microgrid) for microgrid in microgrids]
    devices += [device(meter, Role.METER, microgrid) for meter, microgrid in meters.items()]
    access = Access(render(devices)["access"])
    some = st.sampled_from([*microgrids, *meters, "0", "r", "u", "d", "", "utility", "plant"])
    leaf = st.sampled_from(["rec", "ev", "lvl", "out", "batch", "stat", "ack", "cmd", "x"])
    for _ in range(20):
        levels = data.draw(st.lists(some, min_size=1, max_size=2))
        topic = "/".join(["cw1", *levels, data.draw(st.sampled_from("ud")), data.draw(leaf)])
        agree(access, data.draw(st.sampled_from(devices)), topic)


def test_a_revoked_device_is_in_no_file() -> None:
    files = render([device("1"), device("2", revoked="stolen")])
    assert re.findall(r"^user (.*)$", files["access"], re.MULTILINE) == ["1"]
    assert [line.split(":")[0] for line in files["passwords"].splitlines()] == ["1"]


def test_with_certificates_there_are_no_passwords() -> None:
    settings = BrokerSettings(
        listen="0.0.0.0:8883",
        certificate=Path("/b/broker.pem"),
        clients_ca=Path("/b/ca.pem"),
        clients_revoked=Path("/b/revoked.pem"),
    )
    files = render([device("1")], settings)
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
    files = render([device("1")], BrokerSettings(certificate=Path("/b/broker.pem")))
    assert "certfile /b/broker.pem" in files["mosquitto.conf"]
    assert "require_certificate" not in files["mosquitto.conf"]
    assert "password_file /out/passwords" in files["mosquitto.conf"]
    assert files["passwords"].startswith("1:$7$1$")


@pytest.mark.parametrize(
    ("identity", "role", "microgrid"),
    [
        ("+", Role.METER, "r001"),
        ("1\ntopic readwrite #", Role.METER, "r001"),
        ("1:x", Role.METER, "r001"),
        ("1", Role.METER, "+"),
        ("1", Role.METER, "#"),
        ("1", Role.METER, ""),
        ("#", Role.GATEWAY, "r001"),
        ("r001", Role.GATEWAY, "r001/+"),
        ("utility", Role.UTILITY, "+"),
    ],
)
def test_a_device_that_would_stand_for_more_than_itself_is_refused(identity: str, role: Role, microgrid: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(repr(identity))):
        render([device(identity, role, microgrid)])


def test_the_command_writes_files_for_one_user_alone(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text('[broker]\nlisten = "127.0.0.1:1883"\n')
    save_devices(tmp_path / "devices.json", [device("1"), device("2", revoked="stolen")])
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
    save_devices(tmp_path / "devices.json", [device("1")])
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
    lines = render([replace(device("r001", Role.GATEWAY), serves=("r002",))])["access"].splitlines()
    topics = [line for line in lines if line.startswith("topic")]
    assert len(set(topics)) == len(topics)
    assert {"topic read cw1/r001/+/u/rec", "topic read cw1/r002/+/u/rec", "topic write cw1/r002/+/d/cmd"} <= set(topics)
    assert not [line for line in topics if "cw1/r002/u/" in line or "cw1/r002/d/" in line]


def test_one_broker_serves_the_devices_of_several_microgrids(tmp_path: Path) -> None:
    config, out = tmp_path / "broker.toml", tmp_path / "mosquitto"
    config.write_text("[broker]\n")
    files = [tmp_path / "r001.json", tmp_path / "r004.json"]
    save_devices(files[0], [device("10001"), device("r001", Role.GATEWAY)])
    save_devices(files[1], [device("40001", microgrid="r004"), device("r004", Role.GATEWAY, "r004")])
    words = ["render", "mosquitto", "--config", str(config), "--out", str(out)]
    words += [word for path in files for word in ("--devices", str(path))]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "4 devices" in done.output
    access = Access((out / "access").read_text())
    gateway = device("r001", Role.GATEWAY)
    assert access.grants(gateway, Action.RECEIVE, "cw1/r001/10001/u/rec")
    assert not access.grants(gateway, Action.RECEIVE, "cw1/r004/40001/u/rec"), "a neighbour at the same broker"


def test_a_client_that_would_be_at_a_broker_twice_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text("[broker]\n")
    files = [tmp_path / "r001.json", tmp_path / "r002.json"]
    for path in files:
        save_devices(path, [device("10001")])
    words = ["render", "mosquitto", "--config", str(config), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--devices", str(files[0]), "--devices", str(files[1])])
    assert done.exit_code == 2
    assert f"{files[1]}: 10001 is in {files[0]} too" in done.stderr
    assert "need different brokers" in done.stderr
