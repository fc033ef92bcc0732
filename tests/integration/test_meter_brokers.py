"""A fleet with two real brokers: the first is killed, and its meters send to the second until it is back (R13)."""

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from commonwatt.clique.cliques import warm_meters
from commonwatt.identity.authority import Authority
from commonwatt.identity.devices import (
    broker_token,
    digest,
    load_devices,
    load_tokens,
    new_token,
    save_devices,
    save_tokens,
)
from commonwatt.model.blocks import concatenate, join
from commonwatt.model.records import Log
from commonwatt.protocol.meter_messages import PURPOSE
from commonwatt.town.town import Function
from harness.network.waiting import ended, eventually, free_port
from harness.real import forks
from tests.integration import test_meters
from tests.integration.test_meters import START, Bench, Gateway, _listens, values


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with patch.object(test_meters, "TOWN", test_meters.TOWN.replace("push_share = 0.5", "push_share = 1")):
        bench = Bench(tmp_path)
    bench.set_clock(speed=15, stop_after_s=None)
    try:
        yield bench
    finally:
        bench.close()


def meters_of(gateway: Gateway, since: int) -> set[int]:
    """Return the meters whose records came after the first ``since`` puts."""
    puts = [put for put in gateway.puts[since:] if put.log is Log.HISTORY]
    return {record.meter_id for put in puts for record in put.history()}


def ask(gateway: Gateway, meter: int, **fields: Any) -> tuple[str, bool | None]:
    """Send a get as r002; return the result, and what is known of the controller asked about."""
    before = len(gateway.outcomes)
    gateway.command(meter, "get", issuer="r002", **fields)
    eventually(lambda: len(gateway.outcomes) > before)
    return gateway.outcomes[-1].result, gateway.outcomes[-1].acknowledged


def admitted(port: int, meter: int, token: str) -> bool:
    """Return whether a broker admits a meter with a token."""
    answers: list[bool] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, str(meter))
    client.username_pw_set(str(meter), token)
    client.on_connect = lambda *args: answers.append(not args[3].is_failure)
    client.connect("127.0.0.1", port)
    client.loop_start()
    eventually(lambda: answers)
    client.loop_stop()
    return answers[0]


def install_second(bench: Bench, keys: str = "") -> tuple[int, dict[str, str]]:
    """Install a second broker at the meters; return its port, and the meters' secrets.

    Args:
        bench: The meters.
        keys: Further keys of the meters' settings.
    """
    other = free_port()
    secrets = {str(meter.id): new_token() for meter in bench.meters}
    save_tokens(bench.path / "meter-secrets.json", secrets)
    known = load_devices(bench.path / "devices.json")
    there = {meter: digest(broker_token(secret, "r002").encode()) for meter, secret in secrets.items()}
    devices = [replace(known[meter], token_sha256=token) for meter, token in there.items()]
    save_devices(bench.path / "second.json", [*devices, known["r001"]])
    (bench.path / "second.toml").write_text(f'[broker]\nlisten = "127.0.0.1:{other}"\ndevices = "second.json"\n')
    settings = (bench.path / "meters.toml").read_text().replace("failures_per_day = 200", "failures_per_day = 0")
    settings += f'clique = ["r001", "r002"]\n{keys}'
    settings += f'[[brokers]]\nname = "r002"\naddress = "127.0.0.1:{other}"\nrank = 2\nwarm = true\n'
    (bench.path / "meters.toml").write_text(settings)
    return other, secrets


def start_second(bench: Bench, other: int) -> None:
    """Start the second broker, and wait until both listen."""
    command = [sys.executable, "-c", "from broker.cli import app; app()", "run", "-c", "second.toml"]
    bench.processes.append(forks.start(command, bench.path / "second.log", folder=bench.path))
    eventually(lambda: _listens(bench.port) and _listens(other))


