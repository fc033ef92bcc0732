"""Meters that publish Sparkplug B: births, aliases, late data, deaths, lost messages. Another library encodes them."""

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.core import Adapter
from adapters.energy.channel import Channel
from adapters.mapping.readers import readers_of
from adapters.messages import Arrived
from commonwatt.config.adapter import AdapterSettings
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from harness.foreign.devices import DOUBLE, FLOAT, INT16, INT64, Edge, Metric, Payload
from harness.foreign.payloads import core_of

T = 1_790_000_100_000
TOPIC = "spBv1.0/town/+/edge1/m7"
KWH: dict[str, Any] = {"path": "Energy/In", "kind": "register", "unit": "kWh"}
SOC: dict[str, Any] = {"path": "Soc", "kind": "level", "unit": "%"}


def adapter(*rules: dict[str, Any], topic: str = TOPIC, **rule: object) -> Adapter:
    rows = [{"preset": "own", "topic": topic, "format": "sparkplug", **rule, **one} for one in rules]
    meters = [{"id": 1, "preset": "own", "capacity_wh": 10_000}]
    made = AdapterSettings.model_validate({"microgrid": "r001", "rule": rows, "meter": meters})
    return core_of(made, readers_of(made))


def hear(core: Adapter, message: tuple[str, bytes], at_ms: int) -> list[Publish]:
    topic, payload = message
    effects = core.message(Arrived(topic, payload, False, at_ms))
    return [effect for effect in effects if isinstance(effect, Publish) and "NCMD" in effect.topic]


def through(core: Adapter) -> Channel:
    return core.channels[1, RecordType.THROUGH]


def level_of(core: Adapter) -> int | None:
    return core.meters[1].state.level


def birth(kwh: float, alias: int | None = 5) -> list[Metric]:
    return [
        Metric(name="Voltage", alias=None if alias is None else alias + 1, datatype=DOUBLE, double_value=230.0),
        Metric(name="Energy/In", alias=alias, datatype=DOUBLE, double_value=kwh),
    ]


def data(kwh: float, alias: int = 5, **more: Any) -> list[Metric]:
    return [Metric(alias=alias + 1, double_value=231.5), Metric(alias=alias, double_value=kwh, **more)]


def born(core: Adapter, edge: Edge, at_ms: int = T, kwh: float = 100.0, alias: int = 5) -> None:
    hear(core, edge.born(at_ms), at_ms)
    hear(core, edge.message("DBIRTH", "m7", at_ms, *birth(kwh, alias)), at_ms)


def test_a_device_is_read_by_the_aliases_of_its_birth() -> None:
    core, edge = adapter(KWH), Edge()
    born(core, edge)
    for n in range(1, 21):
        hear(core, edge.message("DDATA", "m7", T + n * 15_000, *data(100 + n / 1000)), T + n * 15_000 + 400)
        hear(core, edge.message("DDATA", "m8", T + n * 15_000, *data(9_999.0)), T + n * 15_000 + 401)
    assert through(core).counter.total == 20_000
    assert through(core).at == T + 20 * 15_000, "the device's time counts"
    assert not core.tally["message", "unreadable"]


def test_an_alias_of_one_device_is_none_of_another() -> None:
    rules = [{"preset": f"p{n}", "topic": f"spBv1.0/town/+/edge1/m{n}", "format": "sparkplug", **KWH} for n in (7, 8)]
    meters = [{"id": n, "preset": f"p{n}"} for n in (7, 8)]
    readers = readers_of(AdapterSettings.model_validate({"microgrid": "r001", "rule": rules, "meter": meters}))
    edge = Edge()
    for message in (edge.born(T), edge.message("DBIRTH", "m7", T, *birth(1)), edge.message("DBIRTH", "m8", T)):
        list(readers.read(*message))
    found = [reading.value for reading in readers.read(*edge.message("DDATA", "m8", T, *data(9)))]
    assert found == [None]


def test_a_node_has_metrics_of_its_own_and_names_need_no_birth() -> None:
    core, edge = adapter(KWH, topic="spBv1.0/town/+/edge1"), Edge()
    for n in range(5):
        hear(core, edge.message("NDATA", "", T + n * 15_000, *birth(100 + n / 1000, None)), T + n * 15_000)
        hear(core, edge.message("DDATA", "m7", T + n * 15_000, *birth(7.0, None)), T + n * 15_000)
    assert through(core).counter.total == 4_000


@pytest.mark.parametrize(
    ("value", "power_mw"),
    [
        ({"int_value": 2**16 - 450}, -450_000),  # some encoders leave two bytes
        ({"int_value": 2**32 - 450}, -450_000),  # others four
        ({"int_value": 450}, 450_000),
        ({"string_value": "0,45 kW"}, None),
        ({"boolean_value": True}, None),
        ({"is_null": True}, None),
    ],
)
def test_a_power_has_its_sign_by_the_data_type_of_its_birth(value: dict[str, Any], power_mw: int | None) -> None:
    core, edge = adapter({"path": "P", "kind": "power", "unit": "W"}), Edge()
    hear(core, edge.born(T), T)
    hear(core, edge.message("DBIRTH", "m7", T, Metric(name="P", alias=1, datatype=INT16, int_value=0)), T)
    topic, payload = edge.message("DDATA", "m7", T, Metric(alias=1, **value))
    assert [reading.value for reading in core.readers[""].read(topic, payload)] == [power_mw]


