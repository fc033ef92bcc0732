"""Meters with certificates renew them through their gateway; the wire between is fake, the rest is real."""

import asyncio
import json
from pathlib import Path
from typing import cast

import pytest

from commonwatt.device.renewals import MeterRenewals
from commonwatt.identity.certificates import details_of
from commonwatt.model.effects import Publish
from commonwatt.model.ids import MeterId
from commonwatt.network.mqtt import MqttLink
from commonwatt.network.tls import ClientTls
from gateway.renewal import MAX_REQUEST_BYTES, MAX_WAITING, METER_AT_ONCE, MeterRequests
from harness.care.town import CareTown
from harness.real.enrolled import DAY_S

T = 1_790_000_000
METER = MeterId(10001)
UP, DOWN = "cw1/r001/10001/u/cert", "cw1/r001/10001/d/cert"


class Link:
    """A connection, as far as renewals use it."""

    def __init__(self) -> None:
        self.connected, self.current = True, False
        self.sent: list[Publish] = []

    def publish(self, message: Publish) -> bool:
        self.sent.append(message)
        return True

    def is_current(self) -> bool:
        return self.current


class Meter:
    def __init__(self, town: CareTown) -> None:
        self.town, self.link = town, Link()
        self.file = town.file("10001")
        self.renewals = MeterRenewals("r001", {METER: {"r001": cast("MqttLink", self.link)}})
        self.renewals.add(METER, self.file.path, ClientTls(self.file.ca))

    @property
    def ends(self) -> int:
        return details_of(self.file.path.read_bytes())[0].ends

    def look(self) -> None:
        self.renewals.look(METER, self.town.now)


@pytest.fixture
def meter(tmp_path: Path) -> Meter:
    return Meter(CareTown(tmp_path, ["r001"], T, meters=[10001]))


def passed_on(meter: Meter, *messages: Publish) -> list[Publish]:
    """Return what the gateway publishes until the first answer to messages of meters."""
    answers: list[Publish] = []

    async def play() -> None:
        answered = asyncio.Event()

        def publish(message: Publish) -> None:
            answers.append(message)
            answered.set()

        requests = MeterRequests(meter.town.post, publish)
        task = asyncio.create_task(requests.run())
        for message in messages:
            assert requests.takes(message.topic, message.payload, 0.0)
        async with asyncio.timeout(30):
            await answered.wait()
        assert not task.done()
        task.cancel()

    asyncio.run(play())
    return answers


def test_a_meter_asks_from_two_thirds_of_its_certificates_life_on(meter: Meter) -> None:
    meter.town.now += 59 * DAY_S
    meter.look()
    assert not meter.link.sent
    meter.town.now += 11 * DAY_S
    meter.link.connected = False
    meter.look()
    assert not meter.link.sent
    meter.link.connected = True
    meter.look()
    assert [message.topic for message in meter.link.sent] == [UP]
    assert len(meter.link.sent[0].payload) < MAX_REQUEST_BYTES / 2


def test_its_gateway_passes_the_request_on_and_the_new_certificate_counts_once_it_connected(meter: Meter) -> None:
    meter.town.now += 70 * DAY_S
    meter.look()
    (answer,) = passed_on(meter, *meter.link.sent)
    assert answer.topic == DOWN
    meter.renewals.answered(METER, answer.payload)
    assert (meter.file.is_on_trial, meter.ends) == (True, meter.town.now + 90 * DAY_S)
    meter.link.current = True
    meter.look()
    assert not meter.file.is_on_trial


def test_a_certificate_that_does_not_connect_within_the_hour_gives_way_to_the_old_one(meter: Meter) -> None:
    meter.renewals.answered(METER, json.dumps(meter.town.post("/renew", meter.file.request())).encode())
    assert meter.file.is_on_trial
    meter.look()
    assert (meter.file.is_on_trial, meter.ends) == (False, T + 90 * DAY_S)


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"1", b"{}", b'{"certificate":1}', b"[" * 5000])
def test_another_answer_changes_nothing(meter: Meter, payload: bytes) -> None:
    meter.file.request()
    before = meter.file.path.read_bytes()
    meter.renewals.answered(METER, payload)
    assert meter.file.path.read_bytes() == before


def test_a_refused_or_malformed_request_gets_no_answer_and_stops_no_other(meter: Meter) -> None:
    meter.town.now += 70 * DAY_S
    meter.look()
    good = meter.link.sent[0]
    bad = [Publish(f"cw1/r001/{number}/u/cert", payload) for number, payload in enumerate([b"", b"{}", b"\xff"])]
    assert [answer.topic for answer in passed_on(meter, *bad, good)] == [DOWN]


def test_waiting_requests_are_bounded(meter: Meter) -> None:
    requests = MeterRequests(meter.town.post, lambda _: None)
    for number in range(MAX_WAITING + 10):
        assert requests.takes(f"cw1/r001/{number}/u/cert", b"x", 0.0)
    assert requests.takes("cw1/r001/0/u/cert", b"x" * (MAX_REQUEST_BYTES + 1), 0.0)
    assert len(requests._waiting) == MAX_WAITING
    assert not requests.takes("cw1/r001/10001/u/rec", b"x", 0.0)


def test_a_meter_that_asks_without_end_does_not_use_up_the_line(meter: Meter) -> None:
    requests, passed = MeterRequests(meter.town.post, lambda _: None), 0
    for second in range(36_000):
        assert requests.takes("cw1/r001/10001/u/cert", b"x", float(second))
        passed += len(requests._waiting)
        requests._waiting.clear()
    assert METER_AT_ONCE <= passed <= METER_AT_ONCE + 10
