"""What MQTT 3.1.1 clients expect of a broker, as Paho's interoperability tests list it (docs/protocol.md, "MQTT").

Supported features are tested; unsupported ones are tested to be refused or ignored completely.
"""

import time
from collections.abc import Iterator

import pytest

from harness.network.mqtt import PUBLISH, RawClient, connect_packet, packet, publish_packet, text
from harness.real.brokers import BrokerProcess

UP, DOWN, ALL_UP = "cw1/r001/1/u/rec", "cw1/r001/1/d/ack", "cw1/r001/+/u/+"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("broker"), {"r001": ["1", "2"]}) as broker:
        yield broker
        broker.stop()


@pytest.fixture
def meter(broker: BrokerProcess) -> Iterator[RawClient]:
    with broker.connect("1") as client:
        yield client


@pytest.fixture
def gateway(broker: BrokerProcess) -> Iterator[RawClient]:
    with broker.connect("r001") as client:
        yield client


def nothing_came(client: RawClient, publisher: RawClient, topic: str) -> bool:
    """Return whether the next message is one sent now, so that none came before."""
    publisher.publish(topic, b"now")
    return client.message() == (topic, b"now")


def test_basic_messages_of_qos_0_and_1_arrive_in_their_order(meter: RawClient, gateway: RawClient) -> None:
    assert gateway.subscribe(ALL_UP, qos=2) == 1
    for number in range(20):
        meter.send(publish_packet(UP, b"%d" % number, packet_id=number + 1 if number % 2 else None))
    assert [gateway.message() for _ in range(20)] == [(UP, b"%d" % number) for number in range(20)]


@pytest.mark.parametrize(("published", "subscribed", "delivered"), [(0, 1, 0), (1, 0, 0), (1, 1, 1), (0, 0, 0)])
def test_basic_a_message_comes_at_the_lower_qos_of_both(
    meter: RawClient, gateway: RawClient, published: int, subscribed: int, delivered: int
) -> None:
    assert gateway.subscribe(ALL_UP, qos=subscribed) == subscribed
    meter.send(publish_packet(UP, b"", 1 if published else None))
    header = packet(PUBLISH | delivered << 1, text(UP) + b"\0\0" * delivered)[:2]
    gateway.sock.settimeout(10)
    assert gateway.sock.recv(2) == header


def test_basic_qos_2_is_not_spoken_and_says_so_by_a_cut(broker: BrokerProcess, meter: RawClient) -> None:
    meter.send(packet(PUBLISH | 4, text(UP) + b"\0\1"))
    meter.wait_until_cut()
    assert broker.metric('cut_connections_total{reason="qos"}') == 1


def test_retained_messages_are_passed_on_and_not_kept(broker: BrokerProcess, gateway: RawClient) -> None:
    with broker.connect("1") as listening:
        assert listening.subscribe("cw1/r001/1/d/+") == 1
        gateway.send(packet(PUBLISH | 1, text(DOWN) + b"old"))
        assert listening.message() == (DOWN, b"old")
    with broker.connect("1") as meter:
        assert meter.subscribe("cw1/r001/1/d/+") == 1
        assert nothing_came(meter, gateway, DOWN)


def refused_with(broker: BrokerProcess, connect: bytes) -> int:
    with broker.raw(connect) as client:
        answer = client.recv(4)
        assert client.recv(1) == b""
    assert answer[:3] == b"\x20\x02\x00"
    return answer[3]


def test_will_messages_are_refused_as_not_authorized(broker: BrokerProcess) -> None:
    fields = text("1") + text("cw1/r001/1/u/rec") + text("gone") + text("1") + text(broker.tokens["1"])
    assert refused_with(broker, packet(0x10, text("MQTT") + b"\x04\xc6\0\0" + fields)) == 5


@pytest.mark.parametrize("clean", [0, 2])
def test_a_client_id_of_no_length_is_refused_as_an_identifier(broker: BrokerProcess, clean: int) -> None:
    assert refused_with(broker, packet(0x10, text("MQTT") + bytes([4, clean, 0, 0]) + text(""))) == 2


