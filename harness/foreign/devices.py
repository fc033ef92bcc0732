"""Emulated foreign meters on a real broker, with the habits of their makers; an edge node of Sparkplug B.

Wills, retained messages, QoS 0 to 2, MQTT 3.1.1 and 5, the same reading on two topics, changed fields only, local
times, counters in floating point or text. Each device keeps its own counter; ``Devices`` publishes by the site's clock.
The edge node's payloads are encoded by another library, from a schema of its own (betterproto2).
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import betterproto2 as proto
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from commonwatt.runtime.clock import Clock

ZONE = ZoneInfo("America/New_York")

Messages = list[tuple[str, str, int, bool]]  # (topic, payload, QoS, retain) of each


@dataclass
class Device:
    """A foreign meter."""

    meter: int  # our id of it
    name: str  # its name in topics
    every_s: float  # seconds of the clock between its messages
    step: int  # milliwatt-hours of one digit of its counter
    power_w: int  # its present power
    says: Callable[["Device", float], Messages]  # its messages for a time and a counter
    counter: int = 3_000_000  # its counter, milliwatt-hours, as shown
    # Topic, payload when it is gone, and payload when it is there; ``None``: it has no will.
    will: tuple[str, str, str] | None = None
    is_5: bool = False  # whether it speaks MQTT 5
    shown: set[int] = field(default_factory=set, repr=False)  # all readings that it published
    flowed_mws: int = field(default=0, repr=False)
    due: float = 0.0
    last: float = 0.0

    def run(self, now: float, *, idle: bool) -> Messages:
        """Return the messages that are due."""
        if now < self.due:
            return []
        if self.last and not idle:
            self.flowed_mws += int((now - self.last) * self.power_w * 1000)
        steps, self.flowed_mws = divmod(self.flowed_mws, 3600 * self.step)
        self.counter += steps * self.step
        self.last, self.due = now, now + self.every_s
        self.shown.add(self.counter)
        return self.says(self, now)


def tasmota(meter: int, name: str, every_s: float = 15) -> Device:
    """Return a Tasmota plug: QoS 0, local time without zone, a retained will."""

    def says(device: Device, now: float) -> Messages:
        local = datetime.fromtimestamp(now, ZONE).strftime("%Y-%m-%dT%H:%M:%S")
        energy = {
            "TotalStartTime": "2026-01-01T00:00:00",
            "Total": device.counter / 1e6,
            "Yesterday": 1.2,
            "Today": 0.3,
            "Power": device.power_w,
            "Voltage": 121,
        }
        return [(f"tele/{name}/SENSOR", json.dumps({"Time": local, "ENERGY": energy}), 0, False)]

    return Device(meter, name, every_s, 1000, 900, says, will=(f"tele/{name}/LWT", "Offline", "Online"))


def shelly(meter: int, name: str, every_s: float = 15) -> Device:
    """Return a Shelly Plus: QoS 1, the same reading on two topics, Wh with decimals, status retained."""

    def says(device: Device, now: float) -> Messages:
        total = device.counter / 1000
        event = {
            "src": name,
            "method": "NotifyStatus",
            "params": {"ts": now, "switch:0": {"aenergy": {"total": total}}},
        }
        status = {"id": 0, "output": True, "apower": device.power_w, "aenergy": {"total": total, "minute_ts": int(now)}}
        partial = {"src": name, "method": "NotifyStatus", "params": {"ts": now, "switch:0": {"apower": 3.2}}}
        return [
            (f"{name}/status/switch:0", json.dumps(status), 1, True),
            (f"{name}/events/rpc", json.dumps(event), 1, False),
            (f"{name}/events/rpc", json.dumps(partial), 1, False),
        ]

    return Device(meter, name, every_s, 1, 1500, says, will=(f"{name}/online", "false", "true"))


def zigbee(meter: int, name: str, every_s: float = 30) -> Device:
    """Return a plug behind zigbee2mqtt: kWh with two decimals, a name with a slash, sometimes no energy."""

    def says(device: Device, now: float) -> Messages:
        content: dict[str, object] = {"linkquality": 120, "power": device.power_w, "state": "ON"}
        if int(now) % 7:
            content["energy"] = round(device.counter / 1e6, 2)
        return [(f"zigbee2mqtt/{name}", json.dumps(content), 0, False)]

    return Device(meter, name, every_s, 10_000, 2500, says, will=("zigbee2mqtt/bridge/state", "offline", "online"))


def dsmr(meter: int, name: str, every_s: float = 10) -> Device:
    """Return a smart meter behind DSMR-reader: QoS 2, MQTT 5, kWh as text, UTC."""

    def says(device: Device, now: float) -> Messages:
        content = {
            "timestamp": datetime.fromtimestamp(now, UTC).isoformat(),
            "electricity_delivered_1": f"{device.counter / 2e6:.3f}",
            "electricity_delivered_2": f"{device.counter / 2e6:.3f}",
            "electricity_returned_1": "0.000",
            "electricity_returned_2": "0.000",
        }
        return [(f"{name}/json", json.dumps(content), 2, False)]

    return Device(meter, name, every_s, 2000, 3600, says, is_5=True)


def pulses(meter: int, name: str, every_s: float = 15) -> Device:
    """Return a pulse counter: QoS 1, the energy of each interval alone, with its time."""
    before = [0]

    def says(device: Device, now: float) -> Messages:
        energy, before[0] = device.counter - (before[0] or device.counter), device.counter
        return [(f"{name}/pulses", json.dumps({"mwh": energy, "t": int(now * 1000)}), 1, False)]

    return Device(meter, name, every_s, 1, 1800, says)


class Devices:
    """Devices that publish on a broker, on a thread of their own."""

    def __init__(self, devices: list[Device], port: int, clock: Clock) -> None:
        self.devices = devices
        self.idle = False
        self._clock = clock
        self._stop = threading.Event()
        self._clients = {device.meter: self._connect(device, port) for device in devices}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """Stop all devices."""
        self._stop.set()
        self._thread.join()
        for client in self._clients.values():
            client.disconnect()
            client.loop_stop()

    def _connect(self, device: Device, port: int) -> paho.Client:
        protocol = MQTTProtocolVersion.MQTTv5 if device.is_5 else MQTTProtocolVersion.MQTTv311
        client = paho.Client(CallbackAPIVersion.VERSION2, f"device-{device.meter}", protocol=protocol)
        client.reconnect_delay_set(1, 1)
        if device.will is not None:
            topic, gone, here = device.will
            client.will_set(topic, gone, 1, retain=True)
            client.on_connect = lambda c, *_: c.publish(topic, here, 1, retain=True)
        client.connect_async("127.0.0.1", port, 30)
        client.loop_start()
        return client

    def _run(self) -> None:
        while not self._stop.is_set():
            now = self._clock.now()
            for device in self.devices:
                for topic, payload, qos, retain in device.run(now, idle=self.idle):
                    self._clients[device.meter].publish(topic, payload, qos, retain)
            time.sleep(0.02)


INT16, INT64, FLOAT, DOUBLE = 2, 4, 9, 10  # data types of the specification


def _optional(number: int, kind: str, group: str | None = None) -> Any:
    return proto.field(number, kind, optional=True, group=group)


@dataclass(eq=False, repr=False)
class Metric(proto.Message):
    name: str | None = _optional(1, proto.TYPE_STRING)
    alias: int | None = _optional(2, proto.TYPE_UINT64)
    timestamp: int | None = _optional(3, proto.TYPE_UINT64)
    datatype: int | None = _optional(4, proto.TYPE_UINT32)
    is_historical: bool | None = _optional(5, proto.TYPE_BOOL)
    is_transient: bool | None = _optional(6, proto.TYPE_BOOL)
    is_null: bool | None = _optional(7, proto.TYPE_BOOL)
    int_value: int | None = _optional(10, proto.TYPE_UINT32, "value")
    long_value: int | None = _optional(11, proto.TYPE_UINT64, "value")
    float_value: float | None = _optional(12, proto.TYPE_FLOAT, "value")
    double_value: float | None = _optional(13, proto.TYPE_DOUBLE, "value")
    boolean_value: bool | None = _optional(14, proto.TYPE_BOOL, "value")
    string_value: str | None = _optional(15, proto.TYPE_STRING, "value")
    bytes_value: bytes | None = _optional(16, proto.TYPE_BYTES, "value")


_METRICS: Any = proto.field(2, proto.TYPE_MESSAGE, repeated=True)


@dataclass(eq=False, repr=False)
class Payload(proto.Message):
    timestamp: int | None = _optional(1, proto.TYPE_UINT64)
    metrics: list[Metric] = _METRICS
    seq: int | None = _optional(3, proto.TYPE_UINT64)
    uuid: str | None = _optional(4, proto.TYPE_STRING)
    body: bytes | None = _optional(5, proto.TYPE_BYTES)


@dataclass
class Edge:
    """An edge node that numbers its messages; each method returns topic and payload."""

    group: str = "town"
    name: str = "edge1"
    session: int = 0
    seq: int = 255

    def message(self, kind: str, device: str, at_ms: int, *metrics: Metric) -> tuple[str, bytes]:
        """Return a message; births begin the sequence again, deaths of the node have none."""
        self.seq = 0 if kind == "NBIRTH" else (self.seq + 1) % 256
        topic = f"spBv1.0/{self.group}/{kind}/{self.name}" + (f"/{device}" if device else "")
        return topic, bytes(Payload(timestamp=at_ms, metrics=list(metrics), seq=self.seq, uuid="e1"))

    def born(self, at_ms: int, *metrics: Metric) -> tuple[str, bytes]:
        """Return the birth of the node."""
        self.session += 1
        return self.message(
            "NBIRTH", "", at_ms, Metric(name="bdSeq", datatype=INT64, long_value=self.session), *metrics
        )

    def died(self, session: int | None = None) -> tuple[str, bytes]:
        """Return the will of a session, the present one or an earlier one."""
        number = self.session if session is None else session
        will = Payload(metrics=[Metric(name="bdSeq", datatype=INT64, long_value=number)])
        return f"spBv1.0/{self.group}/NDEATH/{self.name}", bytes(will)
