"""Links of tests to brokers."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from commonwatt.network.mqtt import MqttLink


def link_of(
    address: str | Sequence[str],
    identity: str = "r001",
    token: str = "",
    subscribe: str = "own/+",
    on_message: Callable[[str, bytes], None] = lambda *_: None,
    on_connect: Callable[[], None] = lambda: None,
    **further: Any,
) -> MqttLink:
    """Make a link whose waits are the same in each run."""
    return MqttLink(
        address=address,
        identity=identity,
        token=token,
        subscribe=subscribe,
        on_message=on_message,
        on_connect=on_connect,
        rng=random.Random(1),
        **further,
    )
