import json
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from commonwatt.identity import devices
from commonwatt.identity.devices import (
    AUTHORITY_FOLDER,
    Role,
    broker_token,
    digest,
    load_devices,
    load_tokens,
    mosquitto_digest,
)
from commonwatt.identity.enrolment import revoke_devices
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.runtime.files import write_private
from commonwatt.runtime.service import only_one
from commonwatt.town.loading import load_town
from commonwatt.town.registry import load_registry, registry_of, save_registry
from commonwatt.town.town import Function, Town
from harness.real import databases
from utility.database.database import Database, open_database
from utility.readings.store import reads
from utility.registry.accounts import Holding
from utility.registry.store.accounts import accounts_at, changes_of, load_dated_registry, save_dated_registry
from utility.registry.store.enrolment import enrol
from utility.registry.store.registration import fill_registry
from utility.registry.store.registry import load_snapshot

CENTERTOWN = """microgrid = [
 {id = "r", kind = "residential", count = 800}, {id = "apt", kind = "apartment", apartments = 100},
 {id = "pub", kind = "public"}]
"""


def test_centertown_has_the_numbers_of_the_specification(url: str, tmp_path: Path) -> None:  # req: T4
    path = tmp_path / "centertown.toml"
    path.write_text(CENTERTOWN)
    database = open_database(url, create=True)
    with database.writes.begin() as connection:
        added = fill_registry(connection, load_town(path))
        town = reads.town(connection)
    assert (added.new_controllers, added.new_meters) == (802, 16_307 + 1_604)
    assert [town[key] for key in ("controllers", "meters", "batteries", "accounts")] == [802, 16_307, 8_004, 8_303]
    database.close()


def test_the_towns_figures_are_those_of_the_meters_that_are_installed(database: Database, tmp_path: Path) -> None:
    figures = []
    for exchange in ("", '[[meter]]\nmicrogrid = "r001"\nid = 77\nreplaces = 10001\n'):
        (tmp_path / "town.toml").write_text(
            f'microgrid = [{{id = "r", kind = "residential", count = 2, houses = 2}}]\n{exchange}'
        )
        with database.writes.begin() as connection:
            fill_registry(connection, load_town(tmp_path / "town.toml"))
            figures.append(reads.town(connection))
    assert figures[0] == figures[1]


@databases.on_both_kinds
def test_registering_again_adds_only_what_is_new(database: Database, town: Town, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert enrol(town, out) == 2 * (6 + 1) + 2
    tokens = load_tokens(out / "r001" / "meter-tokens.json")
    path = tmp_path / "town.toml"
    path.write_text(
        'microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n'
        '[[meter]]\nmicrogrid = "r001"\nid = 18446744073709551615\nrecord_types = ["register"]\n'
    )
    larger = load_town(path)
    with database.writes.begin() as connection:
        before = load_snapshot(connection)
        added = fill_registry(connection, larger)
        known = load_snapshot(connection)
        again = fill_registry(connection, larger)
        assert load_snapshot(connection).revision == known.revision
    assert (added.new_controllers, added.new_meters, added.changed) == (0, 1, 0)
    assert (again.new_meters, again.changed) == (0, 0)
    assert known.revision > before.revision
    assert known.meters[2**64 - 1].record_types == {RecordType.REGISTER}
    assert enrol(larger, out) == 1
    assert tokens.items() < load_tokens(out / "r001" / "meter-tokens.json").items()


def test_files_admit_each_device_to_its_broker_alone(town: Town, tmp_path: Path) -> None:
    enrol(town, tmp_path)
    token = load_tokens(tmp_path / "r001" / "gateway-tokens.json")["r001"]
    own = load_devices(tmp_path / "r001" / "devices.json")
    head = load_devices(tmp_path / "head-end" / "devices.json")
    assert set(own) == {"r001", *(str(m.id) for m in town.meters)}, "r001 may manage r002"
    assert own["r001"].serves == ("r002",)
    tokens = load_tokens(tmp_path / "r002" / "meter-tokens.json")
    secrets = load_tokens(tmp_path / "r002" / "meter-secrets.json")
    for meter in town.microgrids["r002"].meters:
        plain, here = tokens[str(meter.id)], broker_token(secrets[str(meter.id)], "r001")
        home = load_devices(tmp_path / "r002" / "devices.json")[str(meter.id)]
        assert (home.owns(plain.encode()), home.owns(here.encode())) == (True, False)
        assert [own[str(meter.id)].owns(one.encode()) for one in (plain, secrets[str(meter.id)], here)] == [0, 0, 1]
    assert set(head) == {"r001", "r002", "utility", "plant"}
    assert own["r001"].token_sha256 == head["r001"].token_sha256 == digest(token.encode())
    assert own["r001"].mosquitto == head["r001"].mosquitto == mosquitto_digest(token.encode())
    assert (own["10001"].role, own["10001"].microgrid, head["utility"].role) == (Role.METER, "r001", Role.UTILITY)
    assert load_registry(tmp_path / "r001" / "registry.json") == registry_of(town.microgrids["r001"])
    private = [path for path in tmp_path.rglob("*.json") if path.stat().st_mode & 0o777 != 0o600]
    assert private == []


def test_meter_that_was_moved_in_the_town_file_is_refused(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "pub", kind = "public"}, {id = "r", kind = "residential", count = 2}]\n')
    with database.writes.begin() as connection, pytest.raises(ConfigError, match="append at its end"):
        fill_registry(connection, load_town(path))