def test_a_four_byte_float_and_a_whole_number_are_read() -> None:
    core, edge = adapter(KWH), Edge()
    values: tuple[tuple[str, int, Any, int], ...] = (
        ("float_value", FLOAT, 123.456, 123_456_001),
        ("double_value", DOUBLE, 123.456, 123_456_000),
        ("long_value", INT64, 123, 123_000_000),
        ("string_value", 12, "123456 Wh", 123_456_000),
    )
    for field, datatype, value, mwh in values:
        metric = Metric(name="Energy/In", datatype=datatype)
        setattr(metric, field, value)
        topic, payload = edge.message("DDATA", "m7", T, metric)
        assert [reading.value for reading in core.readers[""].read(topic, payload)] == [mwh], field


def test_historical_data_keep_their_time() -> None:
    core, edge = adapter(KWH), Edge()
    born(core, edge)
    hear(core, edge.message("DDATA", "m7", T + 15_000, *data(100.001)), T + 15_000)
    back, late = T + 3_600_000, []
    for n in range(2, 240):
        late += [Metric(alias=5, double_value=100 + n / 1000, timestamp=T + n * 15_000, is_historical=True)]
    hear(core, edge.message("DDATA", "m7", back, *late), back)
    hear(core, edge.message("DDATA", "m7", back, *data(100.240)), back)
    assert through(core).counter.total == 240_000
    assert core.tally["value", "counted"] == 239
    assert not core.tally["value", "clock_wrong"]


@pytest.mark.parametrize("whose", ["node", "device"])
def test_a_death_ends_the_level_until_the_next_value(whose: str) -> None:
    core, edge = adapter(SOC), Edge()
    soc = Metric(name="Soc", datatype=DOUBLE, double_value=50.0)
    hear(core, edge.born(T), T)
    for n in range(1, 4):
        hear(core, edge.message("DBIRTH", "m7", T + n * 15_000, soc), T + n * 15_000)
    assert level_of(core) == 5_000_000
    made = core.meters[1].state.made
    hear(core, edge.died() if whose == "node" else edge.message("DDEATH", "m7", T + 50_000), T + 50_000)
    assert level_of(core) is None
    hear(core, edge.born(T + 600_000), T + 600_000)
    hear(core, edge.message("DBIRTH", "m7", T + 600_000, soc), T + 600_000)
    assert level_of(core) == 5_000_000
    assert core.meters[1].state.made == made, "no slot of the time between is reported"


def test_the_will_of_an_earlier_connection_ends_nothing() -> None:
    core, edge = adapter(SOC, KWH), Edge()
    hear(core, edge.born(T), T)
    hear(core, edge.born(T + 1000), T + 1000)
    hear(core, edge.message("DBIRTH", "m7", T, Metric(name="Soc", alias=9, double_value=50.0), *birth(100)), T + 2000)
    hear(core, edge.died(session=1), T + 3000)
    assert core.meters[1].state.level == 5_000_000
    hear(core, edge.message("DDATA", "m7", T + 15_000, *data(100.001)), T + 15_000)
    assert through(core).counter.total == 1_000


@pytest.mark.parametrize("whose", ["node", "device"])
def test_after_a_death_aliases_count_again_with_the_next_birth_which_may_give_others(whose: str) -> None:
    core, edge = adapter(KWH), Edge()
    born(core, edge)
    hear(core, edge.message("DDATA", "m7", T + 15_000, *data(100.001)), T + 15_000)
    hear(core, edge.died() if whose == "node" else edge.message("DDEATH", "m7", T + 20_000), T + 20_000)
    hear(core, edge.message("DDATA", "m7", T + 30_000, *data(500.0)), T + 30_000)
    assert core.wrong[0].fault == "aliases that no birth certificate has explained"
    born(core, edge, T + 45_000, 100.003, alias=6)  # the register has the alias that the voltage had
    hear(core, edge.message("DDATA", "m7", T + 60_000, *data(100.004, alias=6)), T + 60_000)
    assert through(core).counter.total == 4_000
    assert core.tally["message", "unreadable"] == 1


