"""Messages of the foreign meters' broker as they arrive, for a person: nothing is kept at the broker."""

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator

from adapters.arrived import Arrived
from adapters.source import Source
from commonwatt.config.adapter import AdapterSettings
from commonwatt.model.exceptions import CommonwattError
from commonwatt.runtime.clock import load_clock

FIRST_S = 15.0  # seconds within which the broker must accept the connection


def listen(settings: AdapterSettings, filters: Iterable[str]) -> Iterator[Arrived]:
    """Yield the messages of these topics, retained ones too, until Ctrl-C or SIGTERM.

    Raises:
        CommonwattError: There is no connection.
    """
    arrived, stopped = threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        arrived.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    source = Source(
        settings=settings.source,
        # A name of its own: the name of a running adapter would end its connection.
        client_id=f"commonwatt-listen-{os.getpid()}",
        filters=filters,
        now=load_clock(settings.clock).now,
        wake=arrived.set,
        keeps=False,
        retained=True,
    )
    source.start()
    try:
        arrived.wait(FIRST_S)
        if not source.connected:
            raise CommonwattError(f"source {settings.source.address}: {source.complaint}")
        print(f"listening; the broker's limits: {source.limits}", file=sys.stderr)
        while not stopped.is_set():
            arrived.clear()
            taken = source.take(1000)
            source.acknowledge(taken)
            yield from taken
            if not taken:
                arrived.wait(1.0)
    finally:
        source.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