def test_changed_account_of_a_registered_meter_is_taken_if_the_change_is_dated(
    database: Database, tmp_path: Path
) -> None:
    def town_with(account: int) -> Town:
        path = tmp_path / "town.toml"
        extra = f'[[meter]]\nmicrogrid = "r001"\nid = 77\nrecord_types = ["register"]\naccount = {account}\n'
        path.write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n' + extra)
        return load_town(path)

    with database.writes.begin() as connection:
        fill_registry(connection, town_with(4))
        before = load_snapshot(connection)
        registry = load_dated_registry(connection)
    refused = r"meter 77 is registered with account 4, and the town file now says 3; a move is dated with `commonwatt"
    with database.writes.begin() as connection:
        with pytest.raises(ConfigError, match=refused):
            fill_registry(connection, town_with(3))
        assert load_snapshot(connection) == before
    meter = registry.meters[77]
    moved = replace(meter, holdings=(Holding(account=4, start=0, end=9), Holding(account=3, start=9)))
    after = replace(registry, meters={**registry.meters, 77: moved})
    with database.writes.begin() as connection:
        assert save_dated_registry(connection, registry, after, "anna", 5, ZoneInfo("UTC")) == 1
        assert fill_registry(connection, town_with(3)).changed == 1
        assert accounts_at(connection, 9 * 900 - 1)[77] == 4
        assert accounts_at(connection, 9 * 900)[77] == 3


def test_renumbered_accounts_are_refused_by_files_without_the_database(town: Town, tmp_path: Path) -> None:
    enrol(town, tmp_path / "out")
    path = tmp_path / "town.toml"
    path.write_text(
        'microgrid = [{id = "r001", kind = "residential", houses = 3}, {id = "r002", kind = "residential", houses = 2}]'
    )
    with pytest.raises(ConfigError, match="append at its end"):
        enrol(load_town(path), tmp_path / "out")


def test_gateways_are_told_the_present_accounts(town: Town, tmp_path: Path) -> None:
    enrol(town, tmp_path, accounts={10001: 900})
    told = {m.id: m.account for m in load_registry(tmp_path / "r001" / "registry.json").meters}
    assert (told[10001], told[10002]) == (900, 1)
    with pytest.raises(ConfigError, match="account"):
        enrol(town, tmp_path)
    enrol(town, tmp_path, accounts={})
    assert load_registry(tmp_path / "r001" / "registry.json") == registry_of(town.microgrids["r001"])


def test_meter_added_later_belongs_to_its_account_from_its_registration(
    database: Database, town: Town, tmp_path: Path
) -> None:
    path = tmp_path / "town.toml"
    path.write_text(
        'microgrid = [{id = "r", kind = "residential", count = 2, houses = 2}]\n'
        '[[meter]]\nmicrogrid = "r001"\nid = 77\naccount = 9\n'
    )
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(path), now=1000 * 900 + 1)
        registry = load_dated_registry(connection)
        told = [change["after"] for change in changes_of(connection, [], 9)]
    first, added = registry.meters[10001], registry.meters[77]
    assert (first.start, first.place, first.capacity, first.holdings) == (
        None,
        "house 1",
        town.microgrids["r001"].meters[0].battery.capacity,  # type: ignore[union-attr]
        (Holding(account=1, start=0),),
    )
    assert (added.start, added.account_at(999), added.account_at(1000)) == (1000, None, 9)
    assert {number: account.function for number, account in registry.accounts.items()} == {
        **dict.fromkeys(range(1, 5), Function.HOUSE),
        9: Function.FOREIGN,
    }
    assert told == ["1 meter and 1 account added", "12 meters and 4 accounts added"]


