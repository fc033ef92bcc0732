"""The broker's guard on a real process, with raw sockets; tests of the fault catalogue are named after its rows."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from broker.listener import CONNECT_TIMEOUT_S, MAX_WAITING
from harness.fuzz.broker import fuzz
from harness.network.mqtt import RawClient, connect_packet, packet, publish_packet, read_to_the_end, text
from harness.network.waiting import eventually
from harness.real.brokers import BrokerProcess

METERS = {"r001": ["1", "2", "3"], "r002": ["4"]}
BOUND_S = 4.0  # how long a message there and back may take whatever others do; it takes milliseconds


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "broker", METERS) as broker:
        yield broker
        broker.stop()


def connect_as(name: str, user: str, *, flags: int = 0xC2, password: str = "") -> bytes:
    fields = text(name) + (text(user) if flags & 0x80 else b"") + (text(password) if flags & 0x40 else b"")
    return packet(0x10, text("MQTT") + bytes([4, flags, 0, 0]) + fields)


def test_row_24_who_claims_anothers_identity_is_refused_and_the_victim_is_undisturbed(broker: BrokerProcess) -> None:
    other = broker.tokens["2"]
    forged = [
        connect_as("1", "1", password="wrong"),
        connect_as("1", "1", password=""),
        connect_as("1", "1", password=other),
        connect_as("1", "2", password=other),
        connect_as("1", "", flags=0x02),
        connect_as("r001", "r001", password=other),
        connect_as("r001", "r001", password=broker.tokens["1"]),
    ]
    ping_pong = broker.ping_pong("r001", "1")
    with ping_pong.going_on():
        for _ in range(5):
            for each in forged:
                started = time.monotonic()
                with broker.raw(each) as intruder:
                    assert read_to_the_end(intruder)[:4] == b"\x20\x02\x00\x04"
                assert time.monotonic() - started < CONNECT_TIMEOUT_S
    assert max(ping_pong.delays_s) < BOUND_S
    assert broker.metric("takeovers_total") == 0
    assert broker.metric("connections") == 2
    refused = {
        reason: broker.metric(f'refused_connects_total{{reason="{reason}"}}') for reason in ("token", "username")
    }
    assert refused == {"token": 30, "username": 5}
    lines = [line for line in broker.log().splitlines() if "refused connection" in line]
    assert sorted(line.partition("claiming ")[2].partition(" (")[0] for line in lines) == [
        "'1': token",
        "'1': username",
        "'r001': token",
    ]


def test_row_25_oversize_slow_and_garbage_connects_are_cut_within_5_s(broker: BrokerProcess) -> None:
    good = connect_packet("3", broker.tokens["3"])
    at_once = {
        "oversize": [b"\x10\xff\xff\xff\x7f" + bytes(3000), packet(0x10, bytes(5000))],
        "garbage": [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x10\x80\x80\x80\x80\x01", packet(0x10, bytes(30))],
        "will": [connect_as("3", "3", flags=0xC6, password="x")],
        "protocol": [good.replace(b"MQTT\x04", b"MQTT\x05")],
    }
    before = broker.memory_bytes()
    ping_pong = broker.ping_pong("r001", "1")
    with ping_pong.going_on(), ExitStack() as stack:
        for reason, all_data in at_once.items():
            for data in all_data:
                for _ in range(25):
                    with broker.raw(data) as connection:
                        read_to_the_end(connection)
            assert broker.metric(f'refused_connects_total{{reason="{reason}"}}') == 25 * len(all_data)
        assert broker.metric('refused_connects_total{reason="timeout"}') == 0, "each is refused at once"
        started = time.monotonic()
        slow = [stack.enter_context(broker.raw(good[:9])) for _ in range(300)]
        sent = 9
        while time.monotonic() - started < CONNECT_TIMEOUT_S - 1 and sent < len(good) - 1:
            for connection in slow:
                connection.send(good[sent : sent + 1])
            sent += 1
        for connection in slow:
            assert read_to_the_end(connection) == b""
        assert time.monotonic() - started < CONNECT_TIMEOUT_S + 3
    assert broker.metric('refused_connects_total{reason="timeout"}') == 300
    assert max(ping_pong.delays_s) < BOUND_S
    assert broker.memory_bytes() - before < 32 << 20


def test_who_opens_connections_and_says_nothing_keeps_nobody_out(broker: BrokerProcess) -> None:
    with ExitStack() as stack:
        started = time.monotonic()
        for _ in range(MAX_WAITING + 50):
            stack.enter_context(broker.raw(b""))
        for identity in ("1", "2", "3"):
            broker.connect(identity).close()
        assert time.monotonic() - started < CONNECT_TIMEOUT_S, "or they were simply timed out"
        # The first of the three displaced another connection, and was displaced by the next.
        assert broker.metric('refused_connects_total{reason="crowded"}') == 51


def test_when_files_run_out_no_more_are_accepted_until_a_connection_ends(tmp_path: Path) -> None:
    limited = 'ulimit -n 66; exec "$0" "$@"'  # 64 are kept for other things.
    with BrokerProcess(tmp_path / "broker", METERS, run_by=["sh", "-c", limited]) as broker:
        first, second = broker.connect("1"), broker.connect("2")
        with broker.raw(connect_packet("3", broker.tokens["3"])) as third:
            eventually(lambda: broker.metric("accept_pauses_total") == 1)
            first.ping()
            assert broker.metric("connections") == 2
            second.close()
            assert third.recv(4) == b"\x20\x02\x00\x00"
        log = broker.stop()
    assert "7 devices may connect and only 2 connections can be open" in log
    assert log.count("accepting no connections for now") == 1


# The grants of docs/protocol.md, in full: topics to publish on and to subscribe to, by role.
MAY_PUBLISH = {
    "1": {f"cw1/r001/1/u/{leaf}" for leaf in ("rec", "ev", "lvl", "out")},
    "r001": {f"cw1/r001/u/{leaf}" for leaf in ("batch", "stat", "out")}
    | {f"cw1/r001/{meter}/d/{leaf}" for meter in (1, 2, 11) for leaf in ("ack", "cmd")},
    "utility": {f"cw1/{gateway}/d/{leaf}" for gateway in ("r001", "r002") for leaf in ("ack", "cmd")},
}
MAY_SUBSCRIBE = {
    "1": {"cw1/r001/1/d/+", "cw1/r001/1/d/ack", "cw1/r001/1/d/cmd"},
    "r001": {f"cw1/r001/d/{leaf}" for leaf in ("+", "ack", "cmd")}
    | {f"cw1/r001/{meter}/u/{leaf}" for meter in ("+", 1, 2, 11) for leaf in ("+", "rec", "ev", "lvl", "out")},
    "utility": {"cw1/+/u/+"},
}
TOPICS = sorted(
    {
        f"{root}/{place}/{direction}/{leaf}"
        for root in ("cw1", "cw2", "CW1", "")
        for place in ("r001", "r002", "r001/1", "r001/2", "r001/11", "r001/01", "r002/1", "r002/4", "1", "r001/")
        for direction in ("u", "d")
        for leaf in ("rec", "ack", "cmd", "batch", "out", "rec/more", "")
    }
    | {f"cw1/r001/1/u/{leaf}" for leaf in ("ev", "lvl", "REC", "rec ", " rec")}
    | {"cw1", "/", "//", "cw1/r001", "/cw1/r001/1/u/rec", "cw1/r001//u/rec", "cw1//1/u/rec", "$SYS/broker/version"}
    | {"$share/g/cw1/r001/1/u/rec", "r001", "1", "cw1/r001/1", "cw1/r001/1/u", "cw1/r001/u/stat", "cw1/r001/1/u/rec\n"}
)
FILTERS = sorted(
    {
        f"{root}/{place}/{direction}/{leaf}"
        for root in ("cw1", "+")
        for place in ("r001", "r002", "+", "r001/1", "r001/2", "r001/+", "+/1", "+/+", "r001/#")
        for direction in ("u", "d", "+")
        for leaf in ("rec", "ack", "+", "#", "rec/+", "+rec")
    }
    | {"#", "+", "+/#", "/#", "cw1/#", "cw1/+/#", "cw1/r001/#", "cw1/r001/1/#", "cw1/r001/1/d/#", "+/+/+/+/+"}
    | {"$SYS/#", "$SYS/+/+", "$share/g/#", "$share/g/cw1/r001/1/d/+", "cw1/r001/1/d/cmd", "cw1/r001/11/u/out", "#/x"}
)
LISTENS = {
    **{meter: [f"cw1/r001/{meter}/d/+"] for meter in ("1", "2", "11")},
    "r001": ["cw1/r001/+/u/+", "cw1/r001/d/+"],
    "r002": ["cw1/r002/d/+"],
    "utility": ["cw1/+/u/+"],
}
FORBIDDEN = ("", "cw1/r001/1/u/\0", "cw1/r001/1/d/" + "x" * 300, "x" * 65_535, b"\xff\xfe", b"\xed\xa0\x80")
FORBIDDEN_TO_PUBLISH = (*FORBIDDEN, "#", "+", "cw1/r001/1/u/+", "cw1/r001/1/#", "cw1/+/1/u/rec")


@pytest.fixture
def matrix(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "broker", {**METERS, "r001": ["1", "2", "11"]}, "packets_per_s = 1e5") as broker:
        yield broker
        broker.stop()


@pytest.mark.parametrize("who", MAY_SUBSCRIBE)
def test_row_26_nobody_subscribes_to_what_the_protocol_does_not_grant(matrix: BrokerProcess, who: str) -> None:
    with matrix.connect(who) as client:
        granted = {topic_filter for topic_filter in FILTERS if client.subscribe(topic_filter) == 1}
    assert granted == MAY_SUBSCRIBE[who] & set(FILTERS)
    assert granted
    assert matrix.metric('refused_actions_total{action="subscribe"}') == len(FILTERS) - len(granted)
    for topic_filter in FORBIDDEN:
        with matrix.connect(who) as client:
            client.send(packet(0x82, b"\0\1" + text(topic_filter) + b"\1"))
            client.wait_until_cut()
    assert cuts(matrix) == len(FORBIDDEN)
    assert f"refused subscribe by {who} on" in matrix.log()


@pytest.mark.parametrize("who", MAY_PUBLISH)
def test_row_26_nobody_publishes_where_the_protocol_does_not_grant_it(matrix: BrokerProcess, who: str) -> None:
    with ExitStack() as stack:
        clients = {name: stack.enter_context(matrix.connect(name)) for name in LISTENS}
        for name, client in clients.items():
            assert [client.subscribe(topic_filter) for topic_filter in LISTENS[name]] == [1] * len(LISTENS[name])
        for topic in TOPICS:
            clients[who].publish(topic, topic.encode())
        # Every subscriber receives this message last, and the broker forwards a publish before its PUBACK.
        for topic in ("cw1/r001/1/d/ack", "cw1/r001/2/d/ack", "cw1/r001/11/d/ack", "cw1/r001/u/out"):
            clients["r001"].publish(topic, b"last")
        clients["utility"].publish("cw1/r001/d/ack", b"last")
        clients["utility"].publish("cw1/r002/d/ack", b"last")
        received = [(name, *each) for name, client in clients.items() for each in until_the_last(client)]
    granted = MAY_PUBLISH[who] & set(TOPICS)
    assert {topic for _, topic, _ in received} == granted
    assert all(topic.encode() == payload for _, topic, payload in received)
    assert all(f"cw1/{name}/" in topic or f"/{name}/" in topic or name == "utility" for name, topic, _ in received)
    assert matrix.metric('refused_actions_total{action="publish"}') == len(TOPICS) - len(granted)
    assert matrix.metric('refused_actions_total{action="receive"}') == 0
    for forbidden in FORBIDDEN_TO_PUBLISH:
        with matrix.connect(who) as client:
            client.send(publish_packet(forbidden, b"x", 1))
            client.wait_until_cut()
    assert cuts(matrix) == len(FORBIDDEN_TO_PUBLISH)
    assert f"refused publish by {who} on" in matrix.log()
    assert f"cutting {who}: topic" in matrix.log()


def until_the_last(client: RawClient) -> list[tuple[str, bytes]]:
    return list(iter(client.message_or_last, None))


def cuts(broker: BrokerProcess) -> float:
    reasons = ("topic", "malformed", "oversize")
    return sum(broker.metric(f'cut_connections_total{{reason="{reason}"}}') for reason in reasons)


STALLED = """
import sys
from harness.network.mqtt import RawClient
client = RawClient(int(sys.argv[1]), "r002", sys.argv[2])
assert client.subscribe("cw1/r002/d/+") == 1
print("ready", flush=True)
while client.message()[1] != b"end":
    pass
