"""Fixed load of an apartment microgrid on a real broker and gateway, while one client floods the broker.

``python -m harness.network.flood PORT IDENTITY TOKEN TOPIC QOS SECONDS`` runs that client.
"""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from commonwatt.model.records import Log
from commonwatt.protocol.meter_messages import Put, unpack_put_ack
from commonwatt.town.town import Function
from harness.network.mqtt_asyncio import AsyncClient
from harness.network.mqtt_raw import connect_packet, publish_packet
from harness.real.broker_process import resident_bytes
from harness.real.site import Site
from harness.worlds.records import a_record

APARTMENTS = '[[microgrid]]\nid = "r001"\nkind = "apartment"\nbuildings = 3\napartments = 100\n'
METERS = 303  # number of the buildings' and apartments' meters; one of the two boundary meters is the flooding client

PUT_EVERY_S = 60.0
RECORDS_IN_A_PUT = 4
SLOT_S = 15

FLOOD_PER_S = 5_000  # messages per second that the flooding client sends

FLOOD_PAYLOAD = bytes(200)
GRACE_S = 2.0  # seconds after a window in which acknowledgements of its puts may still arrive


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The result of the load in one window."""

    offered: int  # puts sent
    acknowledged: int  # puts that the gateway acknowledged
    latencies_s: tuple[float, ...]  # seconds from put to acknowledgement, in ascending order

    def latency_s(self, percent: int) -> float:
        """Return the latency that ``percent`` of the acknowledged puts did not exceed; infinite if there are none."""
        if not self.latencies_s:
            return float("inf")
        return self.latencies_s[min(len(self.latencies_s) - 1, len(self.latencies_s) * percent // 100)]


class _Meter:
    """One meter's connection: sends puts, and measures the times until their acknowledgements."""

    def __init__(self, identity: str, account: int) -> None:
        self.identity, self.account = identity, account
        self.waiting: dict[int, float] = {}
        self.latencies_s: list[float] = []
        self._next_id = 1
        self._acknowledged = asyncio.Event()

    async def connect(self, port: int, token: str) -> None:
        self._client = await AsyncClient.connect(
            port, self.identity, token, f"cw1/r001/{self.identity}/d/+", self._heard
        )

    def put(self) -> None:
        """Send the records of the last minute."""
        end = int(time.time()) // SLOT_S * SLOT_S
        first = self._next_id
        self._next_id += RECORDS_IN_A_PUT
        records = tuple(
            a_record(
                end - SLOT_S * (RECORDS_IN_A_PUT - n),
                2500,
                meter=int(self.identity),
                record_id=first + n,
                account=self.account,
            ).pack()
            for n in range(RECORDS_IN_A_PUT)
        )
        put = Put(log=Log.HISTORY, generation=1, first_id=first, last_id=self._next_id - 1, records=records)
        self.waiting[first] = time.monotonic()
        self._client.publish(f"cw1/r001/{self.identity}/u/rec", put.pack())

    async def is_through(self, ends: float) -> None:
        """Wait until every put is acknowledged, or second ``ends`` of the monotonic clock."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, ends - time.monotonic())):
                while self.waiting:
                    await self._acknowledged.wait()
                    self._acknowledged.clear()

    def close(self) -> None:
        self._client.close()

    def _heard(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/ack"):
            acknowledgement = unpack_put_ack(payload)
            sent = self.waiting.pop(acknowledgement.first_id, None)
            if sent is not None and sum(count for _, count in acknowledgement.accepted) == RECORDS_IN_A_PUT:
                self.latencies_s.append(time.monotonic() - sent)
            self._acknowledged.set()


class Apartments:
    """A site with its broker and gateway running, and its meters connected one by one.

    Attributes:
        site: The site.
        port: The broker's port.
        tokens: The meters' tokens, by identity.
        flooder: A registered meter without load.
    """

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder, APARTMENTS, speed=1)
        self.site.add_setting("r001 gateway", "commit_s = 0")  # Else puts wait for others, flood or not.
        # A process of its own: a forked one's memory counts what all parts load.
        self.site.environments["r001 broker"] = {}
        self.site.start("r001 broker", "r001 gateway")
        _, self.port = self.site.address("r001 broker")
        self.tokens: dict[str, str] = json.loads((folder / "r001" / "meter-tokens.json").read_text())
        inside = [m for m in self.site.layout.town.meters if m.function in (Function.APARTMENT, Function.BUILDING)]
        assert len(inside) == METERS
        self.flooder = min(set(self.tokens) - {str(meter.id) for meter in inside})
        self._meters = [_Meter(str(meter.id), meter.account) for meter in inside]
        self._next = 0

    async def connect(self) -> None:
        """Connect all meters, and wait until the gateway is there to hear them."""
        for meter in self._meters:
            await meter.connect(self.port, self.tokens[meter.identity])

    def close(self) -> None:
        for meter in self._meters:
            meter.close()

    async def load(self, seconds: float, *, until_through_s: float = GRACE_S) -> Delivery:
        """Send puts for ``seconds`` at the apartments' rate, each meter once a minute, one after the other.

        Then wait for their acknowledgements, ``until_through_s`` at most.
        """
        for meter in self._meters:
            meter.waiting.clear()
            meter.latencies_s.clear()
        offered = round(seconds * METERS / PUT_EVERY_S)
        started = time.monotonic()
        for n in range(offered):
            await asyncio.sleep(max(0.0, started + n * PUT_EVERY_S / METERS - time.monotonic()))
            self._meters[self._next % METERS].put()
            self._next += 1
        ends = time.monotonic() + until_through_s
        for meter in self._meters:
            await meter.is_through(ends)
        latencies_s = sorted(each for meter in self._meters for each in meter.latencies_s)
        return Delivery(offered=offered, acknowledged=len(latencies_s), latencies_s=tuple(latencies_s))

    def memory_bytes(self) -> int:
        """Return the resident memory of the broker."""
        return resident_bytes(self.site.processes["r001 broker"].pid)

    @contextmanager
    def flooded(self, topic: str, qos: int, seconds: float) -> Iterator[None]:
        """Run a client that sends ``FLOOD_PER_S`` messages a second on ``topic`` during the block."""
        arguments = [str(self.port), self.flooder, self.tokens[self.flooder], topic, str(qos), str(seconds)]
        process = subprocess.Popen([sys.executable, "-m", "harness.network.flood", *arguments])
        try:
            yield
            assert process.poll() is None, "it flooded to the end"
        finally:
            process.kill()
            process.wait()


def _flood(port: int, identity: str, token: str, topic: str, qos: int, seconds: float) -> None:
    """Send messages for ``seconds``; TCP's flow control delays those that the broker does not read."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(connect_packet(identity, token))
        threading.Thread(target=_discard, args=(client,), daemon=True).start()
        message = publish_packet(topic, FLOOD_PAYLOAD, 1 if qos else None)
        started = time.monotonic()
        sent = 0
        while (elapsed := time.monotonic() - started) < seconds:
            due = int(elapsed * FLOOD_PER_S) - sent
            if due > 0:
                client.sendall(message * min(due, 100))
                sent += min(due, 100)
            else:
                threading.Event().wait(0.002)


def _discard(client: socket.socket) -> None:
    while client.recv(1 << 16):
        pass


if __name__ == "__main__":
    port, identity, token, topic, qos, seconds = sys.argv[1:]
    _flood(int(port), identity, token, topic, int(qos), float(seconds))
