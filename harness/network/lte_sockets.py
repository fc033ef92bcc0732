"""Makes connections of every kind on a separate loopback; prints the counts of both ends and of the packets as JSON."""

import ctypes
import json
import socket
import struct
import time
from itertools import product

from commonwatt.network.lte import AcceptedSocket, ByteTally
from harness.network.loopback import Scales, bring_up
from harness.network.waiting import eventually

EXCHANGES = 50
KINDS = ("closed here", "closed there", "reset", "repeated")

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27


def main() -> None:
    """Make and close the connections."""
    bring_up()
    scales = Scales()
    print(json.dumps([connection(scales, *kind) for kind in product(("127.0.0.1", "::1"), KINDS)]))


def connection(scales: Scales, host: str, kind: str) -> dict[str, object]:
    """Exchange data over one connection; return its bytes by both tallies, and by its packets."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    here, there = ByteTally(), ByteTally()
    with socket.create_server((host, 0), family=family) as listening:
        port = listening.getsockname()[1]
        client = socket.create_connection((host, port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there.opened(client)
        accepted, _ = listening.accept()
    server = AcceptedSocket.take(accepted, here)
    server.setblocking(True)
    for number in range(1, EXCHANGES):
        client.sendall(bytes(number))
        server.recv(EXCHANGES)
        server.sendall(bytes(2 * EXCHANGES - number))
        client.recv(2 * EXCHANGES)
    if kind == "repeated":
        _repeat(scales, client, server)
    if kind == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first, last = (server, client) if kind == "closed here" else (client, server)
    for sock in (first, last):
        if sock is client:
            there.closing(client)
        sock.close()
    eventually(lambda: _settled(scales, port))
    weighed = scales.byte_count(port)
    return {
        "kind": f"{host}, {kind}",
        "weighed": [weighed.sent, weighed.received],
        "here": [here.total().sent, here.total().received],
        "there": [there.total().received, there.total().sent],
    }


def _repeat(scales: Scales, client: socket.socket, server: socket.socket) -> None:
    """Make the client retransmit a message of average size: for a while no acknowledgement reaches it."""
    ways = client.getsockname()[1], server.getsockname()[1]
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    client.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(nothing)))
    client.sendall(bytes(EXCHANGES // 2))
    server.recv(EXCHANGES)
    eventually(lambda: scales.repeated[ways] >= EXCHANGES)
    client.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    client.sendall(bytes(EXCHANGES // 2))
    server.recv(EXCHANGES)


def _settled(scales: Scales, port: int) -> bool:
    """Return whether no packet is in transit any more."""
    before = scales.byte_count(port)
    time.sleep(0.1)
    return scales.byte_count(port) == before


if __name__ == "__main__":
    main()
