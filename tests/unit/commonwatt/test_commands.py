"""Commands and outcomes: they read back, ids survive any JSON reader, and faults are named."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.cli.options import show
from commonwatt.model.exceptions import ProtocolError
from commonwatt.protocol.commands import KINDS, VERBS, Command, HeldState, Kind, Outcome, verb
from commonwatt.protocol.controller_commands import ControllerCommand, ControllerOutcome
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import MAX_COMMAND_BYTES, Message, unpack_json
from commonwatt.protocol.meter_messages import Refusal

BIG = 2**64 - 1
COMMAND: dict[str, object] = {
    "v": 1,
    "id": "r001-share_power_on-9",
    "cmd": "share_power_on",
    "issuer": "r001",
    "epoch": [1, 0],
    "seq": 4,
    "until": 1790001020,
}
OUTCOME: dict[str, object] = {
    "v": 1,
    "id": "x",
    "cmd": "get",
    "result": "done",
    "time": 5,
    "bits": 17,
    "push": True,
    "history": {"generation": 1, "first": str(BIG - 1), "next": str(BIG)},
}
MODELS: list[type[Message]] = [Command, Outcome, ControllerCommand, ControllerOutcome, Heartbeat]


def command(**keys: object) -> Command:
    return unpack_json(Command, json.dumps(COMMAND | keys).encode())


def fault_of(model: type[Message], content: dict[str, object]) -> str:
    with pytest.raises(ProtocolError) as caught:
        unpack_json(model, json.dumps(content).encode())
    assert caught.value.code == Refusal.MALFORMED
    return str(caught.value)


@pytest.mark.parametrize("cmd", sorted({*(cmd for cmd, _ in VERBS.values()), "initialize", "stop", "get", "put"}))
def test_every_command_reads_back_as_it_was_sent(cmd: str) -> None:  # req: M5
    for end in ({"until": None, "for_s": 60}, {"until": 1790001020}):
        values = {"mode": "lossy", "state": "off", "weight": 3, "import_limit_w": 0, "what": "events"}
        sent = command(cmd=cmd, **end, **values, from_id="1", to_id=str(BIG))
        assert unpack_json(Command, sent.pack()) == sent


def test_a_command_has_one_end() -> None:
    assert fault_of(Command, COMMAND | {"for_s": 60}) == "Command: until and for_s exclude each other"


@pytest.mark.parametrize(
    ("model", "content", "key"),
    [
        (Outcome, {"sent": {"3": 2**53 + 1}}, "sent"),
        (Outcome, {"held": {"sharing": {"value": "on", "epoch": [1, 2], "seq": 3, "until": 10**30}}}, "until"),
        (Outcome, {"held": {"sharing": {"value": "on" * 20, "epoch": [1, 2], "seq": 3}}}, "value"),
    ],
)
def test_every_number_and_text_has_a_bound(model: type[Message], content: dict[str, object], key: str) -> None:
    assert key in fault_of(model, OUTCOME | content)


def test_outcome_reads_back_as_it_was_sent() -> None:
    held = {kind: {"value": "on", "epoch": [1, 2], "seq": 3, "until": 9, "weight": 2} for kind in Kind}
    content = OUTCOME | {
        "held": held,
        "epoch": [1, 2],
        "minimum_percent": 50,
        "capacity_mwh": 9,
        "sent": {"through": 4},
    }
    outcome = unpack_json(Outcome, json.dumps(content).encode())
    assert unpack_json(Outcome, outcome.pack()) == outcome
    assert json.loads(outcome.pack()) == content


def test_outcome_of_a_later_version_is_read_without_the_kinds_that_are_unknown() -> None:
    held = {"sharing": {"value": "on", "epoch": [1, 2], "seq": 3}}
    later = held | {"ev_charging": {"power_w": 7}}
    outcome = unpack_json(Outcome, json.dumps(OUTCOME | {"held": later}).encode())
    assert outcome == unpack_json(Outcome, json.dumps(OUTCOME | {"held": held}).encode())
    assert list(outcome.held) == [Kind.SHARING]
    with pytest.raises(ProtocolError):
        unpack_json(Outcome, json.dumps(OUTCOME | {"held": list(later)}).encode())


def test_gap_request_and_its_answer_read_back() -> None:
    content = {"v": 1, "id": "g", "cmd": "get", "until": 5, "blocks": [[str(BIG), 3, 7, "f" * 15]]}
    request = unpack_json(ControllerCommand, json.dumps(content).encode())
    assert request.blocks == [(BIG, 3, 7, "f" * 15)]
    assert unpack_json(ControllerCommand, request.pack()) == request
    answer = {"v": 1, "id": "g", "cmd": "get", "result": "partial", "time": 5, "sent": 0, "absent": content["blocks"]}
    outcome = unpack_json(ControllerOutcome, json.dumps(answer).encode())
    assert json.loads(outcome.pack()) == answer


@given(st.integers(0, BIG))
def test_id_is_text_so_no_reader_rounds_it(number: int) -> None:
    sent = command(cmd="get", from_id=str(number))
    assert sent.from_id == number
    assert json.loads(sent.pack())["from_id"] == str(number)


def test_absent_keys_are_not_sent() -> None:
    assert json.loads(command().pack()) == COMMAND


@pytest.mark.parametrize(
    ("kind", "value"), [*VERBS, (Kind.IMPORT_LIMIT, "0"), (Kind.IMPORT_LIMIT, str(2**53)), (Kind.PUT_PERIOD, "900")]
)
def test_every_desired_state_has_a_command_that_asks_for_it(kind: Kind, value: str) -> None:
    cmd, keys = verb(kind, value)
    assert command(cmd=cmd, **keys).desired() == (kind, value)
    assert KINDS[cmd] is kind
    assert HeldState(value=value, epoch=(1, 0), seq=1).value == value


def test_state_ends_at_its_time_or_after_its_duration_or_never() -> None:
    assert command().end(100) == 1790001020
    assert command(until=None, for_s=30).end(100) == 130
    assert command(until=None).end(100) is None


def test_unknown_keys_are_ignored_so_a_later_version_may_add_some() -> None:
    assert command(colour="green", at={"x": [1]}) == command()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("v", 2),
        ("id", "x" * 65),
        ("cmd", "explode"),
        ("epoch", [1]),
        ("epoch", [1, 2**16]),
        ("seq", 2**53 + 1),
        ("until", 2**32),
        ("for_s", 1.5),
        ("weight", 1001),
        ("from_id", 5),
        ("to_id", str(2**64)),
        ("trust", 4),
    ],
)
def test_bad_key_is_named(key: str, value: object) -> None:
    assert fault_of(Command, COMMAND | {key: value}).startswith(f"Command: {key}")


@pytest.mark.parametrize(
    ("model", "content", "key"),
    [
        (Outcome, OUTCOME | {"result": "perhaps"}, "result"),
        (Outcome, OUTCOME | {"minimum_percent": 101}, "minimum_percent"),
        (Outcome, OUTCOME | {"capacity_mwh": 0}, "capacity_mwh"),
        (Outcome, OUTCOME | {"held": {"sharing": {}}}, "held.sharing.value"),
        (Outcome, OUTCOME | {"history": {"generation": 1, "first": 3, "next": "5"}}, "history.first"),
        (ControllerCommand, {"id": "a", "cmd": "get"}, "until"),
        (ControllerCommand, {"id": "a", "cmd": "get", "until": 5, "blocks": [["7", 3, 7, "f" * 16]]}, "blocks.0.3"),
        (ControllerCommand, {"id": "a", "cmd": "get", "until": 5, "blocks": [[7, 3, 7, "f"]]}, "blocks.0.0"),
        (ControllerCommand, {"id": "a", "cmd": "schedule", "until": 5, "periods": {"relay_s": 1}}, "periods.relay_s"),
        (ControllerCommand, {"id": "a", "cmd": "schedule", "until": 5, "periods": {"put_s": 90}}, "periods.put_s"),
        (ControllerCommand, {"id": "a", "cmd": "schedule", "until": 5, "periods": {"put_s": 960}}, "periods.put_s"),
        (ControllerCommand, {"id": "a", "cmd": "schedule", "until": 5, "periods": {"nap_s": 60}}, "periods.nap_s"),
        (ControllerOutcome, {"id": "a", "cmd": "get", "result": "done"}, "time"),
    ],
)
def test_bad_key_deep_in_a_message_is_named(model: type[Message], content: dict[str, object], key: str) -> None:
    assert f"{model.__name__}: {key}" in fault_of(model, content)


def test_oversize_message_is_refused_before_it_is_read() -> None:
    padding = MAX_COMMAND_BYTES - len(json.dumps(COMMAND | {"pad": ""}).encode())
    assert command(pad="x" * padding) == command()
    with pytest.raises(ProtocolError) as caught:
        unpack_json(Command, json.dumps(COMMAND | {"pad": "x" * (padding + 1)}).encode())
    assert caught.value.code == Refusal.TOO_LARGE


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\x00",
        b"null",
        b"[]",
        b"5",
        b'"x"',
        b"{",
        b'{"v":NaN}',
        b'{"id":"\xff\xfe"}',
        b'{"id":"\\ud800","cmd":"get","issuer":"a","epoch":[0,0]}',
        b"[" * 16_000,
        b'{"v":' + b"9" * 16_000 + b"}",
        b'{"v":1,"epoch":[' + b"9" * 6_000 + b",0]}",
        b'{"v":1,"time":1e999}',
    ],
    ids=range(14),
)
def test_junk_is_a_protocol_error_and_nothing_else(model: type[Message], junk: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_json(model, junk)


@given(
    st.dictionaries(
        st.sampled_from([*COMMAND, *OUTCOME, "blocks", "periods", "held"]),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just("share_power_on")),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)
            ),
            max_leaves=6,
        ),
    )
)
def test_any_json_reads_or_is_a_protocol_error(content: dict[str, object]) -> None:
    for model in MODELS:
        with suppress(ProtocolError):
            unpack_json(model, json.dumps(content).encode())


@pytest.mark.parametrize("model", [Outcome, ControllerOutcome])
def test_a_reason_of_another_machine_steers_no_terminal_and_ends_no_line(model: type[Message]) -> None:
    """Alarms and tables have it in their lines; escaped, it fits into the message again."""
    answer = OUTCOME | {"reason": "no\n- All is well \x1b[2J" + "\x07" * 200}
    read = unpack_json(model, json.dumps(answer).encode())
    text = json.loads(read.pack())["reason"]
    assert text.startswith("no\\x0a- All is well \\x1b[2J\\x07")
    assert text.isprintable()
    assert unpack_json(model, read.pack()) == read


def test_a_table_shows_received_text_without_what_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show("controllers", [{"why": "x\x1b[2J\ny"}], ["why"])
    assert "x\\x1b[2J\\x0ay" in capsys.readouterr().out
