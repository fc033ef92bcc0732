"""The utility as processes: its commands, its service with the real head-end broker, and simulated gateways."""

import asyncio
import contextlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from commonwatt.codec.dumps import read_dump
from commonwatt.codec.packing import pack
from commonwatt.config.files import load_settings
from commonwatt.doctor.running import local_headers
from commonwatt.identity.devices import load_tokens
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.effects import Publish
from commonwatt.model.units import QUARTER_S
from commonwatt.protocol.batches import Batch, BatchAck, unpack_batch_ack
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.topics import gateway_down, gateway_up
from harness.care.certificates import now
from harness.commands import shown
from harness.network.mqtt import link_of
from harness.network.waiting import become, cancelled, ended, free_port
from harness.real import forks
from utility.settings import UtilitySettings

WAIT_S = 30.0
QUARTER = now() // QUARTER_S - 2
"""Over by the machine's clock: readings far ahead of it would wait until it is confirmed."""


HEARTBEAT = Heartbeat(
    time=1_782_000_000, store=7, backlog_parts=0, backlog_events=0, backlog_letters=0, aggregation="none"
).pack()


def commonwatt(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return forks.run([sys.executable, "-m", "commonwatt", *map(str, arguments)], timeout=WAIT_S)


@contextlib.contextmanager
def process(*arguments: object, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    started = forks.start([sys.executable, "-m", "commonwatt", *map(str, arguments)], log)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.wait(WAIT_S)


class Utility:
    """A registered town in a folder, and requests to its service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.head_end = f"127.0.0.1:{free_port()}"
        self.http = f"127.0.0.1:{free_port()}"
        self.config = folder / "utility.toml"
        self.config.write_text(
            f'[utility]\nhead_end = "{self.head_end}"\nhttp = "{self.http}"\ntokens = "utility/utility-tokens.json"\n'
        )
        self.broker = folder / "broker.toml"
        self.broker.write_text(f'[broker]\nlisten = "{self.head_end}"\ndevices = "head-end/devices.json"\n')
        (folder / "town.toml").write_text('microgrid = [{id = "r", kind = "residential", count = 2, houses = 1}]\n')
        self.register()

    def register(self) -> None:
        town, url = self.folder / "town.toml", f"sqlite:///{self.folder}/utility.db"
        done = commonwatt("utility", "register", "--town", town, "--database", url, "--out", self.folder)
        assert done.returncode == 0, done.stderr

    def get(self, path: str) -> dict[str, Any] | None:
        try:
            headers = local_headers(load_settings(self.config, "utility", UtilitySettings))
            answer = httpx.get(f"http://{self.http}{path}", timeout=30, headers=headers)
        except httpx.TransportError:
            return None
        return dict(answer.json())

    def tells(self, path: str, expected: Callable[[dict[str, Any]], bool]) -> bool:
        answer = self.get(path)
        return answer is not None and expected(answer)


@pytest.fixture
def utility(tmp_path: Path) -> Utility:
    return Utility(tmp_path)


class Gateway:
    """A simulated gateway r001."""

    def __init__(self, utility: Utility) -> None:
        self.acks: list[BatchAck] = []
        self.commands: list[ControllerCommand] = []
        self.link = link_of(
            utility.head_end,
            token=load_tokens(utility.folder / "r001" / "gateway-tokens.json")["r001"],
            subscribe=gateway_down("r001", "+"),
            on_message=self._receive,
        )

    def _receive(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/ack"):
            self.acks.append(unpack_batch_ack(payload))
        else:
            self.commands.append(unpack_json(ControllerCommand, payload))

    def send(self, leaf: str, payload: bytes) -> None:
        self.link.publish(Publish(gateway_up("r001", leaf), payload))

    async def relay(self, sequence: int, blocks: Blocks) -> BatchAck:
        """Send a batch again until it is acknowledged."""
        batch = Batch(
            owner="r001",
            store=1,
            sequence=sequence,
            time=QUARTER * 900,
            keys=blocks.keys(),
            payloads=pack(blocks),
            events=[],
            dead_letters=[],
        ).pack()
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            self.send("batch", batch)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await become(lambda: any(ack.sequence == sequence for ack in self.acks))
                return next(ack for ack in self.acks if ack.sequence == sequence)
        raise AssertionError("not acknowledged in time")


def full_block(quarter: int, meter: int = 10001) -> Blocks:
    return make_blocks([(meter, 3, quarter)], [list(range(60))], [[2] * 60])


def stops(service: "subprocess.Popen[bytes]") -> bool:
    """Return whether SIGTERM ends the service in 5 s, without an error."""
    service.send_signal(signal.SIGTERM)
    return ended(service, 5) == 0


def test_service_runs_and_stops_without_a_broker(utility: Utility) -> None:
    log = utility.folder / "log"
    with process("utility", "run", "--config", utility.config, log=log) as service:
        asyncio.run(become(lambda: utility.tells("/health", lambda answer: answer["status"] == "ok")))
        status = utility.get("/status")
        assert status is not None
        assert (list(status["microgrids"]), status["head_end_connected"]) == (["r001", "r002"], False)
        metrics = httpx.get(f"http://{utility.http}/metrics", timeout=30).text
        assert metrics.count("\ncommonwatt_utility_gateway_last_seen_seconds{") == 2, "neither has ever sent a message"
        refused = "[Errno 111] Connection refused"
        asyncio.run(become(lambda: utility.tells("/status", lambda answer: answer["head_end_failure"] == refused)))
        second = commonwatt("utility", "run", "--config", utility.config)
        assert (second.returncode, "is another service running there?" in second.stderr) == (1, True)
        assert stops(service)
    said = log.read_text()
    assert said.count(f"utility: no connection to {utility.head_end}: {refused}") == 1, said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[utility]\nhttp = "127.0.0.1"\n', "line 2: utility.http: must be HOST:PORT"),
        ("[utility]\n\ngap_s = 3\n", "line 3: utility.gap_s: unknown key"),
        ('[utility]\ndatabase = "nonsense"\ntokens = "t.json"\n', "not an SQLAlchemy URL"),
        ('[utility]\ntokens = "none.json"\n', "commonwatt utility register"),
        ("[gateway]\n", "exactly one table, [utility]"),
    ],
)
def test_mistake_in_the_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "t.json").write_text('{"utility": "x"}')
    config = tmp_path / "utility.toml"
    config.write_text(text)
    done = commonwatt("utility", "run", "--config", config)
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


@pytest.mark.parametrize(
    ("command", "says"), [("run", "its one table is called utility"), ("register", "such as a meter:")]
)
def test_help_shows_what_the_files_hold(command: str, says: str) -> None:
    done = commonwatt("utility", command, "--help")
    assert says in " ".join(done.stdout.replace("│", " ").split())


def test_commands_that_read_work_without_the_service(utility: Utility) -> None:
    for name in ("dump", "migrate"):
        done = commonwatt("utility", name, "--config", utility.config)
        assert done.returncode == 0, done.stderr
    given = commonwatt("utility", "command", "r001", "schedule", "relay_s=60", "--config", utility.config)
    assert given.stdout == "change 1: schedule relay 60 s, 1 microgrid; see: commonwatt show commands/changes\n"
    (listed,) = shown(Path(utility.config), "commands")["commands"]
    assert (listed["controller"], listed["what"], listed["state"]) == ("r001", "schedule relay 60 s", "open")
    refused = commonwatt("show", "commands", "--config", utility.config)
    assert (refused.returncode, "no answer" in refused.stderr, "Start the service" in refused.stderr) == (1, True, True)
    given = commonwatt(
        "utility", "command", "r001", "schedule", "periods=file", "relay_s=30", "--config", utility.config
    )
    assert "collect as installed" in given.stdout
    assert "relay 30 s" in given.stdout
    for wrong in (
        ["r001", "schedule"],
        ["r009", "deaggregate"],
        ["r001", "get"],
        ["r001", "deaggregate", "mode=lossy"],
    ):
        done = commonwatt("utility", "command", *wrong, "--config", utility.config)
        assert (done.returncode, done.stdout) == (2, "")


def test_a_reader_that_has_enough_is_no_error(utility: Utility) -> None:
    words = [sys.executable, "-m", "commonwatt", "accounts", "export", "--config", str(utility.config)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.close()
        assert reading.stderr.read() == b""
    assert reading.returncode == 0


def test_a_gateway_store_that_cant_be_read_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[gateway]\nmicrogrid = "r001"\nstore = "gateway.db"\n')
    (tmp_path / "gateway.db").write_text("this is no database\n" * 100)
    done = commonwatt("gateway", "dump", "--config", config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'gateway.db'}: can't be read: ")
    assert len(done.stderr.splitlines()) == 1


def test_register_counts_in_good_english(utility: Utility, tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('microgrid = [{id = "r", kind = "residential", count = 1, houses = 1}]\n')
    url = f"sqlite:///{tmp_path}/one.db"
    done = commonwatt(
        "utility", "register", "--town", tmp_path / "one.toml", "--database", url, "--out", tmp_path / "one"
    )
    assert done.stdout.startswith("1 microgrid and ")


@pytest.mark.parametrize(
    "words", [("meters", "run"), ("meters", "dump"), ("utility", "dump"), ("utility", "command"), ("utility", "run")]
)
def test_help_flows(words: tuple[str, str]) -> None:
    """Check that each line of the help is filled, except the last of a paragraph."""
    text = [line.strip() for line in commonwatt(*words, "--help").stdout.split("╭")[0].splitlines()]
    usage = next(n for n, line in enumerate(text) if line.startswith("Usage: "))
    for line, after in itertools.pairwise(text[text.index("", usage) :]):
        if line and after:
            assert len(f"{line} {after.split()[0]}") > 78, line


def test_acknowledged_batches_survive_a_kill(utility: Utility) -> None:
    log = utility.folder / "log"

    async def play() -> Blocks:
        gateway = Gateway(utility)
        link = asyncio.create_task(gateway.link.run())
        with process("broker", "run", "--config", utility.broker, log=log):
            with process("utility", "run", "--config", utility.config, log=log) as service:
                await become(lambda: gateway.link.connected)
                ack = await gateway.relay(1, full_block(QUARTER))
                assert (ack.status, ack.blocks) == (0, 1)
                gateway.send("stat", HEARTBEAT)
                seen = json.loads(HEARTBEAT)
                await become(lambda: utility.tells("/status", lambda s: s["microgrids"]["r001"]["heartbeat"] == seen))
                os.kill(service.pid, signal.SIGKILL)
            with process("utility", "run", "--config", utility.config, log=log) as service:
                again = await gateway.relay(2, full_block(QUARTER + 1))
                assert again.utility_store == ack.utility_store
                assert await asyncio.to_thread(stops, service)
        await cancelled(link)
        dump = commonwatt("utility", "dump", "--config", utility.config)
        return read_dump(io.StringIO(dump.stdout))[0]

    blocks = asyncio.run(play())
    assert blocks.keys() == [(10001, 3, QUARTER), (10001, 3, QUARTER + 1)]
    assert blocks.values.tolist() == [list(range(60))] * 2


def test_running_service_sends_commands_and_takes_over_new_meters(utility: Utility) -> None:
    async def play() -> None:
        gateway = Gateway(utility)
        link = asyncio.create_task(gateway.link.run())
        with (
            process("broker", "run", "--config", utility.broker, log=utility.folder / "log"),
            process("utility", "run", "--config", utility.config, log=utility.folder / "log"),
        ):
            await become(lambda: gateway.link.connected)
            await become(lambda: utility.tells("/health", lambda answer: bool(answer["head_end_connected"])))
            words = ("utility", "command", "r001", "deaggregate", "--config", utility.config)
            given = await asyncio.to_thread(commonwatt, *words)
            assert given.stdout.startswith("change 1: deaggregate, 1 microgrid"), given.stderr
            await become(lambda: bool(gateway.commands))
            outcome = {"v": 1, "id": gateway.commands[0].id, "cmd": "deaggregate", "result": "done", "time": 1}
            gateway.send("out", json.dumps(outcome).encode())
            await become(lambda: utility.tells("/commands/1", lambda a: a["microgrids"][0]["state"] == "done"))
            with (utility.folder / "town.toml").open("a") as town:
                town.write('[[meter]]\nmicrogrid = "r001"\nid = 555\n')
            ack = await gateway.relay(5, full_block(QUARTER, meter=555))
            assert ack.status == 5
            await asyncio.to_thread(utility.register)
            await become(lambda: utility.tells("/readings?meter=555&start=0&end=15", lambda r: "readings" in r))
            sequence = 5
            while ack.status != 0:
                sequence += 1
                ack = await gateway.relay(sequence, full_block(QUARTER, meter=555))
        await cancelled(link)

    asyncio.run(play())
