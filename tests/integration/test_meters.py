"""A fleet in its own process, with a real broker in another and a gateway of a few lines in this one (K2, M6, M9)."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from commonwatt.codec.dumps import read_dump
from commonwatt.identity.devices import Device, DeviceRole, digest, new_token, save_devices, save_tokens
from commonwatt.model.blocks import Blocks, concatenate, from_records, join
from commonwatt.model.records import EventRecord, Log
from commonwatt.protocol import topics
from commonwatt.protocol.commands import Outcome
from commonwatt.protocol.meter_messages import Put, unpack_put
from commonwatt.runtime.clock import Clock, save_clock
from commonwatt.town.loading import load_town
from harness.network.waiting import PATIENCE_S, ended, eventually, free_port
from harness.real import forks
from harness.surroundings.messages import ack_of

WAIT_S = 30.0
START = 1_790_000_100
STOP_AFTER_S = 1800
TOWN = """
[[microgrid]]
id = "r001"
kind = "residential"
houses = 3
push_share = 0.5
"""


class Gateway:
    """A minimal gateway: it stores puts, then acknowledges; it sends `get` to meters that wait for it."""

    def __init__(self, port: int, token: str) -> None:
        self.puts: list[Put] = []
        self.outcomes: list[Outcome] = []
        self.levels = 0
        self.lose_every = 0
        self._heard = 0
        self._sequence = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "r001", clean_session=True)
        self._client.username_pw_set("r001", token)
        self._client.on_connect = lambda c, *_: c.subscribe(topics.all_meters_up("r001"), 1)
        self._client.on_message = self._on_message
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(PATIENCE_S), "else a command's answer may come before the subscription"

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def command(self, meter: int, cmd: str, **fields: Any) -> None:
        self._sequence += 1
        content = {"v": 1, "id": str(self._sequence), "cmd": cmd, "issuer": "r001", "epoch": [1, 0], **fields}
        self._client.publish(topics.meter_down("r001", meter, topics.COMMANDS), json.dumps(content), 1)

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        if message.topic.endswith(f"/{topics.LTE}"):
            return  # The broker's own.
        topic = topics.parse_meter_up(message.topic)
        assert topic is not None
        if topic.leaf == topics.OUTCOMES:
            self.outcomes.append(Outcome.model_validate_json(message.payload))
        elif topic.leaf == topics.LEVELS:
            self.levels += 1
        else:
            put = unpack_put(bytes(message.payload))
            self.puts.append(put)
            self._heard += 1
            if self.lose_every and self._heard % self.lose_every == 0:
                return
            ack = ack_of(put, START)
            self._client.publish(topics.meter_down("r001", topic.meter, topics.ACKS), ack.pack(), 1)

    def received(self) -> tuple[Blocks, dict[tuple[int, int, int], EventRecord]]:
        records = [record for put in self.puts if put.log is Log.HISTORY for record in put.history()]
        events = {
            (event.meter_id, put.generation, event.record_id): event
            for put in self.puts
            if put.log is Log.EVENT
            for event in put.events()
        }
        return from_records(records), events


class Bench:
    """Files, the broker's process and the fleet's."""

    def __init__(self, path: Path) -> None:
        self.path, self.port, self.http = path, free_port(), free_port()
        (path / "town.toml").write_text(TOWN)
        self.meters = list(load_town(path / "town.toml").meters)
        tokens = {str(meter.id): new_token() for meter in self.meters}
        self.gateway_token = new_token()
        devices = [
            Device(identity=identity, role=DeviceRole.METER, microgrid="r001", token_sha256=digest(token.encode()))
            for identity, token in tokens.items()
        ]
        owner = Device(
            identity="r001", role=DeviceRole.GATEWAY, microgrid="r001", token_sha256=digest(self.gateway_token.encode())
        )
        save_devices(path / "devices.json", [*devices, owner])
        save_tokens(path / "meter-tokens.json", tokens)
        (path / "broker.toml").write_text(f'[broker]\nlisten = "127.0.0.1:{self.port}"\n')
        (path / "meters.toml").write_text(
            f'[meters]\nmicrogrid = "r001"\nbroker = "127.0.0.1:{self.port}"\nhttp = "127.0.0.1:{self.http}"\n'
            'clock = "clock.json"\nfailures_per_day = 200\nresolution_mwh = 10\n'
        )
        self.processes: list[subprocess.Popen[bytes]] = []

    def set_clock(self, speed: float, stop_after_s: int | None = STOP_AFTER_S) -> None:
        stop_at = None if stop_after_s is None else START + stop_after_s
        self.clock = Clock(origin=START, monotonic_origin=time.monotonic(), speed=speed, meters_stop_at=stop_at)
        save_clock(self.path / "clock.json", self.clock)

    def stop_soon(self) -> int:
        """Make meters that start from now on stop soon; return the time."""
        stop_at = int(self.clock.now()) + STOP_AFTER_S // 2
        self.clock.meters_stop_at = stop_at
        save_clock(self.path / "clock.json", self.clock)
        return stop_at

    def start(self, part: str) -> subprocess.Popen[bytes]:
        module = {"broker": "broker.cli", "meters": "meter_sim.cli"}[part]
        command = [sys.executable, "-c", f"from {module} import app; app()", "run", "-c", f"{part}.toml"]
        process = forks.start(command, self.path / f"{part}.log", folder=self.path)
        self.processes.append(process)
        return process

    def status(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/status", timeout=30) as answer:
                content: dict[str, Any] = json.load(answer)
                return content
        except OSError:
            return {}

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    def dump(self, *options: str) -> tuple[Blocks, dict[tuple[int, int, int], EventRecord]]:
        command = [sys.executable, "-c", "from meter_sim.cli import app; app()", "dump", "-c", "meters.toml", *options]
        result = forks.run(command, cwd=self.path, check=True)
        (self.path / "dump.jsonl").write_text(result.stdout)
        with (self.path / "dump.jsonl").open() as file:
            return read_dump(file)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.set_clock(speed=120)
    bench.start("broker")
    eventually(lambda: _listens(bench.port))
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture
def gateway(bench: Bench) -> Iterator[Gateway]:
    gateway = Gateway(bench.port, bench.gateway_token)
    try:
        yield gateway
    finally:
        gateway.close()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def values(blocks: Blocks) -> dict[tuple[int, int, int], tuple[list[int], list[int]]]:
    assert len(blocks.extras) == 0
    return {blocks.key(row): (blocks.values[row].tolist(), blocks.quality[row].tolist()) for row in range(len(blocks))}


def test_a_fleet_killed_in_mid_work_loses_nothing_it_recorded(bench: Bench, gateway: Gateway) -> None:
    gateway.lose_every = 7
    # They keep running until they are killed.
    bench.set_clock(speed=120, stop_after_s=None)
    acknowledged = 0
    for _ in range(3):
        meters = bench.start("meters")
        eventually(lambda before=acknowledged: bench.status().get("acknowledged", 0) > before + 100)  # type: ignore[misc]
        acknowledged = bench.status()["acknowledged"]
        meters.send_signal(signal.SIGKILL)
        meters.wait()
    stop_at = bench.stop_soon()
    meters = bench.start("meters")
    # Meters that wait for a `get` receive it after the last slot.
    waiting = [meter.id for meter in bench.meters if not meter.push]
    eventually(lambda: bench.status().get("time", 0) > stop_at)
    gateway.lose_every = 0

    def drained() -> bool:
        for meter in waiting:
            gateway.command(meter, "get", what="records")
            gateway.command(meter, "get", what="events")
        now = bench.status()
        return bool(now["held"] == 0 and now["events_held"] == 0)

    truth_while_running, _ = bench.dump("--truth")
    eventually(drained)
    truth, true_events = bench.dump("--truth")
    blocks, events = gateway.received()
    assert values(truth) == values(truth_while_running)
    assert values(truth) == values(blocks)
    assert true_events == events
    held, held_events = bench.dump()
    assert (len(held), held_events) == (0, {})
    assert bench.status()["made"] == int((truth.quality > 0).sum())
    _check_events(true_events, {meter.id for meter in bench.meters})
    assert 'commonwatt_meters_puts_total{try="first"}' in bench.metrics()


def _check_events(events: dict[tuple[int, int, int], EventRecord], meters: set[int]) -> None:
    """Each meter's events have ids without holes, follow each other in time, and each begins where the last ended."""
    numbers = Counter(event.meter_id for event in events.values())
    assert set(numbers) == meters
    for meter, count in numbers.items():
        own = sorted((e for e in events.values() if e.meter_id == meter), key=lambda event: event.record_id)
        assert [event.record_id for event in own] == list(range(1, count + 1))
        assert [event.previous_state for event in own[1:]] == [event.new_state for event in own[:-1]]
        assert [event.time for event in own] == sorted(event.time for event in own)
        assert own[-1].new_state == 1


