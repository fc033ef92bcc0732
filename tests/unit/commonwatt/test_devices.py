"""Tokens: only their owner's works, and only this user can read them."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from commonwatt.identity.devices import (
    Device,
    Role,
    digest,
    load_devices,
    load_tokens,
    mosquitto_digest,
    new_token,
    save_devices,
    save_tokens,
)
from commonwatt.runtime.files import write_private


def device(identity: str, token: str) -> Device:
    return Device(identity=identity, role=Role.METER, microgrid="r001", token_sha256=digest(token.encode()))


def test_only_the_devices_own_token_opens() -> None:
    token, other = new_token(), new_token()
    it = device("77", token)
    assert it.owns(token.encode())
    for wrong in (other, "", token[:-1], token + "x", it.token_sha256, "\N{SNOWMAN}"):
        assert not it.owns(wrong.encode())


def test_files_read_back_and_are_this_users_alone(tmp_path: Path) -> None:
    tokens = {"77": new_token(), "r001": new_token()}
    devices = [device(identity, token) for identity, token in tokens.items()]
    save_tokens(tmp_path / "tokens.json", tokens)
    save_devices(tmp_path / "devices.json", devices)
    assert load_tokens(tmp_path / "tokens.json") == tokens
    assert load_devices(tmp_path / "devices.json") == {d.identity: d for d in devices}
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"tokens.json", "devices.json"}


def test_mosquittos_digest_is_the_same_for_the_same_token_alone(tmp_path: Path) -> None:
    one, other = mosquitto_digest(b"one"), mosquitto_digest(b"other")
    assert one == mosquitto_digest(b"one")
    assert one.split("$")[:3] == other.split("$")[:3] == ["", "7", "1"]
    assert not set(one.split("$")[3:]) & set(other.split("$")[3:])
    save_devices(tmp_path / "devices.json", [replace(device("77", "one"), mosquitto=one)])
    assert load_devices(tmp_path / "devices.json")["77"].mosquitto == one


def test_private_file_replaces_one_others_could_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_that_stands_there_already_is_written_into(tmp_path: Path) -> None:
    path, others = tmp_path / "tokens.json", tmp_path / "others"
    others.write_text("of somebody else")
    for name in ("tokens.json", "tokens.json.new"):
        (tmp_path / name).symlink_to(others)
    write_private(path, "secret")
    assert others.read_text() == "of somebody else"
    assert (path.is_symlink(), path.read_text()) == (False, "secret")


def test_what_can_not_be_written_leaves_the_old_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    write_private(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\udc80")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("tokens.json", "old")]
