"""The emulated plant's connection to the head-end; its host's loop takes the messages and performs the core's effects.

A host starts ``run`` as a task, passes each payload from ``take`` to ``PlantCore.receive``, and publishes by
``publish`` after its commit.
"""

import random
from collections import deque
from collections.abc import Callable

from commonwatt.model.effects import Publish
from commonwatt.network.mqtt import MqttLink
from commonwatt.network.tls import ClientTls
from commonwatt.protocol.topics import PLANT, gateway_down

MAX_ARRIVED = 100  # most waiting commands; the utility sends a dropped one again


class PlantLink:
    """The connection.

    Args:
        head_end: Address of the head-end broker.
        token: The plant's token (``plant-tokens.json``).
        rng: For the waits between attempts to connect.
        wake: Called on the loop's thread when a command has arrived.
        tls: The authority and the plant's certificate; ``None``: plain text.
    """

    def __init__(
        self,
        *,
        head_end: str,
        token: str,
        rng: random.Random,
        wake: Callable[[], None],
        tls: ClientTls | None = None,
    ) -> None:
        self.dropped = 0  # commands dropped because too many waited
        self._arrived: deque[bytes] = deque()
        self._wake = wake
        # The link, with its state and counts.
        self.link = MqttLink(
            address=head_end,
            identity=PLANT,
            token=token,
            subscribe=gateway_down(PLANT, "+"),
            on_message=self._heard,
            on_connect=lambda: None,
            rng=rng,
            tls=tls,
        )

    async def run(self) -> None:
        """Keep the plant connected until cancelled."""
        await self.link.run()

    def take(self) -> list[bytes]:
        """Return the waiting commands."""
        arrived = list(self._arrived)
        self._arrived.clear()
        return arrived

    def publish(self, message: Publish) -> None:
        """Send a message; without a connection it is dropped: reports follow, and commands are sent again."""
        self.link.publish(message)

    def _heard(self, topic: str, payload: bytes) -> None:
        del topic
        if len(self._arrived) >= MAX_ARRIVED:
            self.dropped += 1
            return
        self._arrived.append(payload)
        self._wake()
