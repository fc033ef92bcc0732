"""The files of a town whose microgrids share brokers and hosts; tests/integration/test_large_town.py runs one."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker.mosquitto import merged
from commonwatt.config.files import load_settings
from commonwatt.config.host import HostSettings
from commonwatt.config.meters import MetersSettings
from commonwatt.demo import parts as module
from commonwatt.demo.large import servers
from commonwatt.demo.large.servers import require_servers
from commonwatt.demo.parts import Part, write_parts, write_targets
from commonwatt.model.exceptions import ConfigError
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from gateway.host.files import hosted as hosted_gateways
from meter_sim.hosting import hosted as hosted_meters
from utility.registry.store.enrolment import enrol

TOWN = """
[[microgrid]]
id = "r"
kind = "residential"
count = 22
houses = 1

[[microgrid]]
id = "apt"
kind = "apartment"
buildings = 1
apartments = 2

[[microgrid]]
id = "pub"
kind = "public"
"""


class Prepared:
    """A registered town of 24 microgrids, with its parts; the servers of other makers are not started."""

    def __init__(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.brokers: dict[Path, list[Path]] = {}  # the devices files of each broker's settings file
        monkeypatch.setattr(module, "mosquitto", self._mosquitto)
        (path := data / "town.toml").write_text(TOWN)
        self.town: Town = load_town(path)
        enrol(self.town, data)
        database: Any = SimpleNamespace(
            url="postgresql+psycopg://commonwatt@127.0.0.1:5432/postgres",
            folder=data / "utility_database",
            command=["postgres"],
            user="postgres",
        )
        self.parts = write_parts(data, self.town, 1, plain_text=True, database=database)

    def _mosquitto(self, config: Path, devices: Iterable[Path]) -> Sequence[str]:
        self.brokers[config] = list(devices)
        return ["mosquitto", "-c", str(config)]

    def of(self, kind: str) -> list[Part]:
        return [part for part in self.parts if part.kind == kind and not part.hosted]


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    return Prepared(tmp_path, monkeypatch)


def test_each_device_may_connect_to_one_broker_of_its_microgrid(prepared: Prepared) -> None:
    at: dict[str, list[str]] = {}
    for config, files in prepared.brokers.items():
        listen = tomllib.loads(config.read_text())["broker"]["listen"]
        for device in merged(files).values():
            at.setdefault(device.identity, []).append(listen)
    homes = {name: _table(prepared, name, "meters")["broker"] for name in prepared.town.microgrids}
    assert set(homes.values()) == {listen for found in at.values() for listen in found}
    for name, microgrid in prepared.town.microgrids.items():
        assert at[name] == [homes[name]], "a gateway is at its own broker alone"
        further = [one["address"] for one in _file(prepared, name, "meters")["brokers"]]
        for meter in microgrid.meters:
            assert homes[name] in at[str(meter.id)]
            assert len(set(at[str(meter.id)])) == len(at[str(meter.id)])
            assert set(at[str(meter.id)]) <= {homes[name], *further}


def test_each_gateway_and_each_meter_runs_once_and_all_files_are_there(prepared: Prepared) -> None:
    gateways: Counter[str] = Counter()
    for part in prepared.of("host"):
        gateways.update(list(hosted_gateways(part.config, load_settings(part.config, "host", HostSettings))))
    fleets: Counter[str] = Counter()
    for part in prepared.of("meters"):
        fleets.update(list(hosted_meters(part.config, load_settings(part.config, "meters", MetersSettings))))
    assert gateways == fleets == Counter(list(prepared.town.microgrids))
    assert [len(prepared.of(kind)) for kind in ("database", "broker", "utility", "host", "meters")] == [1, 4, 1, 3, 1]


def test_processes_are_few_start_with_what_others_need_and_are_known_to_prometheus(prepared: Prepared) -> None:
    data = prepared.parts[0].log.parent.parent
    started = [part for part in prepared.parts if not part.hosted]
    kinds = [part.kind for part in started]
    assert kinds == ["database", *["broker"] * 4, "utility", *["host"] * 3, "meters"]
    assert started[0].user == "postgres"
    assert started[-2].command[2:5] == ["commonwatt", "gateway", "host"]
    write_targets(data, prepared.parts)
    targets = (data / "prometheus-targets.json").read_text()
    assert targets.count('"targets"') == 6, "head-end, utility, hosts and the fleet; a Mosquitto has no metrics"


def test_a_machine_without_the_servers_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "found", lambda _: None)
    monkeypatch.setattr(servers, "programs", lambda: None)
    with pytest.raises(ConfigError, match="sudo apt-get install mosquitto postgresql"):
        require_servers()


def test_a_machine_with_too_few_open_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "found", lambda name: Path(name))
    monkeypatch.setattr(servers, "programs", lambda: Path("bin"))
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    with pytest.raises(ConfigError, match=r"needs 20,000 open files, and may have 4,096"):
        require_servers()


def _file(prepared: Prepared, name: str, kind: str) -> dict[str, Any]:
    return tomllib.loads(next(p for p in prepared.parts if p.name == f"{name} {kind}").config.read_text())


def _table(prepared: Prepared, name: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = _file(prepared, name, kind)[kind]
    return found