@pytest.mark.parametrize("name", ["utility", "authority"])
def test_microgrid_named_like_a_folder_of_the_utility_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "town.toml"
    path.write_text(f'microgrid = [{{id = "{name}", kind = "public"}}]\n')
    with pytest.raises(ConfigError, match="another id"):
        enrol(load_town(path), tmp_path)


def test_nobody_registers_while_somebody_is_revoked(town: Town, tmp_path: Path) -> None:
    with only_one(tmp_path / AUTHORITY_FOLDER, "a revocation"), pytest.raises(ConfigError, match="another enrolment"):
        enrol(town, tmp_path)
    assert not (tmp_path / "head-end").exists()
    enrol(town, tmp_path)
    assert (tmp_path / "head-end" / "devices.json").exists()


def test_a_revoked_device_that_leaves_the_town_and_comes_back_is_still_revoked(town: Town, tmp_path: Path) -> None:
    enrol(town, tmp_path)
    revoke_devices(tmp_path, "10001", "stolen", 0, with_meters=False)
    revoke_devices(tmp_path, "r002", "lost", 0, with_meters=False)
    first = town.microgrids["r001"]
    smaller = replace(first, meters=tuple(meter for meter in first.meters if meter.id != 10001))
    enrol(replace(town, microgrids={"r001": smaller}), tmp_path)
    enrol(town, tmp_path)
    assert load_devices(tmp_path / "r001" / "devices.json")["10001"].revoked == "stolen"
    assert load_devices(tmp_path / "head-end" / "devices.json")["r002"].revoked == "lost"


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("r001", ("r001/meter-tokens.json", "r001/gateway-tokens.json")),
        ("head-end", ("utility/utility-tokens.json", "plant/plant-tokens.json")),
    ],
)
def test_a_lost_devices_file_is_not_made_again_with_its_tokens(
    town: Town, tmp_path: Path, name: str, tokens: tuple[str, str]
) -> None:
    enrol(town, tmp_path)
    revoke_devices(tmp_path, "r002", "stolen", 0, with_meters=False)
    meter = load_tokens(tmp_path / "r001" / "meter-tokens.json")["10001"].encode()
    path = tmp_path / name / "devices.json"
    content = path.read_text()
    path.unlink()
    with pytest.raises(ConfigError, match="is lost") as refused:
        enrol(town, tmp_path)
    assert all(str(tmp_path / file) in str(refused.value) for file in (*tokens, f"{name}/devices.json"))
    path.write_text(content)
    assert enrol(town, tmp_path) == 0
    path.unlink()
    for file in tokens:
        (tmp_path / file).unlink()
    assert enrol(town, tmp_path) > 0
    assert load_devices(tmp_path / "head-end" / "devices.json")["r002"].revoked == "stolen"
    assert load_devices(tmp_path / "r001" / "devices.json")["10001"].owns(meter) is (name == "head-end")


@pytest.mark.parametrize("writes", range(1, 9))
def test_a_first_registration_that_was_interrupted_is_completed_by_the_next(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    left = iter(range(writes))

    def write(path: Path, text: str) -> None:
        if next(left, None) is None:
            raise OSError(ENOSPC, "No space left on device")
        write_private(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(devices, "write_private", write)
        with pytest.raises(OSError, match="No space left"):
            enrol(town, tmp_path)
    enrol(town, tmp_path)
    for place in ("r001", "head-end"):
        token = load_tokens(tmp_path / "r001" / "gateway-tokens.json")["r001"]
        assert load_devices(tmp_path / place / "devices.json")["r001"].owns(token.encode())


def test_registry_file_with_mistakes_names_them(town: Town, tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    with pytest.raises(ConfigError, match="commonwatt utility register"):
        load_registry(path)
    save_registry(path, registry_of(town.microgrids["r001"]))
    content = json.loads(path.read_text())
    assert content["controller"] == {"number": 1, "address": "10.0.39.16"}
    assert content["meters"][0]["id"] == "10001"
    assert content["meters"][0]["record_types"] == [1, 2, 3]
    content["meters"][0]["account"] = -1
    path.write_text(json.dumps(content | {"more": 1}))
    with pytest.raises(ConfigError, match=r"(?s)meters\.0\.account.*more: unknown key"):
        load_registry(path)
    content["meters"][0] = content["meters"][1]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="twice"):
        load_registry(path)
