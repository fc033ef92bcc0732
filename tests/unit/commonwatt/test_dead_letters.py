"""What dead letters say to a person, and how they are asked for."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from commonwatt.cli.main import make_app
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import Log
from commonwatt.protocol.dead_letter_words import counts_of, told, wanted
from commonwatt.protocol.dead_letters import DeadLetter, DeadLetterSource, Wanted, quarantined_blocks, source_text
from commonwatt.protocol.meter_messages import Level, Put
from gateway.changes import AddDeadLetters
from gateway.store.store import Store

NOON = 1_800_014_400


def dead_letter(source: int, content: bytes, reason: int = 129) -> DeadLetter:
    return DeadLetter(meter=7, log=source, reason=reason, generation=0, record_id=1, time=NOON, content=content)


PUT = Put(log=Log.HISTORY, generation=1, first_id=1, last_id=1, records=(bytes(36),)).pack()


@pytest.mark.parametrize(
    ("source", "content", "says"),
    [
        (DeadLetterSource.PUT_HISTORY, b"\x09" + PUT[1:], "put of version 9; this gateway speaks 1: 0901"),
        (DeadLetterSource.PUT_HISTORY, PUT[:-1], "put of 1 records, ids 1 to 1, in 63 bytes"),
        (DeadLetterSource.PUT_EVENT, bytes(1024), "the first kilobyte: 0000"),
        (DeadLetterSource.LEVEL, b"?", "level of 1 bytes"),
        (DeadLetterSource.OUTCOME, b'{"v":2}', "Outcome: v: Input should be 1"),
        (DeadLetterSource.COMMAND, b"[" * 400, "ControllerCommand"),
        (DeadLetterSource.BATCH, b"hello", "batch of 5 bytes"),
        (DeadLetterSource.STATUS, b"\x1b[2J\xff", "Heartbeat"),
        (DeadLetterSource.GATEWAY_OUTCOME, b"null", "ControllerOutcome"),
        (DeadLetterSource.BATCH_ACK, b"", "batch acknowledgement of 0 bytes"),
        (DeadLetterSource.UNKNOWN, b"\x01\x02", "0102"),
        (77, b"\x01\x02", "0102"),
    ],
)
def test_a_message_says_what_is_wrong_with_it_and_how_it_begins(source: int, content: bytes, says: str) -> None:
    text = told(dead_letter(source, content))
    assert says in text
    assert text.isprintable()


def test_an_implausible_level_says_how_much_it_claims() -> None:
    content = Level(state=1, time=NOON, level=99_000_000).pack()
    assert told(dead_letter(DeadLetterSource.LEVEL, content, reason=15)) == "12:00:00, 99000000 mWh"


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=1024) | st.sampled_from([PUT, PUT[:50], bytes(36)]))
@settings(max_examples=300)
def test_any_letter_at_all_can_be_told_and_judged(source: int, reason: int, content: bytes) -> None:
    assert told(dead_letter(source, content, reason)).isprintable()
    assert quarantined_blocks(dead_letter(source, content, 15), (1, 2, 3)) is None


@pytest.mark.parametrize("log", [1, 22, 255])
def test_every_door_has_a_name(log: int) -> None:
    assert source_text(log) == {1: "history", 22: "batch", 255: "log 255"}[log]


def test_options_say_which_letters_are_wanted() -> None:
    asked = wanted("7", "Wrong-Meter", "2h", NOON)
    assert asked == Wanted(meter=7, reasons=(1,), since=NOON - 7200)
    assert wanted(None, "240", "5", NOON) == Wanted(reasons=(240,), since=5)
    assert wanted(None, None, "999999d", NOON).since == 0


@pytest.mark.parametrize(
    ("meter", "reason", "since", "says"),
    [
        ("x", None, None, "meter: 'x'"),
        (str(2**64), None, None, "meter"),
        (None, "heat", None, "there are: ahead, bad batch, bad flag"),
        (None, None, "soon", "since: 'soon' is no time; give .* or a time ago"),
        (None, None, "9" * 30, "since"),
        (None, None, "2026-11-01", "since: 2026-11-01 has no offset"),
    ],
)
def test_a_wrong_option_is_named(meter: str | None, reason: str | None, since: str | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        wanted(meter, reason, since, NOON)


def test_letters_are_counted_by_reason_and_state_most_first() -> None:
    counts = counts_of([(4, "", 2), (15, "quarantined", 9), (15, "refused", 1)])
    assert [(c["reason"], c["state"], c["dead_letters"]) for c in counts] == [
        ("implausible", "quarantined", 9),
        ("unaligned", "", 2),
        ("implausible", "refused", 1),
    ]


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    store = Store.open(tmp_path / "gateway.db")
    store.commit(
        [
            AddDeadLetters(
                (
                    dead_letter(DeadLetterSource.OUTCOME, b"[]"),
                    dead_letter(DeadLetterSource.HISTORY, bytes(36), reason=5),
                )
            )
        ]
    )
    store.close()
    config = tmp_path / "gateway.toml"
    config.write_text('[gateway]\nmicrogrid = "r001"\n')
    return config


def test_command_of_the_gateway_shows_its_letters(gateway: Path) -> None:
    run = CliRunner(env={"COLUMNS": "120"})
    words = ["gateway", "dead-letters"]
    shown = run.invoke(make_app("gateway"), [*words, "--config", str(gateway)])
    assert (shown.exit_code, "Outcome: Input should be an object" in shown.output) == (0, True), shown.output
    some = run.invoke(make_app("gateway"), [*words, "-c", str(gateway), "--reason", "empty", "--json"])
    assert (some.output.count('"no"'), '"reason_text": "empty"' in some.output) == (1, True)
    counted = run.invoke(make_app("gateway"), [*words, "-c", str(gateway), "--counts", "--meter", "7"])
    assert "message malformed" in counted.output
