"""The demonstration's folder with its certificates; a large town's files, processes and end."""

import socket
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.mosquitto import merged
from commonwatt.clique.cliques import CliqueMembers, formed, orders
from commonwatt.config.files import load_settings
from commonwatt.config.meters import MetersSettings
from commonwatt.config.settings import HostSettings
from commonwatt.demo import large
from commonwatt.demo import parts as module
from commonwatt.demo.large import (
    FLEET_SOCKETS,
    QUIET_S,
    TOGETHER,
    _sockets,
    arrived,
    is_drained,
    placed,
    require_servers,
    spread,
)
from commonwatt.demo.layout import prepare
from commonwatt.demo.parts import write_parts, write_targets
from commonwatt.identity.authority import Authority
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MicrogridId
from commonwatt.runtime import supervisor
from commonwatt.runtime.supervisor import SupervisedPart, free_ports
from commonwatt.town.loading import WHOLE_TOWN, load_town
from commonwatt.town.town import Town
from gateway.host.host import hosted as hosted_gateways
from harness.care.certificates import DAY_S, now
from meter_sim.fleet import hosted as hosted_meters
from utility.registry.store.enrolment import enrol

TWO_HOMES = 'microgrid = [{id = "r", kind = "residential", count = 2, houses = 1}]\n'
FILES = {"head-end/broker.pem", "r001/gateway.pem", "r002/gateway.pem", "utility/utility.pem", "plant/plant.pem"}


def test_whoever_meets_at_the_head_end_has_a_certificate_that_lasts(tmp_path: Path) -> None:
    town = tmp_path / "town.toml"
    town.write_text(TWO_HOMES)
    data = tmp_path / "data"
    layout = prepare(data, town, 60, None)
    head_end = tomllib.loads(layout.part("head-end").config.read_text())["broker"]
    gateway = tomllib.loads(layout.part("r002 gateway").config.read_text())["gateway"]
    assert (head_end["clients_ca"], head_end["clients_revoked"]) == ("ca.pem", "revoked.pem")
    assert (gateway["head_end_ca"], gateway["certificate"]) == ("ca.pem", "gateway.pem")
    made = Authority.load(data)
    assert {entry.file for entry in made.current()} == FILES
    before = {file: (data / file).read_bytes() for file in FILES}
    # One is about to expire, one was revoked, when the demonstration is started again.
    old = next(entry for entry in made.current() if entry.name == "r001").again()
    made.issue([old], now() - 80 * DAY_S)
    made.revoke("r002", "stolen", now())
    prepare(data, None, 60, None)
    again = Authority.load(data)
    assert {entry.file for entry in again.current()} == FILES - {"r002/gateway.pem"}
    assert all(entry.expires - now() > 40 * DAY_S for entry in again.current())
    assert (data / "utility/utility.pem").read_bytes() == before["utility/utility.pem"]
    assert (data / "r002/gateway.pem").read_bytes() == before["r002/gateway.pem"], "who was revoked gets no new one"


def test_ports_are_free_and_below_those_that_the_system_gives_to_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "ip_local_port_range"
    system.write_text("10400\t60999\n")
    monkeypatch.setattr(supervisor, "_EPHEMERAL", system)
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(10_000 <= port < 10_400 for port in ports)
    system.write_text("10401\t60999\n")
    with (
        socket.create_server(("127.0.0.1", ports[0])),
        pytest.raises(ConfigError, match=r"of 401 ports from 10000 to 10401 are free here"),
    ):
        free_ports(401)


LAST = 1_000


def heartbeat(time: int = LAST + QUIET_S + 1, **backlog: int) -> dict[str, Any]:
    return {"time": time, "backlog_parts": 0, "backlog_events": 0, "backlog_letters": 0} | backlog


def utility(**heartbeats: dict[str, Any] | None) -> dict[str, Any]:
    microgrids = {name: {"received_slots": 100, "heartbeat": one} for name, one in heartbeats.items()}
    return {"queue_s": 0.4, "totals": {"received_slots": 100 * len(microgrids)}, "microgrids": microgrids}


def fleet(**changed: Any) -> dict[str, Any]:
    idle = {"microgrids": ["r001", "r002"], "meters": 44, "connected": 44, "made": 500, "acknowledged": 480}
    return idle | {"held": 0, "events_held": 0, "lag_s": 0.0, "behind": 0, "worst": {}} | changed


