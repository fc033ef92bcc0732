"""Files that are damaged, or hold what no program of ours would write: one line that names the file, no traceback."""

import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from commonwatt.codec.dumps import read_dump
from commonwatt.config.files import check_file
from commonwatt.identity.devices import load_devices, load_tokens
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.clock import load_clock, save_clock, wall_clock
from commonwatt.town.loading import load_town
from commonwatt.town.registry import load_registry, registry_of, save_registry

DEEP = "[" * 100_000
LONG = "9" * 10_000
BLOCK = {"kind": "block", "meter": "7", "type": 3, "quarter": 5, "values": [1] * 60, "quality": "2" * 60, "extras": []}
EVENT = {"kind": "event", "meter": "7", "generation": 1, "id": "1", "previous": 0, "new": 1, "time": 5}
TOWN = '[[microgrid]]\nid = "r001"\nkind = "residential"\nhouses = 1\n'

LOADERS: dict[str, Callable[[Path], object]] = {
    "registry": load_registry,
    "devices": load_devices,
    "tokens": load_tokens,
    "clock": load_clock,
    "town": load_town,
    "settings": check_file,
}


def fault(load: Callable[[Path], object], path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        DEEP,
        '{"a":' * 50_000,
        f"a = {LONG}",
        f'{{"a":{LONG}}}',
        bytes(262_144),
    ],
    ids=["empty", "no UTF-8", "null", "list", "text", "cut", "deep", "deeper", "long TOML", "long JSON", "256 KB"],
)
def test_a_file_that_is_something_else_is_one_clear_fault(name: str, content: str | bytes, tmp_path: Path) -> None:
    assert "\n" not in fault(LOADERS[name], tmp_path / "file", content).strip()


def test_a_byte_order_mark_before_a_toml_file_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "town.toml"
    path.write_text(TOWN, encoding="utf-8-sig")
    assert list(load_town(path).microgrids) == ["r001"]
    path.write_text(TOWN.replace("houses", "hauses"), encoding="utf-8-sig")
    with pytest.raises(ConfigError, match=r"line 4: .*hauses"):
        load_town(path)
    path.write_text("[[microgrid]]\nhauses = 1\n", encoding="utf-8-sig")
    with pytest.raises(ConfigError, match=r"line 1: .*missing"):
        load_town(path)


@pytest.mark.parametrize("name", ["registry", "devices", "tokens", "clock"])
def test_a_key_that_is_there_twice_is_a_fault(name: str, tmp_path: Path) -> None:
    assert "'7' is there twice" in fault(LOADERS[name], tmp_path / "file", '{"7": "a", "7": "b"}')


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("devices", {"7": {"role": "king", "microgrid": "r001", "token_sha256": "x"}}, "king"),
        (
            "devices",
            {"7": {"role": "meter", "microgrid": "r001", "token_sha256": "\xe9" * 64}},
            "7: token_sha256 is no digest",
        ),
        (
            "devices",
            {"7": {"role": "meter", "microgrid": "r001", "token_sha256": "\ud800"}},
            "7: token_sha256 is no digest",
        ),
        ("devices", {"7": {"role": "meter", "microgrid": 5, "token_sha256": "x"}}, "7: microgrid is no text"),
        ("devices", {"7": {"role": "meter"}}, "microgrid"),
        ("devices", {"7": "x"}, "7: no object"),
        ("tokens", {"7": 5}, "that of 7 is no token"),
        ("tokens", {"7": "\ud800"}, "that of 7 is no token"),
        ("clock", {"boot": "x"}, "ceiling is missing"),
    ],
)
def test_a_file_of_the_right_form_with_wrong_content_says_where(
    name: str, content: object, says: str, tmp_path: Path
) -> None:
    assert says in fault(LOADERS[name], tmp_path / "file", json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value"),
    [("speed", 0), ("speed", -1), ("speed", "60"), ("origin", True), ("origin", 1e300), ("ceiling", [])],
)
def test_a_clock_that_can_be_none_is_a_fault(key: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    save_clock(path, wall_clock())
    assert load_clock(path).speed == 1
    content = json.loads(path.read_text()) | {key: value}
    assert f"{key} is no number it can be" in fault(load_clock, path, json.dumps(content))


@pytest.mark.parametrize("number", ["nan", "inf", "1e400", "-inf", "9" * 400])
@pytest.mark.parametrize("key", ["latitude", "battery_hours", "house_average_w", "peak_factor", "seed"])
def test_a_town_of_impossible_numbers_is_a_fault(key: str, number: str, tmp_path: Path) -> None:
    assert f"town.{key}" in fault(load_town, tmp_path / "town.toml", f"[town]\n{key} = {number}\n{TOWN}")


def test_a_registry_with_a_meter_twice_or_a_wrong_number_says_so(tmp_path: Path) -> None:
    (tmp_path / "town.toml").write_text(TOWN)
    path = tmp_path / "registry.json"
    save_registry(path, registry_of(load_town(tmp_path / "town.toml").microgrids["r001"]))
    good = json.loads(path.read_text())
    twice = good | {"meters": [good["meters"][0]] * 2}
    assert "a meter is there twice" in fault(load_registry, path, json.dumps(twice))
    for key, value in (("id", "99999999999999999999"), ("service_amps", 0), ("record_types", [9]), ("account", -1)):
        wrong = good | {"meters": [good["meters"][0] | {key: value}]}
        assert f"meters.0.{key}" in fault(load_registry, path, json.dumps(wrong))


# Dumps

GOOD_LINES = [json.dumps(BLOCK), json.dumps(EVENT)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "7",
        "{",
        DEEP,
        '{"kind": "ghost"}',
        json.dumps(BLOCK | {"values": [1]}),
        json.dumps(BLOCK | {"values": [1.5] * 60}),
        json.dumps(BLOCK | {"values": [2**70] * 60}),
        json.dumps(BLOCK | {"quality": "3" * 60}),
        json.dumps(BLOCK | {"meter": -1}),
        json.dumps(BLOCK | {"type": 999}),
        json.dumps(BLOCK | {"extras": [[60, 1]]}),
        json.dumps(BLOCK | {"extras": 5}),
        json.dumps({k: v for k, v in BLOCK.items() if k != "quarter"}),
        json.dumps(EVENT | {"time": "soon"}),
        json.dumps(EVENT | {"new": 2**16}),
        json.dumps(EVENT)[:-5],
        '{"kind": "event", "meter": ' + LONG + "}",
    ],
)
def test_a_damaged_line_of_a_dump_is_named(line: str) -> None:
    with pytest.raises(ConfigError, match="dump: line 3: not a line of a dump"):
        read_dump(io.StringIO("\n".join([*GOOD_LINES, line, *GOOD_LINES])))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*BLOCK, *EVENT]), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from([BLOCK, EVENT]), st.sampled_from([*BLOCK, *EVENT]), JSON, st.integers(0, 200))
@example(BLOCK, "quality", ["2"] * 60, 0)
@settings(max_examples=300)
def test_no_line_of_a_dump_gives_a_traceback(line: dict[str, object], key: str, value: object, cut: int) -> None:
    text = json.dumps(line | {key: value})
    for content in (text, text[:cut]):
        # Whatever is raised is what names the line.
        with suppress(ConfigError):
            read_dump(io.StringIO(content))


@given(st.sampled_from(sorted(LOADERS)), st.binary(max_size=200) | JSON.map(lambda x: json.dumps(x).encode()))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_gives_a_traceback(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with suppress(ConfigError):
        LOADERS[name](path)
