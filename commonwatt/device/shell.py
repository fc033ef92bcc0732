"""The shell of meters: connections to the gateway's broker, one queue of messages, one thread for commits.

A program passes the messages from ``take`` and the time to its meters' cores, and their effects to
``perform``. The program's loop waits in ``rest``.
"""

import asyncio
import logging
import random
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple

from commonwatt.device.records import Tally
from commonwatt.device.sessions import CONNECTED, LOST, BrokerArrival
from commonwatt.device.store import DeviceStore
from commonwatt.model.effects import Effect, Publish, perform
from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import MeterId, MicrogridId
from commonwatt.network.mqtt import MqttLink
from commonwatt.network.tls import ClientTls
from commonwatt.protocol import topics
from commonwatt.runtime.watchdog import WorkProgress

MAX_ARRIVED = 10_000  # most messages in the queue; more are dropped and counted, and their senders send them again
CONNECT_EVERY_S = 0.005  # real seconds between the first connections of two meters
# Keepalive of the sessions for data, real seconds: above the minute between two puts, whose acknowledgements come some
# seconds sooner or later, so that no ping is needed besides.
KEEPALIVE_S = 75
WARM_KEEPALIVE_S = 900  # keepalive of silent sessions, real seconds: each ping costs bytes of a controller's line
COMMIT_RETRY_S = 1.0  # real seconds until a failed commit is tried again, for example on a full disk

_log = logging.getLogger(__name__)


class OtherBroker(NamedTuple):
    """A broker beside home."""

    address: str  # host and port
    token: str  # the meter's token there
    warm: bool = False  # whether its sessions are silent for long


class DeviceShell:
    """Runs one program's meters in one microgrid.

    Args:
        store: The store for the cores' changes; commits run on a separate thread.
        tally: Counts commits that failed.
        elsewhere: Publishes messages to other topics than meters'; ``None``: there are none.
    """

    def __init__(
        self,
        microgrid: MicrogridId,
        store: DeviceStore,
        tally: Tally,
        elsewhere: Callable[[Publish], None] | None = None,
    ) -> None:
        self.links: dict[MeterId, dict[str, MqttLink]] = {}  # the connections of each meter, by broker; home first
        self.dropped = 0  # messages dropped because the queue was full, or by that fault
        # Whether the next message, of either way, is lost, by a fault of an emulated network.
        self.loses: Callable[[], bool] = lambda: False
        self.writing = WorkProgress()  # the running commit, for the watchdog
        self._microgrid = microgrid
        self._store = store
        self._tally = tally
        self._elsewhere = elsewhere
        self._arrived: deque[BrokerArrival] = deque()
        self._open: dict[MeterId, Collection[str]] = {}
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._fault: BaseException | None = None
        # One thread: a store is for one thread at a time, and a commit must not block the connections.
        self._committer = ThreadPoolExecutor(1, "commit")

    def add(
        self,
        meter: MeterId,
        *,
        broker: str,
        token: str,
        tls: ClientTls | None,
        rng: random.Random,
        others: Mapping[str, OtherBroker] | None = None,
        far: bool = False,
    ) -> None:
        """Add a meter; it is connected by ``running``, with home alone until ``hold`` says otherwise.

        Args:
            broker: The address of its home broker, which has its microgrid's name.
            token: Its token there.
            tls: Its TLS; ``None``: plain text.
            rng: Spreads reconnections.
            others: Its other installed brokers, by name.
            far: Whether its data may go to a broker of others for good: the session at home is silent then.
        """
        brokers = {self._microgrid: OtherBroker(broker, token, far), **(others or {})}
        self.links[meter] = {
            name: MqttLink(
                address=one.address,
                identity=str(meter),
                token=one.token,
                subscribe=topics.meter_down(self._microgrid, meter, "+"),
                on_message=partial(self._message, meter, name),
                on_connect=partial(self._put, BrokerArrival(meter, name, CONNECTED)) if others else lambda: None,
                on_lost=partial(self._put, BrokerArrival(meter, name, LOST)) if others else lambda: None,
                keepalive_s=WARM_KEEPALIVE_S if one.warm else KEEPALIVE_S,
                rng=rng,
                tls=tls,
            )
            for name, one in brokers.items()
        }
        for name in others or ():
            self.links[meter][name].pause()
        self._open[meter] = {self._microgrid}

    def hold(self, meter: MeterId, brokers: Collection[str]) -> None:
        """Connect a meter with these of its brokers, and end its sessions with all others."""
        if brokers == self._open[meter]:
            return
        for name, link in self.links[meter].items():
            if (name in brokers) != (name in self._open[meter]):
                link.resume() if name in brokers else link.pause()
        self._open[meter] = brokers

    def _message(self, meter: MeterId, via: str, topic: str, payload: bytes) -> None:
        self._put(BrokerArrival(meter, via, topic.rpartition("/")[2], payload))

    def _put(self, arrived: BrokerArrival) -> None:
        if arrived.leaf not in (CONNECTED, LOST) and (len(self._arrived) >= MAX_ARRIVED or self.loses()):
            self.dropped += 1
            return
        self._arrived.append(arrived)
        self._wake.set()

    @asynccontextmanager
    async def running(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Keep the meters connected; the end waits for the running commit, ``rest`` ends when ``stop`` is set."""
        self._stop = stop
        links = enumerate(link for links in self.links.values() for link in links.values())
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(stop.wait()),
            *(asyncio.create_task(_connect(*link)) for link in links),
        ]
        try:
            for task in tasks:
                task.add_done_callback(self._ended)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._committer.shutdown()

    def take(self) -> list[BrokerArrival]:
        """Return the queued messages; with several brokers also begins and ends of sessions."""
        arrived = list(self._arrived)
        self._arrived.clear()
        return arrived

    def wake(self) -> None:
        """End the present ``rest``; on the loop's thread."""
        self._wake.set()

    async def rest(self, wait_s: float | None) -> None:
        """Wait until something arrives, ``wait_s`` real seconds have passed, or the program is asked to stop.

        Raises:
            Exception: A programming error ended a connection.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), wait_s)
            self._wake.clear()
        if self._fault is not None:
            raise self._fault

    async def perform(self, effects: Sequence[Effect[object]]) -> None:
        """Commit the changes, then publish.

        Raises:
            StoreError: The changes can't be committed: the program must stop, or the store is damaged.
        """
        await perform(effects, self._commit, self._publish)

    async def _commit(self, changes: list[object]) -> None:
        """Commit on the thread; wait and retry while the disk is full, so that no change is lost."""
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
            except sqlite3.DatabaseError as error:
                raise StoreError(f"{self._microgrid}: the store is damaged: {error}") from error

    def _publish(self, message: Publish) -> None:
        topic = topics.parse_meter_up(message.topic)
        if topic is not None and self.loses():
            self.dropped += 1
        elif topic is not None:
            self.links[topic.meter][message.via or self._microgrid].publish(message)
        else:
            assert self._elsewhere is not None
            self._elsewhere(message)

    def _ended(self, task: asyncio.Task[object]) -> None:
        """Wake the loop: the program stops, or a programming error ended a connection."""
        if not task.cancelled():
            self._fault = self._fault or task.exception()
        self._wake.set()


async def _connect(number: int, link: MqttLink) -> bool:
    """Connect after a delay, so that many meters do not connect to their broker at the same time."""
    await asyncio.sleep(number * CONNECT_EVERY_S)
    await link.run()
    return True
