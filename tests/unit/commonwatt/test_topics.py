"""Topics: what is built parses back, and nothing else parses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.protocol import topics
from commonwatt.protocol.topics import GatewayTopic, MeterTopic, parse_gateway_up, parse_meter_up

microgrids = st.from_regex(r"\A[a-z][a-z0-9-]{0,15}\Z")
meters = st.integers(0, 2**64 - 1)


@given(microgrids, meters, st.sampled_from([topics.RECORDS, topics.EVENTS, topics.LEVELS, topics.OUTCOMES]))
def test_meters_topic_parses_back(microgrid: str, meter: int, leaf: str) -> None:
    topic = topics.meter_up(microgrid, meter, leaf)
    assert parse_meter_up(topic) == MeterTopic(microgrid, meter, leaf)
    assert parse_gateway_up(topic) is None


@given(microgrids, st.sampled_from([topics.BATCHES, topics.STATUS, topics.OUTCOMES]))
def test_gateways_topic_parses_back(microgrid: str, leaf: str) -> None:
    topic = topics.gateway_up(microgrid, leaf)
    assert parse_gateway_up(topic) == GatewayTopic(microgrid, leaf)
    assert parse_meter_up(topic) is None


@given(st.text())
def test_junk_is_no_topic(text: str) -> None:
    assert parse_meter_up(text) is None
    assert parse_gateway_up(text) is None


@pytest.mark.parametrize(
    "topic",
    [
        "cw1/r001/77/u/rec\n",
        "cw1/r001/077/u/rec",
        "cw1/r001/+77/u/rec",
        "cw1/r001/-1/u/rec",
        "cw1/r001/18446744073709551616/u/rec",
        "cw1/r001/\N{ARABIC-INDIC DIGIT SEVEN}/u/rec",
        "cw1/r001/77/d/rec",
        "cw1/r001/77/u/ack",
        "cw1/r001/77/u/rec/x",
        "cw2/r001/77/u/rec",
        "cw1/R001/77/u/rec",
        "cw1/77/77/u/rec",
        "cw1/aaaaaaaaaaaaaaaaa/77/u/rec",
        "cw1/+/77/u/rec",
        "cw1/r001/77/u/+",
        "/cw1/r001/77/u/rec",
        "cw1//77/u/rec",
    ],
)
def test_near_miss_is_no_meters_topic(topic: str) -> None:
    assert parse_meter_up(topic) is None


@pytest.mark.parametrize(
    "topic", ["cw1/r001/u/rec", "cw1/77/u/batch", "cw1/r001/d/batch", "cw1/r001/u/batch\n", "cw1/r001/77/u/out"]
)
def test_near_miss_is_no_gateways_topic(topic: str) -> None:
    assert parse_gateway_up(topic) is None


def test_topics_are_those_of_the_page() -> None:
    assert topics.meter_down("r001", 77, topics.ACKS) == "cw1/r001/77/d/ack"
    assert topics.meter_down("r001", 77, "+") == "cw1/r001/77/d/+"
    assert topics.gateway_down("r001", topics.COMMANDS) == "cw1/r001/d/cmd"
    assert topics.all_meters_up("r001") == "cw1/r001/+/u/+"
    assert topics.all_gateways_up() == "cw1/+/u/+"
