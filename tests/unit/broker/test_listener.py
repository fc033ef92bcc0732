"""The door: how long a connection has, and which clients are refused."""

import asyncio
import logging
import socket
from contextlib import ExitStack
from typing import Any, cast
from unittest.mock import Mock

import pytest

from broker.admission.guard import Guard
from broker.admission.listener import Listener
from broker.admission.pending_connections import PendingConnections
from broker.metrics import BrokerMetrics
from harness.network.waiting import become, cancelled

TIMEOUT_S = 30.0


class SlowTls:
    """Handshakes that are done when the test says so."""

    def __init__(self) -> None:
        self.begun: list[float] = []  # when each began, in the loop's time
        self.done = asyncio.Event()

    async def shake_hands(self, _protocol: object, accepted: socket.socket, _timeout_s: float) -> asyncio.Transport:
        self.begun.append(asyncio.get_running_loop().time())
        await self.done.wait()
        accepted.close()
        return Mock(spec=asyncio.Transport)


async def opened(listener: Listener) -> int:
    listener.capacity = 1000
    return await listener.open("127.0.0.1", 0)


def test_the_handshake_takes_from_the_time_for_the_connect() -> None:
    async def scene() -> None:
        metrics, tls, served = BrokerMetrics(), SlowTls(), list[float]()

        async def serve(_reader: object, _writer: object, ends: float) -> None:
            served.append(ends)

        listener = Listener(serve, Guard(dict, metrics, TIMEOUT_S), metrics, cast("Any", tls))
        with socket.create_connection(("127.0.0.1", await opened(listener))):
            await become(lambda: tls.begun)
            tls.done.set()
            await become(lambda: served)
        await listener.close()
        assert served[0] <= tls.begun[0] + TIMEOUT_S

    asyncio.run(scene())


def test_who_is_turned_away_from_a_crowd_is_named_and_not_who_came(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "broker.admission.guard")

    async def scene() -> None:
        metrics = BrokerMetrics()

        async def serve(_reader: object, writer: asyncio.StreamWriter, _ends: float) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                writer.close()

        listener = Listener(serve, Guard(dict, metrics, TIMEOUT_S), metrics)
        listener._pending_connections = PendingConnections(2)
        port = await opened(listener)
        idle = ("127.0.0.2", "127.0.0.2")
        with ExitStack() as stack:
            for address in idle:
                stack.enter_context(socket.create_connection(("127.0.0.1", port), source_address=(address, 0)))
            await become(lambda: len(listener._pending_connections) == len(idle))
            stack.enter_context(socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.3", 0)))
            await become(lambda: caplog.records)
        await listener.close()
        await cancelled(*listener.tasks)

    asyncio.run(scene())
    (record,) = caplog.records
    assert record.getMessage().startswith("refused connection from 127.0.0.2: crowded")


def test_a_door_that_accepts_no_more_is_told_to_the_watchdog_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        metrics = BrokerMetrics()
        listener = Listener(Mock(), Guard(dict, metrics), metrics)
        port = await opened(listener)
        assert listener.accepting() is None
        monkeypatch.setattr(listener, "_enter", Mock(side_effect=lambda accepted: accepted.close() or 1 / 0))
        with socket.create_connection(("127.0.0.1", port)):
            await become(listener.accepting)
        assert listener.accepting() == "one has ended"
        await listener.close()
        assert listener.accepting() is None

    asyncio.run(scene())
    assert "no more connections are accepted" in caplog.text
    assert "ZeroDivisionError" in caplog.text
