"""The utility's connections to its head-ends: one broker, or two without a link between them (docs/architecture.md).

A gateway is connected with one of them. It gets its messages over the one on which it was last heard.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from commonwatt.model.effects import Publish
from commonwatt.model.units import ControllerId
from commonwatt.network.mqtt import Liveness, MqttLink
from commonwatt.network.tls import client_tls
from commonwatt.protocol import topics
from utility.settings import UtilitySettings

WATCH_EVERY_S = 5.0  # real seconds between two checks of the connections

LINK_SILENT_S = 45.0
"""Real seconds without a message from any gateway after which the service reconnects to a head-end broker.

A gateway without any message from the utility sends an empty batch about every 20 s: this is two of them and a margin.
"""

# Longest wait before a reconnection, real seconds; each reconnection without a message doubles the wait.
LONGEST_SILENCE_S = 3600.0


class HeadEnds:
    """The connections of the utility.

    Args:
        heard: Takes each message, with its topic.
        may_connect: Whether this utility may connect now: a connection ends that of another one.
        may_publish: Whether it may send; another one may have given newer commands.

    Raises:
        ConfigError: A file they need is missing or wrong.
    """

    def __init__(
        self,
        settings: UtilitySettings,
        token: str,
        heard: Callable[[str, bytes], object],
        may_connect: Callable[[], bool] = lambda: True,
        may_publish: Callable[[], bool] = lambda: True,
    ) -> None:
        tls = client_tls(settings.head_end_ca, settings.certificate, settings.head_end_revoked)
        self.links = {  # by address
            address: MqttLink(
                address=address,
                identity=topics.UTILITY,
                token=token,
                subscribe=topics.all_gateways_up(),
                on_message=partial(self._message, address),
                on_connect=lambda: None,
                rng=random.SystemRandom(),
                tls=tls,
                may_connect=may_connect,
            )
            for address in settings.head_end
        }
        self._heard, self._may_publish = heard, may_publish
        self._liveness = {address: Liveness(LINK_SILENT_S, LONGEST_SILENCE_S) for address in self.links}
        # The head-end over which each controller, or the plant, was last heard.
        self._last: dict[ControllerId, str] = {}

    def start(self) -> "list[asyncio.Task[object]]":
        """Start the connections and their liveness check; return their endless tasks."""
        runs = [
            asyncio.create_task(link.run(), name=f"the connection to the head-end {address}")
            for address, link in self.links.items()
        ]
        return [*runs, asyncio.create_task(self._watch(), name="the liveness check")]

    @property
    def connected(self) -> Mapping[str, bool]:
        """Whether each is connected, by address."""
        return {address: link.connected for address, link in self.links.items()}

    @property
    def complaint(self) -> str:
        """Why the last attempt failed where there is no connection, of two with the address; empty: nothing failed."""
        found = {address: link.complaint for address, link in self.links.items() if link.complaint}
        return "; ".join(why if len(self.links) == 1 else f"{address}: {why}" for address, why in found.items())

    @property
    def restarts(self) -> Counter[str]:
        """Open connections that were ended, by reason."""
        return sum((link.restarts for link in self.links.values()), Counter())

    @property
    def failures(self) -> int:
        """Exceptions of the connections and of what takes their messages."""
        return sum(link.failures for link in self.links.values())

    @property
    def retained(self) -> int:
        """Retained messages that were ignored."""
        return sum(link.retained for link in self.links.values())

    def publish(self, message: Publish) -> None:
        """Send a message to a gateway over the head-end on which it was last heard, else over all."""
        if not self._may_publish():
            return
        last = self.links.get(self._last.get(message.topic.split("/")[1], ""))
        links = [last] if last is not None and last.connected else self.links.values()
        for link in links:
            link.publish(message)

    def _message(self, address: str, topic: str, payload: bytes) -> None:
        self._last[topic.split("/")[1]] = address
        self._liveness[address].heard(asyncio.get_running_loop().time())
        self._heard(topic, payload)

    async def _watch(self) -> None:
        """Check each connection every few seconds."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            self.look(asyncio.get_running_loop().time())

    def look(self, now: float) -> None:
        """Reconnect where gateways were heard last and messages of all of them stop.

        Each gateway sends one about every 20 s, the plant once a minute. A head-end without any gateway is silent by
        right; while no gateway was heard at any, something is expected of each.
        """
        speaking = {at for name, at in self._last.items() if name != topics.PLANT} or self.links.keys()
        for address, link in self.links.items():
            liveness = self._liveness[address]
            if not link.connected or address not in speaking:
                liveness.gone()
                continue
            liveness.expected(now)
            if liveness.too_long(now):
                link.restart("silent")
                # Those that are still there are heard again; others are at the other head-end, or dead.
                self._last = {name: at for name, at in self._last.items() if at != address}
