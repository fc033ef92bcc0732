"""Topics, values, times and payloads of foreign meters, and what they refuse."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from time import process_time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.energy.channel import CHANNEL, Channel
from adapters.energy.counter import CountedEnergy, Counter
from adapters.mapping.payloads import FORMATS, MAX_BYTES
from adapters.mapping.readers import Readers, RuleReading, readers_of
from adapters.mapping.values import (
    NOTATIONS,
    PER_UNIT,
    UnreadableError,
    at_path,
    instant,
    number,
    scaled,
    split_path,
    summed,
    times_of,
)
from commonwatt.config.adapter import AdapterSettings
from commonwatt.model.exceptions import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")


def made(rules: list[dict[str, Any]], **meter: object) -> Readers:
    rules = [{"preset": "own", "kind": "register", "unit": "kWh", **rule} for rule in rules]
    meters = [{"id": 1, "preset": "own", "source": "kitchen", **meter}]
    return readers_of(AdapterSettings.model_validate({"microgrid": "r001", "rule": rules, "meter": meters}))


def read(rule: dict[str, Any], payload: str | bytes, **meter: object) -> RuleReading:
    data = payload.encode() if isinstance(payload, str) else payload
    (reading,) = made([{"topic": "t", **rule}], **meter).read("t", data)
    return reading


def epoch_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


# Topics


@pytest.mark.parametrize(
    ("pattern", "topic", "meets"),
    [
        ("tele/{device}/SENSOR", "tele/kitchen/SENSOR", True),
        ("tele/{device}/SENSOR", "tele/kitchen2/SENSOR", False),
        ("tele/{device}/SENSOR", "tele/kitchen/SENSOR/more", False),
        ("+/kitchen/SENSOR", "tele/kitchen/SENSOR", True),
        ("+/kitchen/SENSOR", "a/b/kitchen/SENSOR", False),
        ("+/+", "tele/kitchen", True),
        ("+/+", "tele", False),
        ("tele/#", "tele/kitchen/SENSOR", True),
        ("tele/#", "tele", True),
        ("tele/#", "stat/kitchen", False),
        ("#", "anything/at/all", True),
        ("+", "", True),
    ],
)
def test_topic_meets_its_pattern(pattern: str, topic: str, meets: bool) -> None:
    readers = made([{"topic": pattern, "format": "plain"}])
    assert bool(list(readers.read(topic, b"1"))) is meets
    assert readers.knows(topic) is meets


def test_source_may_have_slashes_and_blanks() -> None:
    readers = made([{"topic": "z/{device}", "format": "plain"}], source="ground floor/left plug")
    assert readers.filters == ["z/ground floor/left plug"]
    assert [reading.value for reading in readers.read("z/ground floor/left plug", b"1")] == [1_000_000]


@pytest.mark.parametrize("topic", ["a#", "a/#/b", "a+/b", "", "a\0b"])
def test_topic_that_mqtt_refuses_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        made([{"topic": topic, "format": "plain"}])


def test_a_device_without_a_name_in_its_topics_is_refused() -> None:
    settings = {"microgrid": "r001", "meter": [{"id": 7, "preset": "tasmota"}]}
    with pytest.raises(ConfigError, match="preset tasmota needs source"):
        readers_of(AdapterSettings.model_validate(settings))


@pytest.mark.parametrize("form", ["senml", "influx"])
def test_a_format_that_is_gone_is_refused_with_what_to_do(form: str) -> None:
    with pytest.raises(ValueError, match=f"{form}: is no format any more; let a bridge publish the value as JSON"):
        made([{"topic": "t", "format": form, "path": "a"}])


def test_a_meter_of_the_preset_that_is_gone_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match="no preset 'senml'; let a bridge publish the value as JSON"):
        made([{"topic": "t", "format": "plain"}], preset="senml")


def test_preset_of_another_name_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'tasmotta'; there are: .*tasmota"):
        made([{"topic": "t", "format": "plain"}], preset="tasmotta")


# Values


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("12345.678901", "kWh", 12_345_678_901),
        ("0.1", "kWh", 100_000),
        ("0.0000019", "kWh", 1),
        ("544587.493", "Wh", 544_587_493),
        ("1.2e3", "Wh", 1_200_000),
        ("1E-3", "MWh", 1_000_000),
        ("+7", "mWh", 7),
        ("36000000", "J", 10_000_000),
        ("60", "Wmin", 1_000),
        ("9007199.254740992", "MWh", 2**53),
        ("1e-999999999", "kWh", 0),
        ("0.99999999999999999999999999", "mWh", 0),
    ],
)
def test_decimal_text_becomes_whole_milliwatt_hours(text: str, unit: str, value: int) -> None:
    assert read({"format": "plain", "unit": unit}, text).value == value
    assert read({"path": "a", "unit": unit}, f'{{"a":"{text}"}}').value == value


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("9007199.254740993", "too large"),
        ("1e18", "too large"),
        ("1e19", "not a usable number"),
        ("-1", "negative"),
        ("Infinity", "not a usable number"),
        ("0e999999", "not a usable number"),
        ("1" * 29, "not a number"),
        ("12,5", "not a number: '12,5'; with a decimal comma its rule has number = \"de\""),
        ("offline", "not a number: 'offline'"),
        ("12 V", "in V, not MWh"),
        ("12 kWh 5", "not a number: '12 kWh 5'"),
    ],
)
def test_number_that_cannot_be_a_register_has_a_reason(text: str, fault: str) -> None:
    reading = read({"format": "plain", "unit": "MWh"}, text)
    assert reading.value is None
    assert fault in reading.fault


@pytest.mark.parametrize("text", ["", " ", "nan", "NaN", "null", "unknown", "unavailable", "None"])
def test_text_for_no_value_is_no_fault(text: str) -> None:
    for rule, payload in (({"format": "plain"}, text), ({"path": "a"}, json.dumps({"a": text}))):
        reading = read(rule, payload)
        assert (reading.value, reading.fault) == (None, "")


@given(st.decimals(min_value=0, max_value=10**6, places=9))
def test_value_is_never_more_than_the_text_and_less_than_a_milliwatt_hour_below(value: Decimal) -> None:
    found = scaled(number(str(value)), PER_UNIT["kWh"])
    assert 0 <= Fraction(value) * 1_000_000 - found < 1


def test_sign_picks_one_direction_of_a_power() -> None:
    rule = {"path": "power", "kind": "power", "unit": "W"}
    assert read({**rule, "sign": "positive"}, '{"power":-450.5}').value == 0
    assert read({**rule, "sign": "negative"}, '{"power":-450.5}').value == 450_500
    assert read({**rule, "sign": "negative"}, '{"power":300}').value == 0
    assert read(rule, '{"power":-450.5}').value == -450_500


def test_percent_is_of_the_stated_capacity() -> None:
    rule = {"path": "soc", "kind": "level", "unit": "%"}
    assert read(rule, '{"soc":62.5}', capacity_wh=10_000).value == 6_250_000


def test_paths_are_added_up_and_subtracted_exactly() -> None:
    rule = {"path": ("a", "b.c"), "less": "d", "unit": "Wh"}
    assert read(rule, '{"a":0.1,"b":{"c":[0.2,0.3]},"d":0.4}').value == 200
    assert read(rule, '{"a":0.1,"b":{"c":0.2}}').value is None, "partial JSON has no sum"
    assert read(rule, '{"a":0.1,"b":{"c":0.2}}').fault == ""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b", "1"),
        (r"a\.b", "2"),
        ("list.1.x", "4"),
        ("list.2.x", None),
        ("list.x", None),
        ("*.b", "1"),
        ("*.only", "5"),
        ("*.missing", None),
        ("a.b.c", None),
        ("", None),
    ],
)
def test_path_leads_to_one_value(path: str, found: str | None) -> None:
    content = {"a": {"b": "1", "x": 1}, "a.b": "2", "list": [{"x": "3"}, {"x": "4"}], "other": {"only": "5", "x": 1}}
    assert at_path(content, split_path(path)) == found


def test_any_key_that_two_objects_have_is_no_value() -> None:
    assert at_path({"one": {"x": "1"}, "two": {"x": "2"}}, ("*", "x")) is None
    assert at_path({"*": {"x": "1"}, "two": {"x": "2"}}, ("*", "x")) == "1", "a key may be a star itself"


# Times


@pytest.mark.parametrize(
    ("text", "instants"),
    [
        ("1790000100", ["2026-09-21T14:15:00Z"]),
        ("1790000100.25", ["2026-09-21T14:15:00.250Z"]),
        ("12345", ["1970-01-01T03:25:45Z"]),
        ("99999999", ["1973-03-03T09:46:39Z"]),
        ("1790000100250", ["2026-09-21T14:15:00.250Z"]),
        ("2026-09-21T14:15:00Z", ["2026-09-21T14:15:00Z"]),
        ("2026-09-21T16:15:00+02:00", ["2026-09-21T14:15:00Z"]),
        ("2026-09-21 16:15:00", ["2026-09-21T14:15:00Z"]),
        ("2026-01-21T16:15:00", ["2026-01-21T15:15:00Z"]),
        ("2026-10-25T02:30:00", ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"]),
        ("2026-10-25T02:30:00+01:00", ["2026-10-25T01:30:00Z"]),
        ("261025023000S", ["2026-10-25T00:30:00Z"]),
        ("261025023000W", ["2026-10-25T01:30:00Z"]),
        ("1970-01-01T00:00:08", ["1969-12-31T23:00:08Z"]),
    ],
)
def test_time_is_understood(text: str, instants: list[str]) -> None:
    assert times_of(text, BERLIN) == tuple(epoch_ms(one) for one in instants)


@pytest.mark.parametrize("text", ["", "14:15", "yesterday", "261325023000W", "9999-99-99T00:00:00", "1" * 41])
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError, match="no time"):
        times_of(text, BERLIN)


def test_each_hour_of_the_autumn_change_is_taken_by_its_arrival() -> None:
    both = times_of("2026-10-25T02:30:00", BERLIN)
    for arrival in (epoch_ms("2026-10-25T00:30:02Z"), epoch_ms("2026-10-25T01:30:02Z")):
        assert instant(both, arrival, queued=False) == arrival - 2000


def test_device_time_counts_within_five_minutes() -> None:
    arrival = epoch_ms("2026-09-21T14:15:00Z")
    for offset_s, counts in ((-301, False), (-300, True), (-1, True), (16, True), (300, True), (301, False)):
        time = arrival + offset_s * 1000
        assert instant((time,), arrival, queued=False) == (time if counts else None)
    assert instant((0,), arrival, queued=False) is None, "a clock that is not set"
    late = arrival - 6 * 3_600_000
    assert instant((late,), arrival, queued=True) == late, "a burst out of the source's queue"
    assert instant((late,), arrival, queued=False) is None
    assert instant((), arrival, queued=False) is None


def test_time_missing_or_empty_leaves_the_time_of_arrival() -> None:
    rule = {"path": "e", "time": "last_seen"}
    for payload in ('{"e":1}', '{"e":1,"last_seen":null}', '{"e":1,"last_seen":""}'):
        reading = read(rule, payload)
        assert (reading.value, reading.times, reading.fault) == (1_000_000, (), "")
    assert read(rule, '{"e":1,"last_seen":1790000100250}').times == (1_790_000_100_250,)


# Payloads


def test_empty_payload_says_that_the_device_is_gone() -> None:
    for form, path in (("json", "value"), ("plain", ())):
        reading = read({"format": form, "path": path}, b"")
        assert (reading.value, reading.fault) == (None, "")


def test_numbers_with_commas_are_counted_from_one() -> None:
    assert read({"format": "csv", "path": "2"}, "1,2.5, 3").value == 2_500_000
    assert read({"format": "csv", "path": "3"}, "1,2.5, 3").value == 3_000_000
    for place in ("0", "4", "-1", "x"):
        assert read({"format": "csv", "path": place}, "1,2.5,3").value is None


# Units and notations


@pytest.mark.parametrize("record", [("88015.0", "Wh"), ("88.015", "kWh"), ("88.015", "KWH"), ("316854000", "J")])
def test_a_register_whose_unit_is_in_the_message_is_one_register(record: tuple[str, str]) -> None:
    rule = {"path": "reading.v", "unit_path": "reading.u", "unit": "kWh"}
    value, unit = record
    assert read(rule, json.dumps({"reading": {"v": value, "u": unit}})).value == 88_015_000
    assert read(rule, json.dumps({"reading": {"v": value}})).fault == "reading.v: no unit at reading.u"
    assert read(rule, json.dumps({"reading": {"v": value, "u": "VAh"}})).fault == "reading.v: in VAh, not kWh"


@pytest.mark.parametrize(
    ("number_form", "text", "value"),
    [
        ("en", "12.5 kWh", 12_500_000),
        ("en", "12.5kWh", 12_500_000),
        ("en", " 12500 Wh ", 12_500_000),
        ("en", "1.25e4 WH", 12_500_000),
        ("de", "1.234,5", 1_234_500_000),
        ("de", "1234,5 kWh", 1_234_500_000),
        ("de", "1.234.567", 1_234_567_000_000),
        ("de", "0,001", 1_000),
        ("hex", "0x0001E240", 123_456_000_000),
        ("hex", "1e240", 123_456_000_000),
    ],
)
def test_text_of_a_number_may_have_a_unit_a_decimal_comma_or_hexadecimal_digits(
    number_form: str, text: str, value: int
) -> None:
    assert read({"format": "plain", "number": number_form}, text).value == value
    assert read({"path": "a", "number": number_form}, json.dumps({"a": text})).value == value


@pytest.mark.parametrize(
    ("number_form", "text"),
    [
        *(("en", text) for text in ("1.234,5", "12,5 kWh", "twelve", "12 kWh more", "kWh")),
        *(("de", text) for text in ("1.5", "1.23,4", "12.34.567", "1,234.5", "twelve", ",5")),
        *(("hex", text) for text in ("12 kWh", "0x", "-1f", "1.5", "0" * 17)),
    ],
)
def test_what_is_no_number_says_what_it_was(number_form: str, text: str) -> None:
    reading = read({"path": "meter.total", "number": number_form}, json.dumps({"meter": {"total": text}}))
    assert reading.value is None
    assert reading.fault.startswith("meter.total: not "), reading.fault
    assert repr(text[:3])[:-1] in reading.fault


def test_text_for_no_value_is_none_in_every_notation() -> None:
    for form in ("de", "hex"):
        assert read({"path": "a", "number": form}, '{"a":"unavailable"}').fault == ""


# Registers in words, bytes and lines


def test_a_counter_in_two_words_of_a_message_is_one_number() -> None:
    rule = {"path": ["data.0", "data.1"], "factors": [65536, 1], "unit": "Wh"}
    assert read(rule, '{"data":[1,57920]}').value == 123_456_000
    assert read(rule, '{"data":[1]}').value is None


@pytest.mark.parametrize(
    ("rule", "payload"),
    [
        ({"format": "bytes", "float32": True}, bytes.fromhex("42f6e979")),
        ({"format": "plain", "number": "hex", "float32": True}, b"0x42F6E979"),
        ({"path": "raw", "number": "hex", "float32": True}, b'{"raw":"42f6e979"}'),
        ({"path": ["w.0", "w.1"], "factors": [65536, 1], "float32": True}, b'{"w":[17142,59769]}'),
        ({"path": ["w.1", "w.0"], "factors": [65536, 1], "float32": True}, b'{"w":[59769,17142]}'),
    ],
)
def test_a_four_byte_float_is_read_to_its_last_bit(rule: dict[str, Any], payload: bytes) -> None:
    assert read(rule, payload).value == 123_456_001  # 123.45600128173828125 kWh


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (b"\x7f\xc0\0\0", ""),
        (b"\x7f\x80\0\0", "not a usable number: 'Infinity'"),
        (b"\x42\xf6\xe9\x79\0", "not the bits of a 4-byte float"),
        (b"123456789", "9 bytes, more than 8"),
        (b"", ""),
    ],
)
def test_bytes_that_are_no_float_have_a_reason(payload: bytes, fault: str) -> None:
    reading = read({"format": "bytes", "float32": True}, payload)
    assert reading.value is None
    assert reading.fault.startswith(fault)
    assert bool(reading.fault) is bool(fault)


def test_bytes_are_a_whole_number() -> None:
    assert read({"format": "bytes", "unit": "Wh"}, b"\0\1\xe2\x40").value == 123_456_000


def test_lines_with_semicolons_have_their_time_and_are_samples() -> None:
    lines = "21.09.2026 16:15:00;1.234,5;7\r\n21.09.2026 16:15:15;1.234,6;7\r\n"
    rule = {"topic": "t", "format": "csv", "number": "de", "path": "2", "time": "1", "zone": "Europe/Berlin"}
    found = [(reading.value, reading.times) for reading in made([rule]).read("t", lines.encode())]
    assert found == [(1_234_500_000, (1_790_000_100_000,)), (1_234_600_000, (1_790_000_115_000,))]


@pytest.mark.parametrize("payload", [b"a" * 60_000, b"," * 60_000, b"a,=" * 20_000 + b" x"])
def test_a_hostile_line_takes_no_longer_than_its_length(payload: bytes) -> None:
    begin = process_time()
    read({"format": "csv", "path": "1"}, payload)
    assert process_time() - begin < 0.3


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ({"topic": ["a", "b", "c"], "path": ["x", "y"]}, "one path, or one for each"),
        ({"topic": ["a", "b"], "path": "x", "less": "y"}, "neither less nor float32"),
        ({"path": ["x", "y"], "factors": [1]}, "one number for each path"),
        ({"path": ["x", "y"], "factors": [1, 0]}, "above zero"),
        ({"path": "x", "less": "y", "float32": True}, "float32 has no less"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(rule: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        made([{"topic": "t", **rule}])


def test_telegram_has_its_registers_and_its_time() -> None:
    telegram = (
        "/ISk5\\2\r\n\r\n0-0:1.0.0(261025023000W)\r\n1-0:1.8.1(001234.567*kWh)\r\n1-0:1.8.2(000001.000*kWh)\r\n!0000"
    )
    reading = read({"format": "p1", "path": ("1-0:1.8.1", "1-0:1.8.2"), "time": "time"}, telegram)
    assert (reading.value, reading.times) == (1_235_567_000, (epoch_ms("2026-10-25T01:30:00Z"),))
    assert read({"format": "p1", "path": "1-0:2.8.1"}, telegram).value is None


@pytest.mark.parametrize(
    ("form", "payload", "fault"),
    [
        ("json", b'{"a":', "not JSON"),
        ("json", b"\xff\xfe\x00", "not JSON"),
        ("json", b"[" * 60_000, "not JSON"),
        ("json", b'{"a":true}', "not a number"),
        ("json", b'{"a":{}}', "not a number"),
        ("json", b'{"a":[]}', "a list of 0"),
        ("json", b'{"a":Infinity}', "not a usable number"),
        ("json", b'{"a":"' + b"x" * MAX_BYTES + b'"}', "bytes, more than"),
        ("plain", b"\xff", "no text"),
        ("csv", b"\xff", "no text"),
        ("p1", b"/ISk5 nothing", "no OBIS code"),
        ("p1", b"1-0:1.8.1(*kWh)", ""),
    ],
)
def test_broken_payload_has_a_reason(form: str, payload: bytes, fault: str) -> None:
    path: dict[str, Any] = {} if form == "plain" else {"path": "1" if form == "csv" else "a"}
    reading = read({"format": form, **path}, payload)
    assert reading.value is None
    assert fault in reading.fault


def test_telegram_of_openings_takes_no_longer_than_its_length() -> None:
    payload = b"1-1:1.1.1(" * 6500
    begin = process_time()
    assert read({"format": "p1", "path": "1-0:1.8.0"}, payload).fault == "not a telegram: no OBIS code in it"
    assert process_time() - begin < 0.3, "it took 1.4 s"


def test_restart_mark_that_is_no_text_can_be_stored() -> None:
    rule = {"topic": "t", "path": "k", "restart_path": "since"}
    payload = json.dumps({"k": 1, "since": "\ud800" + "x" * 60_000})
    mark = read(rule, payload).restart_mark
    assert mark is not None
    channel = Channel(restart_mark=mark)
    assert len(CHANNEL.dump_json(channel)) < 1000
    assert CHANNEL.validate_json(CHANNEL.dump_json(channel)) == channel


def test_a_channel_that_an_earlier_release_stored_is_read() -> None:
    channel = Channel(at=5, device=4, counter=Counter(at=5, raw=7, total=3), power=2)
    stored = json.loads(CHANNEL.dump_json(channel))
    for later in ("difference", "reported", "uptime"):
        del stored[later]
    for later in ("doubted", "fallen", "reported"):
        del stored["counter"][later]
    stored["absence"] = [1, 2, 3, 4]
    assert CHANNEL.validate_json(json.dumps(stored).encode()) == channel


def test_an_earlier_release_reads_the_points_of_a_stored_channel() -> None:
    point = CountedEnergy(1, 2, 3)
    stored = json.loads(CHANNEL.dump_json(Channel(late=[point], counter=Counter(before=point))))
    assert (stored["late"], stored["counter"]["before"]) == ([[1, 2, 3]], [1, 2, 3])


def test_bare_nan_in_json_is_no_value() -> None:
    assert read({"path": "a"}, '{"a":NaN}').fault == ""


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["1.5", "nan", "e"])
)
keys = st.sampled_from(["a", "t", "n", "v", "u"]) | st.text(max_size=3)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=12
)
telegrams = st.lists(
    st.tuples(st.sampled_from(["0-0:1.0.0", "1-0:1.8.0", "1-0:1.8.1"]), st.text("0123.*kWSe", max_size=14)), max_size=4
)
payloads = (
    st.binary(max_size=60)
    | trees.map(lambda tree: json.dumps(tree).encode())
    | telegrams.map(lambda lines: "\n".join(f"{code}({text})" for code, text in lines).encode())
    | st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass"))
)

EVERY_FORMAT = made(
    [
        {"topic": "t", "format": "plain"},
        {"topic": "t", "path": ("a", "*.v"), "less": "n", "time": "t", "restart_path": "u"},
        {"topic": "t", "path": "a", "time": "t", "sign": "negative"},
        {"topic": "t", "format": "bytes"},
        {"topic": "t", "format": "plain", "number": "hex", "float32": True},
        {"topic": "t", "path": ("a", "t"), "factors": (3, 1), "number": "de", "unit_path": "u"},
        {"topic": "t", "format": "csv", "path": "1"},
        {"topic": "t", "format": "p1", "path": ("1-0:1.8.0", "1-0:1.8.1"), "time": "time"},
    ]
)


@settings(max_examples=150, deadline=None)
@given(payloads)
def test_payload_of_any_kind_is_a_value_nothing_or_a_reason(payload: bytes) -> None:
    for reading in EVERY_FORMAT.read("t", payload):
        assert reading.value is None or 0 <= reading.value <= 2**53
        assert not (reading.fault and reading.value is not None)


@settings(max_examples=100, deadline=None)
@given(payloads, st.sampled_from(sorted(FORMATS)), st.sampled_from(["a", "time", "1", "a time", "1-0:1.8.1", ""]))
def test_formats_raise_nothing_but_unreadable(payload: bytes, form: str, path: str) -> None:
    with suppress(UnreadableError):
        parsed = FORMATS[form](payload)
        list(parsed.numbers())
        for sample in parsed.samples:
            sample.text(path)
            with suppress(UnreadableError):
                summed(sample.found(path), NOTATIONS["en"])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40) | st.datetimes().map(str) | st.text("0123456789SW", min_size=13, max_size=13))
def test_times_raise_nothing_but_unreadable(text: str) -> None:
    try:
        found = times_of(text, BERLIN)
    except UnreadableError:
        return
    assert 1 <= len(found) <= 2
    assert instant(found, int(datetime(2026, 9, 21, tzinfo=UTC).timestamp() * 1000), queued=True) is None or found
