"""Connections of which a fleet has thousands: they are looked at when a ping is due, and not before."""

import random
import time
from typing import Any

import pytest

from commonwatt.network.mqtt import MqttLink


def link(tls: Any = None) -> MqttLink:
    return MqttLink(
        address="127.0.0.1:1",
        identity="10001",
        token="",
        subscribe="own/+",
        on_message=lambda *_: None,
        on_connect=lambda: None,
        rng=random.Random(1),
        tls=tls,
        keepalive_s=900,
    )


def test_a_silent_connection_rests_until_its_ping_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 5_000.0)
    silent = link()
    client: Any = silent._new_client()
    client._last_msg_out, client._last_bytes_received = 4_990.0, 4_500.0
    assert silent._quiet_s(client) == 400, "nothing was received for longest"
    client._last_msg_out = 4_200.0
    assert silent._quiet_s(client) == 100
    client._last_msg_out = 4_000.0
    assert silent._quiet_s(client) == pytest.approx(0.05), "at once, but never in a busy loop"


def test_the_files_of_a_silent_connection_with_tls_are_looked_at_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 5_000.0)
    client: Any = link()._new_client()
    client._last_msg_out = client._last_bytes_received = 5_000.0
    assert link(tls=object())._quiet_s(client) == 10


def test_a_connection_has_no_port_of_its_own_before_it_has_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("socket.create_connection", lambda _, **words: asked.append(words))
    client: Any = link()._new_client()
    client._create_socket_connection()
    assert "source_address" not in asked[0], "all connections of a machine would share 28,000 ports"