print("end", flush=True)
"""


def test_row_09_a_stalled_subscriber_delays_nobody_and_fills_no_memory(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "broker", METERS, "packets_per_s = 2000") as broker:
        command = [sys.executable, "-c", STALLED, str(broker.port), broker.tokens["r002"]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as stalled:
            assert stalled.stdout is not None
            assert stalled.stdout.readline() == "ready\n"
            ping_pong = broker.ping_pong("r001", "1")
            before = broker.memory_bytes()
            os.kill(stalled.pid, signal.SIGSTOP)
            try:
                with ping_pong.going_on(), broker.connect("utility") as utility:
                    for _ in range(800):
                        utility.publish("cw1/r002/d/ack", bytes(60_000))
                    grown = broker.memory_bytes() - before
            finally:
                os.kill(stalled.pid, signal.SIGCONT)
            assert broker.metric('dropped_messages_total{reason="full"}') > 100
            assert grown < 40 << 20, "at most 16 MiB for it, of the 46 MiB sent to it"
            assert max(ping_pong.delays_s) < BOUND_S
            with broker.connect("utility") as utility:
                eventually(partial(_ends, stalled, utility))
        broker.stop()


def _ends(stalled: subprocess.Popen[str], utility: RawClient) -> bool:
    """Return whether the last message arrived, which is dropped while the queue is full."""
    utility.publish("cw1/r002/d/ack", b"end")
    return stalled.poll() is not None


def test_4_000_broken_conversations_leave_the_broker_as_it_was(tmp_path: Path) -> None:
    """Each kind of fault comes three hundred times; ``make soak`` has half a million."""
    assert "4000 cases" in fuzz(tmp_path / "broker", 4_000, seed=3)
