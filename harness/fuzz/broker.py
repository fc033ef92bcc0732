"""Send broken MQTT to a real broker: ``python -m harness.fuzz.broker --cases N --seed S``.

Each case is one or more valid packets, mutated, sent before or after a valid CONNECT. The broker must answer the next
packet or close the connection; when the sender has shut down its side, the broker must close. The same seed gives the
same packets.
"""

import argparse
import asyncio
import random
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from harness.network.mqtt import (
    DISCONNECT_PACKET,
    PINGREQ_PACKET,
    PINGRESP,
    connect_packet,
    packet,
    puback_packet,
    publish_packet,
    subscribe_packet,
    text,
)
from harness.network.waiting import eventually
from harness.real.brokers import BrokerProcess

SENDERS = 40  # concurrent connections, each of another device
PATIENCE_S = 20.0  # longest time until the broker answers or closes, seconds; longer is a hang
MAX_GROWTH_BYTES = 8 << 20  # largest growth of the broker's memory during the second half of the cases

METERS = [str(n) for n in range(1, SENDERS + 1)]
GATEWAY, GOOD_METER = "r001", "999"

Bend = Callable[[random.Random, bytes], bytes]


def valid_packet(rng: random.Random, identity: str, token: str) -> bytes:
    """Return a packet that a client may send."""
    own = f"cw1/{GATEWAY}/{identity}"
    not_own = rng.choice(["$SYS/x", "cw1/r001/2/u/rec", "a" * 200, "/", "\u00e9/\U0001f600"])
    topic_filter = rng.choice([f"{own}/d/+", "#", "+/+", "$share/g/#", "/" * 200])
    return rng.choice(
        [
            publish_packet(f"{own}/u/rec", rng.randbytes(rng.randrange(200)), rng.randrange(1, 65536)),
            publish_packet(f"{own}/u/lvl", rng.randbytes(20)),
            publish_packet(f"{own}/u/rec", bytes(rng.randrange(60_000)), 7),
            publish_packet(not_own, b"x"),
            subscribe_packet(topic_filter, rng.randrange(3)),
            packet(0xA2, b"\0\5" + text(f"{own}/d/+") + text("other")),
            puback_packet(rng.randrange(1, 65536)),
            PINGREQ_PACKET,
            DISCONNECT_PACKET,
            connect_packet(identity, token),
        ]
    )


def _flip(rng: random.Random, data: bytes) -> bytes:
    bent = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        bent[rng.randrange(len(bent))] ^= 1 << rng.randrange(8)
    return bytes(bent)


def _kind(rng: random.Random, data: bytes) -> bytes:
    return bytes([rng.randrange(256)]) + data[1:]


def _length(rng: random.Random, data: bytes) -> bytes:
    lengths = (
        b"\x00",
        b"\x01",
        b"\xff\x7f",
        b"\xff\xff\xff\x7f",
        b"\xff\xff\xff\xff\x01",
        b"\x80\x80\x80\x80",
        b"\x80\x00",
    )
    return data[:1] + rng.choice(lengths) + data[2:]


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(1, len(data) + 1)]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randrange(1, 30)) + data[at:]


def _string(rng: random.Random, _: bytes) -> bytes:
    name = rng.choice(
        [b"", b"\0", b"a\0b", b"\xff", b"\xed\xa0\x80", b"+", b"#", b"a/#", b"x" * 65535, b"/" * 300, "\ufeff".encode()]
    )
    first, rest = rng.choice([(0x30, b""), (0x32, b"\0\1"), (0x82, b"\1"), (0xA2, b"")])
    return packet(first, (b"\0\1" if first > 0x80 else b"") + text(name) + rest)


def _inner_length(rng: random.Random, _: bytes) -> bytes:
    body = struct.pack("!H", rng.choice([0, 1, 200, 65535])) + rng.randbytes(rng.randrange(12))
    return packet(rng.choice([0x30, 0x32, 0x82, 0xA2]), rng.choice([b"", b"\0\1"]) + body)


def _no_id(rng: random.Random, _: bytes) -> bytes:
    return rng.choice([publish_packet("cw1", b"", 0), puback_packet(0), subscribe_packet("a", 1, 0), b"\x40\x00"])


def _noise(rng: random.Random, _: bytes) -> bytes:
    return rng.randbytes(rng.randrange(1, 200))


def _many(rng: random.Random, data: bytes) -> bytes:
    return data[:2000] * rng.randrange(2, 20)


def _none(_: random.Random, data: bytes) -> bytes:
    return data


