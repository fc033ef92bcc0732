"""The registry a gateway starts from, and the office's list of revoked controllers (R5)."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commonwatt.cli.enroll import app
from commonwatt.clique.cliques import write_clique_files
from commonwatt.clique.revocation import check_of, write_revoked_list
from commonwatt.identity.authority import Authority
from commonwatt.identity.devices import load_devices, save_devices
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.meter_messages import MAX_LISTED, RevokedList
from commonwatt.protocol.topics import UTILITY
from commonwatt.town.loading import load_town
from commonwatt.town.registry import REVOKED_FILE, Registry, load_registry, load_signed_list, registry_of, save_registry
from harness.care.certificates import now
from utility.registry.store.enrolment import Enrolment, enrol

TOWN = """
[[microgrid]]
id = "pub"
kind = "public"
[[meter]]
microgrid = "pub"
id = 18446744073709551615
"""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "town.toml").write_text(TOWN)
    return registry_of(load_town(tmp_path / "town.toml").microgrids["pub"])


def test_registry_reads_back_as_it_was_written(registry: Registry, tmp_path: Path) -> None:  # req: T8
    path = tmp_path / "registry.json"
    save_registry(path, registry)
    assert load_registry(path) == registry
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["meters"][-1]["id"] == "18446744073709551615"


def test_registry_knows_every_meter_of_its_microgrid(registry: Registry) -> None:  # req: T8
    assert [meter.function.value for meter in registry.meters] == [
        *("hospital", "police", "fire", "solar_farm", "boundary", "boundary", "foreign")
    ]
    assert [meter.battery_capacity_mwh is not None for meter in registry.meters] == [i == 3 for i in range(7)]


def test_registry_tells_which_meter_was_replaced(tmp_path: Path) -> None:
    town = TOWN + '[[meter]]\nmicrogrid = "pub"\nid = 77\nreplaces = 10004\n'
    (tmp_path / "town.toml").write_text(town)
    save_registry(tmp_path / "registry.json", registry_of(load_town(tmp_path / "town.toml").microgrids["pub"]))
    found = load_registry(tmp_path / "registry.json").meters
    assert [meter.id for meter in found if meter.replaced] == [10004]
    assert (tmp_path / "registry.json").read_text().count("replaced") == 1, "earlier releases refuse the key"


def test_broken_registry_is_told_with_its_key(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    save_registry(path, registry)
    content = json.loads(path.read_text())
    content["meters"][1]["account"] = -1
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"registry\.json: .*meters\.1\.account"):
        load_registry(path)
    content["meters"][1] = content["meters"][0]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="a meter is there twice"):
        load_registry(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"not a registry.*commonwatt utility register"):
        load_registry(path)


TOWN_OF_COUNT = 'microgrid = [{id = "r", kind = "residential", count = COUNT, houses = 1}]\n'


def register(out: Path, count: int) -> None:
    """Register a town and write the files of its cliques."""
    file = out.parent / "town.toml"
    file.write_text(TOWN_OF_COUNT.replace("COUNT", str(count)))
    town = load_town(file)
    enrol(town, out)
    write_clique_files(town, out, dict.fromkeys((*town.microgrids, UTILITY), "10.0.0.1:8885"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    register(tmp_path / "out", 3)
    Authority.create(tmp_path / "out", "Town", now())
    return tmp_path / "out"


def run(out: Path, *words: str) -> str:
    done = CliRunner(env={"COLUMNS": "120"}).invoke(app, [*words, "--out", str(out)])
    assert done.exit_code == 0, done.output
    return done.output


def lists(out: Path) -> dict[str, RevokedList]:
    """Return the list in each folder that has one; the authority signed each."""
    found = {path.parent.name: load_signed_list(path) for path in out.glob(f"*/{REVOKED_FILE}")}
    check = check_of(out / "authority/ca.pem")
    assert check is not None
    assert all(one is not None and check(one.text, one.signature) for one in found.values())
    return {name: one.read() for name, one in found.items() if one is not None}


def test_revoking_a_controller_writes_the_list_for_its_mates_and_names_the_files(out: Path) -> None:
    assert lists(out) == {}
    told = run(out, "revoke", "r002", "--reason", "stolen")
    assert lists(out).keys() == {"authority", "r001", "r003"}, "not for the thief, and the utility has no meters"
    assert {tuple(one.ranks.items()) for one in lists(out).values()} == {(("r002", 2),)}
    assert [f"/{name}/{REVOKED_FILE}" in told for name in ("r001", "r002", "r003")] == [True, False, True]


def test_the_number_rises_at_each_change_and_at_no_other_time(out: Path) -> None:
    run(out, "revoke", "r002", "--reason", "stolen")
    first = lists(out)["r001"].number
    assert REVOKED_FILE not in run(out, "revoke", "r002", "--reason", "stolen again")
    assert lists(out)["r001"].number == first
    run(out, "revoke", "r003", "--reason", "lost")
    second = lists(out)["r001"]
    assert second.number > first
    assert second.ranks == {"r002": 2, "r003": 3}
    run(out, "readmit", "r002")
    third = lists(out)
    assert third["r001"].number > second.number
    assert third["r002"].ranks == {"r003": 3}, "it is back, and passes on what holds"


def test_a_number_is_not_used_again_after_the_folder_was_restored_from_a_copy(out: Path) -> None:
    at = now()
    devices = load_devices(out / "head-end/devices.json")
    run(out, "revoke", "r002", "--reason", "stolen")
    for path in out.glob(f"*/{REVOKED_FILE}"):
        path.unlink()
    save_devices(out / "head-end/devices.json", list(devices.values()))
    Enrolment(out).revoke("r003", "lost", at + 100, with_meters=False)
    assert lists(out)["r001"] == RevokedList(at + 100, {"r003": 3})


def test_a_microgrid_that_is_added_gets_the_list_and_the_page_of_devices_names_it(out: Path) -> None:
    done = Enrolment(out).revoke("r002", "stolen", now(), with_meters=False)
    assert [path.parent.name for path in done.lists if path.name == REVOKED_FILE] == ["r001", "r003"]
    register(out, 6)
    assert {path.parent.name for path in write_revoked_list(out, now())} == {"r004", "r005", "r006"}
    files = Enrolment(out).readmit("r002", now(), with_meters=False)
    assert sum(path.name == REVOKED_FILE for path in files) == 6


def test_without_an_authority_or_revoked_controllers_there_is_no_list(tmp_path: Path) -> None:
    register(tmp_path / "out", 3)
    run(tmp_path / "out", "revoke", "r002", "--reason", "stolen")
    assert not [*(tmp_path / "out").rglob(REVOKED_FILE)]


def test_a_revoked_meter_or_a_controller_without_a_clique_makes_no_list(out: Path) -> None:
    meter = next(i for i, device in load_devices(out / "r001/devices.json").items() if device.role == "meter")
    run(out, "revoke", meter, "--reason", "lost")
    (out / "r003/clique.json").unlink()
    run(out, "revoke", "r003", "--reason", "lost")
    assert lists(out) == {}


@pytest.mark.parametrize("content", ["[]", "{}", '{"text": "7 r002", "signature": "0011223344556677"}'])
def test_a_damaged_list_is_named(out: Path, content: str) -> None:
    (out / "r001" / REVOKED_FILE).write_text(content)
    with pytest.raises(ConfigError, match=REVOKED_FILE):
        load_signed_list(out / "r001" / REVOKED_FILE)


def test_the_longest_list_fits_into_a_command() -> None:
    longest = RevokedList(2**53, {f"r{n:015d}": 65_000 + n for n in range(MAX_LISTED)})
    assert RevokedList.read(longest.text) == longest
    assert len(longest.text) < 12_000