def test_records_go_to_the_second_broker_while_the_first_is_dead_and_then_home(bench: Bench) -> None:
    everyone = {meter.id for meter in bench.meters}
    other, secrets = install_second(bench)
    first = bench.start("broker")
    start_second(bench, other)
    home, away = Gateway(bench.port, bench.gateway_token), Gateway(other, bench.gateway_token)
    meters = bench.start("meters")
    eventually(lambda: meters_of(home, 0) == everyone)
    assert away.puts == []
    # Commands over the silent session, under the rank of its broker alone; and the question about the first controller.
    meter = min(everyone)
    assert not admitted(bench.port, meter, broker_token(secrets[str(meter)], "r002"))
    assert not admitted(other, meter, load_tokens(bench.path / "meter-tokens.json")[str(meter)])
    assert ask(away, meter, what="state", epoch=[1, 2]) == ("done", None)
    assert ask(away, meter, what="state", epoch=[1, 1]) == ("refused", None)
    assert ask(away, meter, what="manager", about="r001", epoch=[0, 0]) == ("done", True)

    first.kill()
    first.wait()
    assert ask(away, meter, what="manager", about="r001", epoch=[0, 0]) == ("done", False)
    movable = {meter.id for meter in bench.meters if meter.function is not Function.BOUNDARY}
    eventually(lambda: meters_of(away, 0) == movable)

    before = len(home.puts)
    bench.start("broker")
    eventually(lambda: meters_of(home, before) == everyone)
    marks = [len(home.puts), len(away.puts)]

    def all_are_home() -> bool:
        """Return whether all meters put at home since none put elsewhere."""
        if len(away.puts) > marks[1]:
            marks[:] = [len(home.puts), len(away.puts)]
        return meters_of(home, marks[0]) == everyone

    eventually(all_are_home)

    meters.terminate()
    assert ended(meters, 5) == 0
    home.close()
    away.close()
    truth, true_events = bench.dump("--truth")
    held, held_events = bench.dump()
    (at_home, home_events), (at_other, away_events) = home.received(), away.received()
    assert values(truth) == values(join([concatenate([at_home, at_other, held])]))
    assert true_events == home_events | away_events | held_events


def told(mate: Gateway, meters: Collection[int], signed: Mapping[str, object]) -> Counter[str]:
    """Pass a list on to meters until each answered; return the number of each result."""
    results: Counter[str] = Counter()
    for meter in sorted(meters):
        before = len(mate.outcomes)
        mate.command(meter, "revoked", issuer="r002", epoch=[0, 0], **signed)
        eventually(lambda before=before: len(mate.outcomes) > before)  # type: ignore[misc]
        results[mate.outcomes[-1].result] += 1
    return results


def test_meters_leave_a_stolen_controller_when_another_one_passes_the_list_on(bench: Bench) -> None:
    """The thief's broker runs on, and acknowledges everything; only while its gateway rests do all meters move."""
    authority = Authority.create(bench.path, "Town", START)
    inside = {meter.id: meter.battery is not None for meter in bench.meters if meter.function is not Function.BOUNDARY}
    movable, warm, boundary = set(inside), set(warm_meters(inside)), {m.id for m in bench.meters} - set(inside)
    other, _ = install_second(bench, 'authority = "authority/ca.pem"\nbroker_rank = 1\n')
    bench.start("broker")
    start_second(bench, other)
    thief, mate = Gateway(bench.port, bench.gateway_token), Gateway(other, bench.gateway_token)
    meters = bench.start("meters")
    eventually(lambda: meters_of(thief, 0) >= movable)
    text = "1790000000 r001:1"
    signed = {"revoked": text, "signature": authority.signature(PURPOSE, text.encode()).hex()}
    assert told(mate, warm, {**signed, "signature": "00" * 70}) == {"refused": len(warm)}
    assert mate.puts == [], "a forged list changes nothing"
    assert told(mate, warm, signed) == {"done": len(warm)}
    eventually(lambda: meters_of(mate, 0) == warm)
    assert told(mate, warm, signed) == {"repeated": len(warm)}
    assert ask(mate, min(warm), what="state", epoch=[9, 1]) == ("refused", None), "the thief's rank"
    assert ask(mate, min(warm), what="state", epoch=[9, 2]) == ("done", None)

    thief.close()
    eventually(lambda: meters_of(mate, 0) == movable)
    assert told(mate, movable, signed) == {"repeated": len(warm), "done": len(movable - warm)}
    thief = Gateway(bench.port, bench.gateway_token)
    meters.terminate()
    assert ended(meters, 5) == 0
    before = len(mate.puts)
    bench.start("meters")
    eventually(lambda: meters_of(mate, before) == movable and meters_of(thief, 0) == boundary)
    for meter in movable | boundary:
        thief.command(meter, "get", what="state", epoch=[9, 1])
    eventually(lambda: len(thief.outcomes) >= len(boundary))
    assert len(thief.outcomes) == len(boundary), "only meters with one broker hear the thief"
    thief.close()
    mate.close()
