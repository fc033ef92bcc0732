"""Connections whose last wills end what devices were told: their broker publishes them if the adapter is gone.

A connection has one will, so each such device has a connection of its own, while it is told anything.
"""

import logging
import threading
from collections.abc import Callable, Mapping

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from adapters.commands.commands import Armed
from adapters.source import new_client, secure
from commonwatt.config.adapter import AdapterSource
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import split_address

_log = logging.getLogger(__name__)

KEEPALIVE_S = 20  # a broker publishes the will of a silent client after one and a half of these, within ``WILL_S``


class Wills:
    """The connections to one broker."""

    def __init__(self, settings: AdapterSource, client_id: str, wake: Callable[[], None]) -> None:
        """Prepare them.

        Args:
            client_id: The adapter's name at the broker; each of these adds meter and state.
            wake: Called when a will has reached the broker, or is gone; on a thread of paho.
        """
        self._settings = settings
        self._client_id = client_id
        self._wake = wake
        self._clients: dict[Armed, paho.Client] = {}
        self._armed: set[Armed] = set()
        self._lock = threading.Lock()  # callbacks come on a thread of each connection

    @property
    def armed(self) -> frozenset[Armed]:
        """What has its will at the broker."""
        with self._lock:
            return frozenset(self._armed)

    def keep(self, wanted: Mapping[Armed, Publish]) -> None:
        """Have the broker hold these wills, and no others."""
        for state in self._clients.keys() - wanted.keys():
            with self._lock:
                client = self._clients.pop(state)
                self._armed.discard(state)
            client.disconnect()  # Its thread ends by itself.
        for state in wanted.keys() - self._clients.keys():
            self._begin(state, wanted[state])

    def stop(self) -> None:
        """Leave without a word: the broker publishes the wills, as if the adapter had died."""
        for client in self._clients.values():
            client.loop_stop()
            if (socket := client.socket()) is not None:
                socket.close()
        self._clients.clear()

    def _begin(self, state: Armed, will: Publish) -> None:
        client = new_client(self._settings, "-".join((self._client_id, *map(str, state))), clean=True)
        client.will_set(will.topic, will.payload, will.qos)

        def connected(_: paho.Client, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
            with self._lock:
                is_wanted = self._clients.get(state) is client
                if is_wanted and not reason.is_failure:
                    self._armed.add(state)
            if not is_wanted:
                client.disconnect()
            self._wake()

        def disconnected(*_: object) -> None:
            with self._lock:
                if self._clients.get(state) is client:
                    self._armed.discard(state)
            self._wake()

        client.on_connect = connected
        client.on_disconnect = disconnected
        try:
            secure(client, self._settings)
        except ConfigError as error:
            # The source read these files at its start. Without a will the device is not told.
            _log.warning("no will at %s: %s", self._settings.address, error)
            return
        self._clients[state] = client
        host, port = split_address(self._settings.address)
        client.connect_async(host, port, KEEPALIVE_S)
        client.loop_start()