@pytest.mark.parametrize("kind", ["DDATA of another device", "DDATA", "DBIRTH of another device"])
def test_a_lost_message_asks_for_births_at_most_once_a_minute(kind: str) -> None:
    core, edge = adapter(KWH, rebirth=True), Edge()
    born(core, edge)
    edge.message(kind.partition(" ")[0], "m8" if "another" in kind else "m7", T)  # lost
    requests = [
        hear(core, edge.message("DDATA", "m7", T + n * 15_000, *data(700.0)), T + n * 15_000) for n in range(1, 10)
    ]
    assert [len(one) for one in requests] == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    (request,) = requests[0]
    assert request.topic == "spBv1.0/town/NCMD/edge1"
    (metric,) = Payload.parse(request.payload).metrics
    assert (metric.name, metric.boolean_value, metric.datatype) == ("Node Control/Rebirth", True, 11)
    assert core.tally["device_command", "rebirth"] == 3
    assert through(core).counter.raw != 700_000_000, "the alias may mean another metric meanwhile"
    born(core, edge, T + 150_000, 100.010)
    assert not hear(core, edge.message("DDATA", "m7", T + 165_000, *data(100.011)), T + 165_000)
    assert not hear(core, edge.message("DDATA", "m7", T + 300_000, *data(100.012)), T + 300_000)
    assert through(core).counter.total == 12_000


def test_without_rebirth_a_lost_message_asks_nothing_and_the_aliases_stay() -> None:
    core, edge = adapter(KWH), Edge()
    born(core, edge)
    for n in range(1, 10):
        edge.message("DDATA", "m7", T)  # lost
        assert not hear(core, edge.message("DDATA", "m7", T + n * 15_000, *data(100 + n / 1000)), T + n * 15_000)
    assert through(core).counter.total == 9_000


def test_a_sequence_that_begins_again_after_255_and_a_message_that_comes_twice_are_no_loss() -> None:
    core, edge = adapter(KWH, rebirth=True), Edge()
    born(core, edge)
    for n in range(1, 600):
        message, at = edge.message("DDATA", "m7", T + n * 15_000, *data(100 + n / 1000)), T + n * 15_000
        assert not hear(core, message, at)
        assert not hear(core, message, at + 1)
    assert through(core).counter.total == 599_000


def test_an_adapter_that_starts_among_data_asks_for_the_births() -> None:
    core, edge = adapter(KWH, rebirth=True), Edge()
    born(core, edge)
    later = adapter(KWH, rebirth=True)
    assert len(hear(later, edge.message("DDATA", "m7", T + 15_000, *data(100.001)), T + 15_000)) == 1
    assert later.wrong[0].topic == "spBv1.0/town/DDATA/edge1/m7"


@pytest.mark.parametrize(
    "topic",
    [
        "spBv1.0/town/DDATA/edge1/m7",
        "spBv1.0/+/+/edge1",
        "spBv1.0/town/+",
        "tele/town/+/edge1",
        "spBv1.0/town/+/edge1/#",
    ],
)
def test_a_topic_that_is_no_node_or_device_is_refused(topic: str) -> None:
    with pytest.raises(ConfigError, match=r"is not spBv1.0/GROUP/\+/NODE or"):
        adapter(KWH, topic=topic)


def test_the_subscription_is_to_the_node_with_all_its_devices() -> None:
    assert adapter(KWH, SOC).readers[""].filters == ["spBv1.0/town/+/edge1/#"]
    assert adapter(KWH).readers[""].knows("spBv1.0/town/NDEATH/edge1")
    assert not adapter(KWH).readers[""].knows("spBv1.0/town/NDEATH/edge2")


def broken(rng: random.Random, payload: bytes) -> Iterable[bytes]:
    yield payload[: rng.randrange(len(payload))]
    yield bytes(byte ^ (rng.random() < 0.05) * rng.randrange(256) for byte in payload)
    yield rng.randbytes(rng.randrange(200))
    yield payload * rng.randrange(2, 900)
    yield b"\x12\x00" * rng.randrange(20_000, 40_000)


def test_broken_payloads_are_counted_and_disturb_no_other_node() -> None:
    rng, core, edge = random.Random(2), adapter(KWH), Edge()
    born(core, edge)
    for n in range(1, 201):
        good = edge.message("DDATA", "m7", T + n * 15_000, *data(100 + n / 1000))
        hear(core, good, T + n * 15_000)
        for payload in broken(rng, good[1]):
            hear(core, ("spBv1.0/town/DDATA/edge1/m9", payload), T + n * 15_000 + 1)
    assert through(core).counter.total == 200_000
    assert not core.wrong, "no rule reads that device"
    hear(core, ("spBv1.0/town/DDATA/edge1/m7", b"\xff\xff"), T + 4_000_000)
    hear(core, ("spBv1.0/town/DDATA/edge1/m7", b"\x12\x00" * 6_000), T + 4_000_000)
    hear(core, ("spBv1.0/town/DDATA/edge1/m7", bytes(70_000)), T + 4_000_000)
    assert [one.fault for one in core.wrong] == [
        "not Sparkplug B: no protobuf of its schema",
        "6000 metrics, more than 5000",
        "70000 bytes, more than 65536",
    ]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH", "NCMD"]))
def test_any_bytes_are_samples_nothing_or_a_reason(payload: bytes, kind: str) -> None:
    core = adapter(KWH, SOC, rebirth=True)
    for topic in (
        f"spBv1.0/town/{kind}/edge1",
        f"spBv1.0/town/{kind}/edge1/m7",
        f"spBv1.0/{kind}",
        "spBv1.0/a/b/c/d/e",
    ):
        hear(core, (topic, payload), T)
