"""The registry a gateway starts from."""

import json
import stat
from pathlib import Path

import pytest

from commonwatt.model.exceptions import ConfigError
from commonwatt.town.loading import load_town
from commonwatt.town.registry import Registry, load_registry, registry_of, save_registry

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
