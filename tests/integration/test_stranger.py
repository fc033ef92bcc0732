"""A foreign meter: docs/examples/meter.py, which implements docs/protocol.md without code of this project."""

import json
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from commonwatt.model.records import Log
from commonwatt.protocol.meter_messages import Put, unpack_put
from commonwatt.town.registry import load_registry, save_registry
from commonwatt.town.town import Function
from gateway.store.store import Store
from harness.network.waiting import PATIENCE_S, eventually
from harness.real.site import Site

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "meter.py"
METER = """
[[meter]]
microgrid = "r001"
id = {id}
record_types = ["stored", "through"]
account = {account}
battery_capacity_mwh = 10_000_000
"""
TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n' + "".join(
    METER.format(id=i, account=a) for i, a in ((77, 12), (78, 13))
)


class ByHand:
    """The test as the gateway at the broker: it sends commands and receives answers."""

    def __init__(self, site: Site) -> None:
        self.answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
        token = json.loads((site.folder / "r001" / "gateway-tokens.json").read_text())["r001"]
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "r001")
        self._client.username_pw_set("r001", token)
        self._client.on_connect = lambda c, *_: c.subscribe("cw1/r001/+/u/+", 1)
        self._client.on_message = lambda _, __, m: self.answers.put((m.topic, bytes(m.payload)))
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect(*site.address("r001 broker"))
        self._client.loop_start()
        assert subscribed.wait(PATIENCE_S), "else a command's answer may come before the subscription"

    def command(self, meter: int, cmd: str, **fields: Any) -> None:
        message = {
            "v": 1,
            "id": f"{cmd}-{time.monotonic_ns()}",
            "cmd": cmd,
            "issuer": "r001",
            "epoch": [1, 0],
            **fields,
        }
        self.send(meter, "cmd", json.dumps(message).encode())

    def send(self, meter: int, leaf: str, payload: bytes) -> None:
        self._client.publish(f"cw1/r001/{meter}/d/{leaf}", payload, qos=1)

    def next(self, meter: int, leaf: str) -> bytes:
        deadline = time.monotonic() + PATIENCE_S  # For the expected message; others never end.
        while time.monotonic() < deadline:
            topic, payload = self.answers.get(timeout=30)
            if topic == f"cw1/r001/{meter}/u/{leaf}":
                return payload
        raise AssertionError(f"meter {meter} sent no {leaf} within {PATIENCE_S:g} s")

    def outcome(self, meter: int, cmd: str, **fields: Any) -> dict[str, Any]:
        self.command(meter, cmd, **fields)
        while (outcome := json.loads(self.next(meter, "out")))["cmd"] != cmd:
            pass  # The answer to an earlier command.
        return dict(outcome)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def stranger(site: Site, meter: int, account: int, percent: int) -> Iterator[None]:
    token = json.loads((site.folder / "r001" / "meter-tokens.json").read_text())[str(meter)]
    host, port = site.address("r001 broker")
    command = [sys.executable, str(EXAMPLE), host, str(port), "r001", str(meter), str(account), str(percent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    with process.stdin as given:
        given.write(f"{token}\n")
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_the_example_is_short_and_knows_nothing_of_this_project() -> None:
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) < 80
    assert not re.search(r"^\s*(from|import) (commonwatt|gateway|utility|meter_sim|broker)", text, re.MULTILINE)


def test_a_meter_written_from_the_protocol_page_alone_works(tmp_path: Path) -> None:
    with Site(tmp_path / "site", TOWN, speed=1) as site:
        site.add_setting("r001 gateway", "commit_s = 1")
        site.start("r001 broker")
        by_hand = ByHand(site)
        with stranger(site, 77, 12, 80), stranger(site, 78, 13, 30):
            put = _pushes_and_answers_get(by_hand)
            _obeys_what_is_higher_alone(by_hand)
            _ignores_what_it_can_not_read(by_hand)
            by_hand.close()
            _delivers_to_a_real_gateway(site, put)
            _has_deleted_what_was_acknowledged(site)


def _pushes_and_answers_get(by_hand: ByHand) -> Put:
    """Check that unacknowledged bytes are sent again unchanged, pushed or requested."""
    pushed = by_hand.next(77, "rec")
    by_hand.command(77, "get", what="records")
    assert by_hand.next(77, "rec") == pushed
    by_hand.command(77, "get", what="levels")
    assert len(by_hand.next(77, "lvl")) == 20
    return unpack_put(pushed)


def _obeys_what_is_higher_alone(by_hand: ByHand) -> None:
    until = int(time.time()) + 600
    on = {"seq": 5, "until": until}
    assert by_hand.outcome(77, "share_power_on", **on)["result"] == "done"
    assert by_hand.outcome(77, "share_power_on", **on)["result"] == "repeated"
    assert by_hand.outcome(77, "share_power_off", seq=4)["result"] == "superseded"
    expired = by_hand.outcome(77, "share_power_on", epoch=[9, 0], seq=9, until=1)
    assert (expired["result"], expired["epoch"]) == ("expired", [1, 0])
    assert by_hand.outcome(77, "share_power_off", seq=6)["bits"] == 1
    assert by_hand.outcome(77, "isolate", seq=1, until=until)["result"] == "refused"


def _unreadable() -> Iterator[bytes]:
    """No JSON, and JSON whose types or numbers no command has."""
    yield from (b"", b"\0", b"\xff\xfe" * 100, b"no JSON", b"{", b"null", b"7", b'"text"', b"[]", b"{}", b"9" * 5000)
    yield from (b"[" * 100_000, b'{"cmd":' * 100_000, bytes(1_000_000), b'{"cmd":"get"}', b"\1\1" + bytes(26))
    good = {"v": 1, "id": "bad", "cmd": "share_power_on", "issuer": "r001", "epoch": [2, 0], "seq": 8, "for_s": 60}
    for key in ("id", "cmd", "epoch", "seq"):
        yield json.dumps({k: value for k, value in good.items() if k != key}).encode()
    wrong: tuple[Any, ...] = (None, "8", True, 8.5, [], {}, [8], [8, "0"], [8, 0, 0], -1, 2**53, 10**300, float("nan"))
    for key in ("epoch", "seq", "until"):
        yield from (json.dumps(good | {key: value}).encode() for value in wrong)
    no_duration: tuple[Any, ...] = (None, "8", 8.5, [], {}, 2**53, 10**300)
    yield from (json.dumps(good | {"for_s": value}).encode() for value in no_duration)
    no_command: tuple[Any, ...] = (None, 8, [], {})
    yield from (json.dumps(good | {"cmd": value}).encode() for value in no_command)
    yield from (json.dumps(good | {"epoch": [n, 0]}).encode() for n in ("9", None, 1e300, float("inf"), 2**32, -1))


def _ignores_what_it_can_not_read(by_hand: ByHand) -> None:
    """Check that unreadable commands have no answer and no effect on later commands."""
    before = by_hand.outcome(77, "initialize")
    for payload in _unreadable():
        by_hand.send(77, "cmd", payload)
        by_hand.send(77, "ack", payload)
    by_hand.command(77, "initialize")
    after = json.loads(by_hand.next(77, "out"))
    assert after["cmd"] == "initialize"
    assert (after["held"], after["epoch"]) == (before["held"], [1, 0])
    assert after["history"]["first"] == before["history"]["first"]
    assert by_hand.outcome(77, "dance")["result"] == "refused"
    question = by_hand.outcome(77, "get", what="manager", about="r001", epoch=[0, 0])
    assert (question["result"], "acknowledged" in question) == ("refused", False)
    assert by_hand.outcome(77, "share_power_on", seq=8, for_s=60)["held"]["sharing"]["seq"] == 8
    assert by_hand.outcome(77, "share_power_off", seq=9)["result"] == "done"


def _delivers_to_a_real_gateway(site: Site, put: Put) -> None:
    """Check that its readings arrive, and that it shares with another battery below its minimum."""
    # No boundary meter runs here: a gateway that has one in its registry waits for its report.
    path = site.folder / "r001" / "registry.json"
    registry = load_registry(path)
    places = tuple(meter for meter in registry.meters if meter.function is not Function.BOUNDARY)
    save_registry(path, registry.model_copy(update={"meters": places}))
    site.start("r001 gateway")
    eventually(lambda: (site.status("r001 gateway") or {}).get("donors") == ["77"])
    eventually(
        lambda: any(
            note["meter"] == "77" and note["cmd"] == "share_power_on" and note["result"] == "done"
            for note in (site.status("r001 gateway") or {}).get("last_commands", [])
        )
    )
    eventually(lambda: sum((site.status("r001 gateway") or {})["records"].values()) >= len(put.records))
    dump = subprocess.run(
        [
            sys.executable,
            "-m",
            "commonwatt",
            "gateway",
            "dump",
            "--config",
            str(site.layout.part("r001 gateway").config),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    blocks = [json.loads(line) for line in dump.splitlines()]
    through = [
        value for b in blocks if b["meter"] == "77" and b["type"] == 3 for value in b["values"] if value is not None
    ]
    assert through == [5000] * len(through)
    assert through


def _has_deleted_what_was_acknowledged(site: Site) -> None:
    site.stop("r001 gateway")
    by_hand = ByHand(site)
    history = by_hand.outcome(77, "initialize", epoch=[9, 0])["history"]
    by_hand.close()
    store = Store.open(site.layout.part("r001 gateway").config.parent / "gateway.db", read_only=True)
    ((first, last),) = store.coverage(77, Log.HISTORY, history["generation"])
    store.close()
    assert (first, int(history["first"])) == (1, last + 1), "it keeps what the gateway does not have, and no more"