BENDS: tuple[Bend, ...] = (
    _flip,
    _flip,
    _kind,
    _length,
    _truncate,
    _insert,
    _string,
    _inner_length,
    _no_id,
    _noise,
    _many,
    _none,
)


class Fuzzer:
    """Sends cases until none are left."""

    def __init__(self, port: int, tokens: dict[str, str], seed: int) -> None:
        # Cases by outcome: answered, closed, or closed after the sender had shut down its side.
        self.outcomes: Counter[str] = Counter()
        self._port, self._tokens, self._seed = port, tokens, seed

    async def send(self, half: int, cases: int) -> None:
        """Send cases over ``SENDERS`` concurrent connections."""
        async with asyncio.TaskGroup() as group:
            for number, identity in enumerate(METERS):
                share = cases // SENDERS + (number < cases % SENDERS)
                group.create_task(self._sender(identity, share, random.Random(f"{self._seed} {half} {number}")))

    async def _sender(self, identity: str, cases: int, rng: random.Random) -> None:
        token = self._tokens[identity]
        while cases > 0:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                if rng.random() < 0.2:
                    cases -= 1
                    # In place of a CONNECT.
                    valid = rng.choice([connect_packet(identity, token), valid_packet(rng, identity, token)])
                    await self._case(reader, writer, rng.choice(BENDS)(rng, valid))
                    continue
                writer.write(connect_packet(identity, token))
                while cases > 0:
                    cases -= 1
                    bent = rng.choice(BENDS)(rng, valid_packet(rng, identity, token))
                    if not await self._case(reader, writer, bent):
                        break
            finally:
                writer.close()

    async def _case(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bool:
        """Send one case and then a ping; return whether the connection is still open."""
        outcome = "closed"
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(data + PINGREQ_PACKET)
                if ends_within_a_packet(data):
                    # The broker waits for announced bytes that never come.
                    outcome = "ended"
                    writer.write_eof()
                    await reader.read(-1)
                elif await _ping_answered(reader):
                    outcome = "answered"
        except TimeoutError as error:
            raise AssertionError(f"the broker hangs on {data[:200].hex()} ({outcome})") from error
        except OSError:
            outcome = "closed"  # A reset before all bytes were sent.
        self.outcomes[outcome] += 1
        return outcome == "answered"


def ends_within_a_packet(data: bytes) -> bool:
    """Return whether the last packet is incomplete, and announces no more bytes than the broker waits for."""
    at = 0
    while at < len(data):
        length = 0
        for index in range(4):
            if at + 1 + index >= len(data):
                return True
            byte = data[at + 1 + index]
            length |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                break
        else:
            return False  # No length at all.
        at += 2 + index + length
    return at > len(data)


async def _ping_answered(reader: asyncio.StreamReader) -> bool:
    """Read packets until a ping's answer, or the end."""
    try:
        while True:
            first, length = await reader.readexactly(2)  # All answers are short.
            await reader.readexactly(length)
            if first == PINGRESP:
                return True
    except asyncio.IncompleteReadError:
        return False


def fuzz(folder: Path, cases: int, seed: int) -> str:
    """Send ``cases`` to a broker, in two halves; return the results as text."""
    meters = {GATEWAY: [*METERS, GOOD_METER]}
    # No throttling here: it would only slow the cases down.
    with BrokerProcess(folder, meters, "packets_per_s = 1e6") as broker:
        ping_pong = broker.ping_pong(GATEWAY, GOOD_METER)
        files = broker.files()
        fuzzer = Fuzzer(broker.port, broker.tokens, seed)
        with ping_pong.going_on():
            asyncio.run(fuzzer.send(1, cases // 2))
            half = broker.memory_bytes()
            asyncio.run(fuzzer.send(2, cases - cases // 2))
        grown = broker.memory_bytes() - half
        eventually(lambda: broker.files() <= files)
        eventually(lambda: broker.metric("connections") == 2)
        assert broker.metric("connection_errors_total") == 0
        longest_s = max(ping_pong.delays_s)
        seen = (
            f"{cases} cases, seed {seed}: {dict(fuzzer.outcomes)}; memory {half >> 20} MiB after half, then "
            f"{grown / (1 << 20):+.1f} MiB; {len(ping_pong.delays_s)} messages there and back meanwhile, the slowest "
            f"{longest_s:.2f} s"
        )
        assert grown < MAX_GROWTH_BYTES, seen
        assert longest_s < 5, seen
        broker.stop()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="which")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(fuzz(Path(folder), arguments.cases, arguments.seed))


if __name__ == "__main__":
    main()
