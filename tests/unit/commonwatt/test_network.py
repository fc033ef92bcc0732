"""What a connection or an interface has cost, and addresses."""

import gc
import socket
import threading
from pathlib import Path

import pytest

from commonwatt.model.units import ByteCount
from commonwatt.network import lte
from commonwatt.network.addresses import split_address
from commonwatt.network.lte import AcceptedSocket, ByteTally, byte_count_of, interface_byte_count


def test_an_interfaces_counters_are_those_the_kernel_shows_everybody() -> None:
    def shown() -> ByteCount:
        line = next(x for x in Path("/proc/net/dev").read_text().splitlines() if x.strip().startswith("lo:"))
        fields = line.partition(":")[2].split()
        return ByteCount(sent=int(fields[8]), received=int(fields[0]))

    before, found, after = shown(), interface_byte_count("lo"), shown()
    assert found is not None
    run, byte_count = found
    assert before.sent <= byte_count.sent <= after.sent
    assert before.received <= byte_count.received <= after.received
    assert interface_byte_count("lo") is not None
    assert (interface_byte_count("lo") or ("",))[0] == run
    assert interface_byte_count("wwan-none") is None


def test_a_connection_left_out_costs_nothing_ever() -> None:
    tally = ByteTally()
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as there,
    ):
        accepted = AcceptedSocket.take(listening.accept()[0], tally)
        there.sendall(b"hello")
        assert tally.total().received > 0
        tally.leave_out(accepted.fileno())
        assert tally.total() == ByteCount()
        accepted.close()
        assert tally.total() == ByteCount()
        assert byte_count_of(accepted, accepted=True) is None, "it is closed"


def test_where_the_kernel_does_not_tell_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lte, "_TCP_INFO", None)
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as there,
    ):
        assert byte_count_of(there, accepted=False) is None


def test_a_connection_that_the_garbage_collector_closes_in_mid_sum_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Transport:
        """As asyncio's: closes its connection when it is collected, and is part of a cycle."""

        def __init__(self, sock: socket.socket) -> None:
            self.sock, self.itself = sock, self

        def __del__(self) -> None:
            self.sock.close()

    def collect_and_look(sock: socket.socket, *, accepted: bool, closing: bool = False) -> ByteCount | None:
        gc.collect()
        return byte_count_of(sock, accepted=accepted, closing=closing)

    tally = ByteTally()
    sums: list[ByteCount] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = [socket.create_connection(listening.getsockname()) for _ in range(3)]
        accepted = [AcceptedSocket.take(listening.accept()[0], tally) for _ in there]
    for number in range(3):
        there[number].sendall(b"hello")
    before = tally.total()
    gc.disable()
    Transport(accepted[1])
    Transport(accepted[2])
    monkeypatch.setattr(lte, "byte_count_of", collect_and_look)
    # On a thread that a test may end without: one that waits for itself waits for ever.
    summing = threading.Thread(target=lambda: sums.append(tally.total()), daemon=True)
    summing.start()
    summing.join(timeout=300)
    gc.enable()
    assert [sock.fileno() < 0 for sock in accepted] == [False, True, True], "they were closed in mid-sum"
    assert sums, "the sum waits for itself"
    after = tally.total()
    for sock in (*there, *accepted):
        sock.close()
    assert sums[0].received <= after.received
    assert before.received < after.received < 2 * before.received, "with what closing costs, once"


def test_address_is_split_at_its_last_colon() -> None:
    assert split_address("127.0.0.1:1883") == ("127.0.0.1", 1883)
    assert split_address("[::1]:9101") == ("::1", 9101)