def test_what_a_fleet_holds_and_what_was_delivered_are_together_the_truth(bench: Bench, gateway: Gateway) -> None:
    meters = bench.start("meters")
    eventually(lambda: bench.status().get("acknowledged", 0) > 100)
    meters.terminate()
    assert ended(meters, 5) == 0
    truth, _ = bench.dump("--truth")
    held, _ = bench.dump()
    assert len(held) > 0
    assert values(truth) == values(join([concatenate([gateway.received()[0], held])]))


def test_a_fleet_obeys_and_answers(bench: Bench, gateway: Gateway) -> None:
    bench.start("meters")
    eventually(lambda: bench.status().get("connected") == len(bench.meters))
    eventually(lambda: bench.status().get("made", 0) > 0)
    giver = next(meter.id for meter in bench.meters if meter.battery)
    gateway.command(giver, "initialize")
    gateway.command(giver, "share_power_on", seq=1, for_s=86_400)
    gateway.command(giver, "get", what="levels")
    eventually(lambda: len(gateway.outcomes) == 2 and gateway.levels >= 1)
    assert gateway.outcomes[0].minimum_percent in (25, 50, 75)
    assert [outcome.result for outcome in gateway.outcomes] == ["done", "done"]
    assert bench.status()["sharing"] == [str(giver)]


def test_a_fleet_of_an_unknown_microgrid_says_which_there_are(bench: Bench) -> None:
    (bench.path / "meters.toml").write_text('[meters]\nmicrogrid = "x"\n')
    assert bench.start("meters").wait(WAIT_S) == 2
    assert "has no microgrid x; it has: r001" in (bench.path / "meters.log").read_text()
