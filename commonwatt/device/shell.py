"""The shell of meters: their connections to the gateway's broker, one queue of what arrives, one thread that commits.

A program feeds the cores of its meters with what ``take`` returns and with time, and hands what they return to
``perform``. Its loop waits in ``rest``.
"""

import asyncio
import logging
import random
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from commonwatt.device.delivery import Tally
from commonwatt.device.store import DeviceStore
from commonwatt.model.effects import Effect, Publish, perform
from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import MeterId, MicrogridId
from commonwatt.network.mqtt import MqttLink
from commonwatt.network.tls import ClientTls
from commonwatt.protocol import topics
from commonwatt.runtime.watchdog import Work

MAX_ARRIVED = 10_000
"""Messages that wait to be taken; more are dropped and counted, and their senders repeat them."""

CONNECT_EVERY_S = 0.005
"""Real seconds between the first connections of two meters."""

COMMIT_RETRY_S = 1.0
"""Real seconds until a commit is tried again, when the disk is full for example."""

_log = logging.getLogger(__name__)


class DeviceShell:
    """Runs the meters of one microgrid that one program has.

    Args:
        microgrid: Its id.
        store: What their cores' changes are committed to, on a thread of its own.
        tally: Counts commits that failed.

    Attributes:
        links: The connection of each meter.
        dropped: Messages that were dropped because too many waited.
        writing: The commit on its way, for a watchdog to see.
    """

    def __init__(self, microgrid: MicrogridId, store: DeviceStore, tally: Tally) -> None:
        self.links: dict[MeterId, MqttLink] = {}
        self.dropped = 0
        self.writing = Work()
        self._microgrid = microgrid
        self._store = store
        self._tally = tally
        self._arrived: deque[tuple[MeterId, str, bytes]] = deque()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._fault: BaseException | None = None
        # One thread: a store is used by one at a time, and a commit must not hold up the connections.
        self._committer = ThreadPoolExecutor(1, "commit")

    def add(self, meter: MeterId, *, broker: str, token: str, tls: ClientTls | None, rng: random.Random) -> None:
        """Add a meter; it is connected by ``running``."""

        def arrived(topic: str, payload: bytes) -> None:
            if len(self._arrived) >= MAX_ARRIVED:
                self.dropped += 1
                return
            self._arrived.append((meter, topic.rpartition("/")[2], payload))
            self._wake.set()

        self.links[meter] = MqttLink(
            address=broker,
            identity=str(meter),
            token=token,
            subscribe=topics.meter_down(self._microgrid, meter, "+"),
            on_message=arrived,
            on_connect=lambda: None,
            rng=rng,
            tls=tls,
        )

    @asynccontextmanager
    async def running(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Keep the meters connected; ``rest`` returns at once when ``stop`` is set."""
        self._stop = stop
        links = enumerate(self.links.values())
        tasks = [asyncio.create_task(stop.wait()), *(asyncio.create_task(_connect(*link)) for link in links)]
        try:
            for task in tasks:
                task.add_done_callback(self._ended)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Let the commit on its way end."""
        self._committer.shutdown()

    def take(self) -> list[tuple[MeterId, str, bytes]]:
        """Take what has arrived: (meter, last part of the topic, payload)."""
        arrived = list(self._arrived)
        self._arrived.clear()
        return arrived

    async def rest(self, wait_s: float | None) -> None:
        """Wait until something arrives, ``wait_s`` real seconds have passed, or the program is asked to stop.

        Raises:
            Exception: A connection ended by a fault of ours.
        """
        try:
            await asyncio.wait_for(self._wake.wait(), wait_s)
            self._wake.clear()
        except TimeoutError:
            pass
        if self._fault is not None:
            raise self._fault

    async def perform(self, effects: Sequence[Effect[object]]) -> None:
        """Commit the changes, then publish.

        Raises:
            StoreError: The changes can't be committed, and the program is to stop.
        """
        await perform(effects, self._commit, self._publish)

    async def _commit(self, changes: list[object]) -> None:
        """Commit on the thread. While the disk is full nothing else happens, and nothing is lost."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                with self.writing.step():
                    return await loop.run_in_executor(self._committer, self._store.commit, changes)
            except sqlite3.OperationalError as error:
                if self._stop.is_set():
                    raise StoreError(f"{self._microgrid}: can't write the store: {error}") from error
                _log.warning("%s: can't write the store, trying again: %s", self._microgrid, error)
                self._tally["commit", "failed"] += 1
                await asyncio.sleep(COMMIT_RETRY_S)

    def _publish(self, message: Publish) -> None:
        topic = topics.parse_meter_up(message.topic)
        assert topic is not None
        self.links[topic.meter].publish(message)

    def _ended(self, task: asyncio.Task[object]) -> None:
        """Wake the loop: the program stops, or a connection ended by an error of this program."""
        if not task.cancelled():
            self._fault = self._fault or task.exception()
        self._wake.set()


async def _connect(number: int, link: MqttLink) -> bool:
    """Connect after those before, so that many meters do not connect to their broker all at once."""
    await asyncio.sleep(number * CONNECT_EVERY_S)
    await link.run()
    return True