def test_offline_messages_are_not_queued(broker: BrokerProcess, gateway: RawClient) -> None:
    kept = connect_packet("1", broker.tokens["1"]).replace(b"MQTT\x04\xc2", b"MQTT\x04\xc0")
    with broker.raw(kept) as client:
        client.sendall(packet(0x82, b"\0\1" + text("cw1/r001/1/d/+") + b"\1"))
        assert client.recv(9) in (b"\x20\x02\0\0", b"\x20\x02\0\0\x90\x03\0\1\1")
    gateway.publish(DOWN, b"while away")
    with broker.raw(kept) as client:
        assert client.recv(4) == b"\x20\x02\0\0", "and no session present"
    with broker.connect("1") as meter:
        assert meter.subscribe("cw1/r001/1/d/+") == 1
        assert nothing_came(meter, gateway, DOWN)


def test_overlapping_subscriptions_bring_a_message_for_each(meter: RawClient, gateway: RawClient) -> None:
    assert gateway.subscribe(ALL_UP) == gateway.subscribe("cw1/r001/1/u/+") == 1
    meter.publish(UP, b"one")
    meter.publish(UP, b"two")
    assert [gateway.message()[1] for _ in range(4)] == [b"one", b"one", b"two", b"two"]


def test_a_filter_subscribed_to_again_takes_the_others_place(meter: RawClient, gateway: RawClient) -> None:
    assert (gateway.subscribe(ALL_UP, qos=1), gateway.subscribe(ALL_UP, qos=0)) == (1, 0)
    meter.publish(UP, b"one")
    assert gateway.message() == (UP, b"one")
    assert nothing_came(gateway, meter, UP)


def test_keepalive_a_silent_client_is_cut_and_one_that_pings_is_not(broker: BrokerProcess) -> None:
    started = time.monotonic()  # Before it connects: silence counts from its last packet, which is the CONNECT.
    with broker.connect("1", keepalive_s=1) as silent, broker.connect("2", keepalive_s=1) as pinging:
        silent.sock.settimeout(0.4)
        cut = False
        while not cut:
            assert time.monotonic() - started < 10
            pinging.ping()
            try:
                cut = silent.sock.recv(1) == b""
            except ConnectionResetError:
                cut = True
            except TimeoutError:
                cut = False
        assert time.monotonic() - started >= 1.5
        pinging.ping()
    assert broker.metric('cut_connections_total{reason="silent"}') == 1


def test_redelivery_on_reconnect_is_left_to_whoever_sent_it(broker: BrokerProcess, gateway: RawClient) -> None:
    with broker.connect("1") as meter:
        assert meter.subscribe("cw1/r001/1/d/+") == 1
        gateway.publish(DOWN, b"not acknowledged")
    with broker.connect("1") as meter:
        assert meter.subscribe("cw1/r001/1/d/+") == 1
        assert nothing_came(meter, gateway, DOWN)


def test_subscribe_failure_is_told(meter: RawClient) -> None:
    assert meter.subscribe("cw1/r001/2/d/+") == 0x80
    assert meter.subscribe("cw1/r001/1/d/+") == 1


def test_dollar_topics_reach_nobody(broker: BrokerProcess, meter: RawClient, gateway: RawClient) -> None:
    before = broker.metric('refused_actions_total{action="publish"}')
    assert gateway.subscribe("+/+/+/+/+") == 0x80
    assert gateway.subscribe("$SYS/#") == 0x80
    assert gateway.subscribe(ALL_UP) == 1
    meter.publish("$cw1/r001/1/u/rec", b"hidden")
    assert nothing_came(gateway, meter, UP)
    assert broker.metric('refused_actions_total{action="publish"}') == before + 1


def test_unsubscribe_ends_what_comes_and_is_answered_even_for_nothing(meter: RawClient, gateway: RawClient) -> None:
    for each in (ALL_UP, "cw1/r001/1/u/ev"):
        assert gateway.subscribe(each) == 1
    meter.publish(UP, b"one")
    assert gateway.message() == (UP, b"one")
    gateway.unsubscribe(ALL_UP)
    gateway.unsubscribe("never/subscribed")
    meter.publish(UP, b"two")
    assert nothing_came(gateway, meter, "cw1/r001/1/u/ev")


def test_a_second_connect_on_a_connection_cuts_it(broker: BrokerProcess, meter: RawClient) -> None:
    meter.send(connect_packet("1", broker.tokens["1"]))
    meter.wait_until_cut()
    assert broker.metric('cut_connections_total{reason="protocol"}') == 1