def test_a_town_has_drained_when_each_gateway_says_so_after_the_last_slot() -> None:
    assert is_drained(utility(r001=heartbeat(), r002=heartbeat()), [fleet()], LAST)
    assert not is_drained(utility(r001=heartbeat(), r002=None), [fleet()], LAST), "it never said anything"
    assert not is_drained(utility(r001=heartbeat(LAST + QUIET_S)), [fleet()], LAST), "parts may have come since"
    assert not is_drained(utility(r001=heartbeat(backlog_events=1)), [fleet()], LAST)
    assert not is_drained(utility(r001=heartbeat()), [fleet(), fleet(held=1)], LAST)
    assert not is_drained({}, [fleet()], LAST)


def test_what_arrives_is_seen_at_gateways_and_at_the_utility() -> None:
    assert arrived(utility(r001=None, r002=None), [fleet(), fleet()]) == 200 + 2 * 480


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

    def of(self, kind: str) -> list[SupervisedPart]:
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
    assert started[-2].command[2:5] == ("commonwatt", "gateway", "host")
    write_targets(data, prepared.parts)
    targets = (data / "prometheus-targets.json").read_text()
    assert targets.count('"targets"') == 6, "head-end, utility, hosts and the fleet; a Mosquitto has no metrics"


def test_a_machine_without_the_servers_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "found", lambda _: None)
    monkeypatch.setattr(large, "programs", lambda: None)
    with pytest.raises(ConfigError, match="sudo apt-get install mosquitto postgresql"):
        require_servers()


def test_a_machine_with_too_few_open_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "found", lambda name: Path(name))
    monkeypatch.setattr(large, "programs", lambda: Path("bin"))
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    with pytest.raises(ConfigError, match=r"needs 20,000 open files, and may have 4,096"):
        require_servers()


def _file(prepared: Prepared, name: str, kind: str) -> dict[str, Any]:
    return tomllib.loads(next(p for p in prepared.parts if p.name == f"{name} {kind}").config.read_text())


def _table(prepared: Prepared, name: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = _file(prepared, name, kind)[kind]
    return found


COLLECTED = """
[[microgrid]]
id = "r"
kind = "residential"
count = 24

[[collectors]]
microgrid = "r001"
controllers = ["r010", "r011", "r012", "r020"]
"""


def orders_of(town: Town) -> dict[MicrogridId, CliqueMembers]:
    kinds = {name: one.kind for name, one in town.microgrids.items()}
    return orders(formed((), kinds), kinds)


@pytest.fixture(scope="module")
def whole() -> Town:
    return load_town(WHOLE_TOWN)


def test_the_whole_town_shares_four_brokers_five_hosts_and_four_fleets(whole: Town) -> None:
    places = placed(whole, orders_of(whole))
    assert [len(some) for some in places.brokers] == [201, 201, 200, 200]
    assert [len(some) for some in places.hosts] == [161, 161, 160, 160, 160]
    assert max(len(some) for some in places.hosts) <= TOGETHER
    found = orders_of(whole)
    sockets = [sum(_sockets(whole.microgrids[n], len(found[n])) for n in some) for some in places.fleets]
    assert len(sockets) == 4
    assert all(some <= FLEET_SOCKETS for some in sockets)
    assert sum(sockets) == 17_911 + 16_016, "each meter's own session, and the warm ones"


def test_each_microgrid_has_one_broker_one_host_and_one_fleet(whole: Town) -> None:
    places = placed(whole, orders_of(whole))
    for kind in (places.brokers, places.hosts, places.fleets):
        assert Counter(name for some in kind for name in some) == Counter(list(whole.microgrids))


def test_who_may_manage_a_microgrid_shares_neither_broker_nor_host(whole: Town) -> None:
    found = orders_of(whole)
    places = placed(whole, found)
    for kind in (places.brokers, places.hosts):
        at = {name: number for number, some in enumerate(kind) for name in some}
        for order in found.values():
            assert len({at[name] for name in order}) == len(order), order


def test_a_microgrid_and_its_collectors_have_different_brokers(tmp_path: Path) -> None:
    (path := tmp_path / "town.toml").write_text(COLLECTED)
    town = load_town(path)
    places = placed(town, orders_of(town))
    at = {name: number for number, some in enumerate(places.brokers) for name in some}
    theirs = {"r001", "r002", "r003", "r010", "r011", "r012", "r020"}
    assert len({at[name] for name in theirs}) == len(theirs)


@given(st.lists(st.sets(st.sampled_from("abcdefghij"), min_size=1, max_size=4), max_size=12))
def test_no_two_of_a_group_share_a_place(groups: list[set[str]]) -> None:
    places = spread("abcdefghij", groups, 2)
    assert sorted(name for some in places for name in some) == list("abcdefghij")
    assert all(len(group & set(some)) <= 1 for group in groups for some in places)
