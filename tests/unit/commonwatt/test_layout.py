"""The demonstration's folder: its certificates, made once, kept, and renewed in time."""

import socket
import tomllib
from pathlib import Path

import pytest

from commonwatt.demo import parts as module
from commonwatt.demo.layout import prepare
from commonwatt.demo.parts import free_ports as free_ports_of_the_demonstration
from commonwatt.identity.authority import Authority
from commonwatt.model.exceptions import ConfigError
from harness.real.enrolled import DAY_S, now

TOWN = 'microgrid = [{id = "r", kind = "residential", count = 2, houses = 1}]\n'
FILES = {"head-end/broker.pem", "r001/gateway.pem", "r002/gateway.pem", "utility/utility.pem", "plant/plant.pem"}


def test_whoever_meets_at_the_head_end_has_a_certificate_that_lasts(tmp_path: Path) -> None:
    town = tmp_path / "town.toml"
    town.write_text(TOWN)
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
    monkeypatch.setattr(module, "_EPHEMERAL", system)
    ports = free_ports_of_the_demonstration(20)
    assert len(set(ports)) == 20
    assert all(10_000 <= port < 10_400 for port in ports)
    system.write_text("10401\t60999\n")
    with (
        socket.create_server(("127.0.0.1", ports[0])),
        pytest.raises(ConfigError, match=r"of 401 ports from 10000 to 10401 are free here"),
    ):
        free_ports_of_the_demonstration(401)
