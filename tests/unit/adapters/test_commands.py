"""A foreign device is told, seen to obey, told again, and reported if it does not (M5, M8)."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.commands import commands_of
from adapters.mapping.payloads import MAX_BYTES
from adapters.messages import Arrived
from adapters.store import CHANNELS
from commonwatt.config.adapter import AdapterCommand, AdapterSettings, fill
from commonwatt.device.store import DeviceStore, open_store
from commonwatt.model.exceptions import SettingError
from commonwatt.model.records import Log
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.meter_messages import PutAck
from tests.unit.adapters.test_core import RULES, Bench, T

SHARE = {
    "preset": "mine",
    "kind": "share",
    "topic": "cmd/{device}",
    "on": '{"give": {watts}, "s": {seconds}}',
    "off": '{"give": 0}',
    "confirm": {"topic": "{device}/mode", "path": "mode", "on": "giving", "off": "idle"},
    "confirm_s": 30,
    "failsafe": "watchdog",
    "failsafe_s": 120,
    "repeat_s": 60,
}
ISOLATE = {
    "preset": "mine",
    "kind": "isolate",
    "topic": "cmd/{device}",
    "on": "open",
    "off": "permit",
    "confirm": {"topic": "{device}/switch", "on": "open", "off": "closed"},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeviceStore]:
    opened = open_store(tmp_path / "adapter.db", CHANNELS)
    yield opened
    opened.connection.close()


Start = Callable[..., Bench]


@pytest.fixture
def start(store: DeviceStore) -> Start:
    """Return what starts an adapter whose one meter has a battery and these commands."""

    def make(*commands: dict[str, object], **meter: object) -> Bench:
        obeys = [command["kind"] for command in commands]
        given = {"preset": "mine", "capacity_wh": 10_000, "watts": 2000, "obeys": obeys} | meter
        return Bench(store, command=commands, **given)

    return make


def told(bench: Bench, at: float) -> list[bytes]:
    """Return what the device is told at a time."""
    bench.do(bench.adapter.tick(at))
    return [payload for _, payload in bench.to_devices()]


def outcomes(bench: Bench) -> list[tuple[str, str]]:
    """Return result and stage of each outcome since the last call, and forget what was published."""
    found = [json.loads(m.payload) for m in bench.published if m.topic.endswith("/out")]
    bench.published.clear()
    return [(one["result"], one["device"]["states"]["sharing"]["stage"]) for one in found]


def mode(bench: Bench, state: str, at: float, *, retained: bool = False) -> None:
    bench.hear("house/mode", {"mode": state}, at, retained=retained)


def test_done_is_answered_when_the_device_shows_that_it_obeys(start: Start) -> None:
    bench = start(SHARE)
    bench.command("share_power_on", T, seq=1, for_s=900)
    assert [m.payload for m in bench.published] == [b'{"give": 2000, "s": 900}'], "and no outcome"
    bench.published.clear()
    bench.command("share_power_on", T + 10, seq=1, for_s=900)
    assert not bench.published, "the same again is answered as little"
    mode(bench, "giving", T + 12)
    bench.do(bench.adapter.tick(T + 12))
    assert outcomes(bench) == [("done", "obeys")]
    bench.command("share_power_on", T + 20, seq=2, for_s=900)
    assert outcomes(bench) == [("done", "obeys")], "a renewal is answered at once"
    assert told(bench, T + 61) == [b'{"give": 2000, "s": 859}']
    bench.command("share_power_off", T + 70, seq=3)
    assert [payload for _, payload in bench.to_devices()] == [b'{"give": 0}']
    mode(bench, "idle", T + 71)
    bench.do(bench.adapter.tick(T + 71))
    assert outcomes(bench) == [("done", "off")]


def test_a_device_that_does_not_obey_is_told_three_times_and_then_its_state_is_withdrawn(start: Start) -> None:
    bench = start(SHARE)
    bench.command("share_power_on", T, seq=1, for_s=900)
    bench.to_devices()
    mode(bench, "holding", T + 5)
    assert [at for at in range(1, 90) if told(bench, T + at)] == [30, 60]
    bench.do(bench.adapter.tick(T + 90))
    (outcome,) = [json.loads(m.payload) for m in bench.published if m.topic.endswith("/out")]
    assert (outcome["result"], outcome["reason"]) == ("refused", "should be on, and shows 'holding'")
    assert outcome["held"]["sharing"]["value"] == "off"
    state = outcome["device"]["states"]["sharing"]
    assert (state["stage"], state["since"], state["failsafe_s"]) == ("disobeys", T + 90, 120)
    bench.published.clear()
    assert told(bench, T + 91) == [b'{"give": 0}'], "what it may do late ends"
    mode(bench, "idle", T + 92)
    assert not told(bench, T + 1000)
    mode(bench, "giving", T + 1001)
    assert told(bench, T + 1001) == [b'{"give": 0}'], "it obeyed late"


def test_a_state_of_megabytes_is_not_read(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = start(SHARE)
    bench.command("share_power_on", T, seq=1, for_s=900)
    bench.published.clear()
    monkeypatch.delattr("adapters.commands.json_of")
    mode(bench, "giving" + " " * MAX_BYTES, T + 12)
    bench.do(bench.adapter.tick(T + 12))
    assert not bench.published, "it shows nothing"


def test_a_state_that_ends_by_itself_is_told_again_and_then_reported(start: Start) -> None:
    bench = start(SHARE)
    bench.command("share_power_on", T, seq=1, for_s=900)
    mode(bench, "giving", T + 1)
    bench.do(bench.adapter.tick(T + 1))
    bench.published.clear()
    mode(bench, "idle", T + 50)  # The device restarted and forgot.
    assert told(bench, T + 50) == [b'{"give": 2000, "s": 850}']
    assert bench.adapter.tally["obedience", "ended_by_itself"] == 1
    for at in range(51, 141):
        bench.do(bench.adapter.tick(T + at))
    assert outcomes(bench) == [("refused", "disobeys")]


def test_at_a_start_the_state_is_read_before_any_command_and_what_is_on_unasked_is_ended(start: Start) -> None:
    bench = start(SHARE)
    bench.do(bench.adapter.reconnected("", 0, T))
    assert not told(bench, T)
    mode(bench, "giving", T + 1, retained=True)
    assert told(bench, T + 1) == [b'{"give": 0}']
    mode(bench, "idle", T + 2)
    assert not told(bench, T + 100)


def test_a_device_that_was_never_commanded_and_shows_nothing_is_left_alone(start: Start) -> None:
    bench = start(SHARE)
    bench.do(bench.adapter.reconnected("", 0, T))
    assert not [at for at in range(0, 600, 5) if told(bench, T + at)]


def test_what_a_person_switches_is_left_alone_while_the_adapter_runs(start: Start) -> None:
    reduce = SHARE | {"kind": "reduce", "topic": "cmd/{device}/load", "on": "less", "off": "all"}
    bench = start(SHARE, reduce)
    bench.do(bench.adapter.reconnected("", 0, T))
    mode(bench, "idle", T + 1, retained=True)
    assert not told(bench, T + 1)
    mode(bench, "giving", T + 50)
    assert not told(bench, T + 50), "by hand, or by the device's own schedule"
    bench.command("share_power_on", T + 60, seq=1, for_s=900)
    bench.command("share_power_off", T + 70, seq=2)
    assert (b'{"give": 0}') in [payload for _, payload in bench.to_devices()], "what we told ends"


def test_a_load_that_was_never_commanded_is_not_switched_on_at_a_start(start: Start) -> None:
    bench = start(SHARE | {"kind": "reduce"})
    bench.do(bench.adapter.reconnected("", 0, T))
    mode(bench, "giving", T + 1, retained=True)
    assert not told(bench, T + 1), "a person switched it off"


def test_what_goes_on_over_a_restart_of_the_adapter_is_not_interrupted(start: Start) -> None:
    bench = start(SHARE)
    bench.command("share_power_on", T, seq=1, for_s=900)
    mode(bench, "giving", T + 1)
    bench.do(bench.adapter.tick(T + 1))
    bench.start()
    bench.published.clear()
    bench.do(bench.adapter.reconnected("", 0, T + 5))
    assert not told(bench, T + 5)
    mode(bench, "giving", T + 6, retained=True)
    assert told(bench, T + 6) == [b'{"give": 2000, "s": 894}'], "its watchdog is fed"


def test_one_command_is_in_flight_and_the_newest_wish_wins(start: Start) -> None:
    bench = start(
        SHARE, at_most := SHARE | {"kind": "reduce", "topic": "cmd/{device}/load", "on": "less", "off": "all"}
    )
    assert at_most
    bench.command("share_power_on", T, seq=1, for_s=900)
    bench.to_devices()
    bench.command("reduce_power_on", T + 1, seq=1, for_s=900)
    bench.command("share_power_off", T + 2, seq=2)
    assert not bench.to_devices(), "the first is awaited"
    mode(bench, "idle", T + 20)
    assert not told(bench, T + 20), "it may be slow"
    assert told(bench, T + 30) == [b'{"give": 0}'], "no state is left without a command that ends it"
    mode(bench, "idle", T + 31)
    assert told(bench, T + 31) == [b"less"]


def test_relays_are_told_no_more_often_than_their_makers_allow(start: Start) -> None:
    bench = start(SHARE | {"at_most_each_s": 100})
    bench.command("share_power_on", T, seq=1, for_s=900)
    mode(bench, "giving", T + 1)
    bench.command("share_power_off", T + 2, seq=2)
    bench.to_devices()
    assert [at for at in range(3, 130) if told(bench, T + at)] == [100]


def test_without_confirm_the_outcome_says_unconfirmed(start: Start) -> None:
    command = {key: value for key, value in SHARE.items() if key != "confirm"}
    bench = start(command)
    bench.command("share_power_on", T, seq=1, for_s=900)
    assert outcomes(bench) == [("done", "unconfirmed")]


def test_a_command_that_can_not_be_sent_is_not_done(start: Start) -> None:
    bench = start({key: value for key, value in SHARE.items() if key != "confirm"})
    bench.adapter.commands.reached = frozenset()
    bench.command("share_power_on", T, seq=1, for_s=900)
    assert not bench.published
    for at in range(0, 100, 5):
        bench.do(bench.adapter.tick(T + at))
    assert outcomes(bench) == [("refused", "disobeys")]


@pytest.mark.parametrize(("watts", "stage"), [(-1990, "obeys"), (-900, "asked"), (1990, "asked")])
def test_power_confirms_by_direction_and_share(start: Start, watts: int, stage: str) -> None:
    confirm = {"topic": "{device}/power", "by": "power", "sign": "negative"}
    bench = start(SHARE | {"confirm": confirm})
    bench.command("share_power_on", T, seq=1, for_s=900)
    bench.hear("house/power", str(watts), T + 3)
    bench.do(bench.adapter.tick(T + 3))
    assert bench.adapter.commands.loops[0].stage.value == stage


def test_a_will_is_at_the_broker_before_the_device_is_told_and_until_it_has_ended(start: Start) -> None:
    command = SHARE | {"failsafe": "will", "failsafe_s": None}
    bench = start(command)
    assert not bench.adapter.commands.wills("")
    bench.command("share_power_on", T, seq=1, for_s=900)
    assert not bench.to_devices()
    assert bench.adapter.commands.wills("")[77, Kind.SHARING].payload == b'{"give": 0}'
    bench.adapter.commands.armed = frozenset({(77, Kind.SHARING)})
    assert told(bench, T + 1) == [b'{"give": 2000, "s": 899}']
    mode(bench, "giving", T + 2)
    bench.command("share_power_off", T + 10, seq=2)
    assert bench.adapter.commands.wills("")
    mode(bench, "idle", T + 11)
    bench.do(bench.adapter.tick(T + 11))
    assert not bench.adapter.commands.wills("")


def test_a_battery_that_nothing_would_end_is_not_told_to_share_unless_a_person_accepts_it(start: Start) -> None:
    unsafe = SHARE | {"failsafe": "none", "failsafe_s": None}
    bench = start(unsafe)
    bench.command("share_power_on", T, seq=1, for_s=900)
    (outcome,) = [json.loads(m.payload) for m in bench.published]
    assert (outcome["result"], outcome["device"]["states"]["sharing"]["failsafe"]) == ("refused", "none")
    assert "accept_unsafe" in outcome["device"]["states"]["sharing"]["finding"]
    accepted = start(unsafe, accept_unsafe=True)
    accepted.command("share_power_on", T, seq=2, for_s=900)
    assert accepted.to_devices()


def test_a_switch_at_the_boundary_opens_and_is_closed_by_nothing_but_a_permit(start: Start) -> None:
    bench = start(ISOLATE)
    bench.do(bench.adapter.reconnected("", 0, T))
    bench.hear("house/switch", "open", T + 1, retained=True)
    assert not told(bench, T + 1), "open by hand: it stays open"
    bench.hear("house/switch", "closed", T + 2)
    bench.command("isolate", T + 3, seq=1, for_s=100, state="on")
    assert [payload for _, payload in bench.to_devices()] == [b"open"]
    bench.hear("house/switch", "open", T + 4)
    assert not [at for at in range(5, 300, 5) if told(bench, T + at)], "the end of the command permits nothing"
    bench.command("isolate", T + 300, seq=2, for_s=100, state="on")
    assert not bench.to_devices(), "it is open"
    bench.command("isolate", T + 310, seq=3, state="off")
    assert [payload for _, payload in bench.to_devices()] == [b"permit"]


@pytest.mark.parametrize("before", ["", "\ufeff", "set ", "[0]\n"])
def test_a_device_s_name_stays_a_text_of_json_whatever_stands_before_it(before: str) -> None:
    filled = fill(before + '{"id": "{device}", "give": {watts}}', {"device": 'a", "give": 9, "x": "\\', "watts": 5})
    assert json.loads(filled.removeprefix(before)) == {"id": 'a", "give": 9, "x": "\\', "give": 5}
    assert fill("{device} on", {"device": 'a"'}) == 'a" on'


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"on": '{"give": }'}, "is no JSON once its places are filled"),
        ({"on": "{volts}"}, "{volts} is no place"),
        ({"kind": "isolate", "confirm": None}, "isolate needs confirm"),
        ({"kind": "isolate", "failsafe": "will", "failsafe_s": None}, "no broker may close a boundary"),
        ({"failsafe_s": None}, "failsafe_s is the maker's time"),
        ({"repeat_s": 61}, "repeat_s is at most half of failsafe_s, 60"),
        ({"topic": "cmd/#"}, "must be one topic"),
    ],
)
def test_a_command_that_can_not_work_is_named(changed: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why.replace("{", r"\{")):
        AdapterCommand.model_validate(SHARE | changed)


@pytest.mark.parametrize(
    ("meter", "why"),
    [
        ({"obeys": ["reduce"]}, "preset mine has no command reduce; it has share; leave it out"),
        ({"obeys": "share"}, "share of preset mine needs watts"),
        ({"obeys": ["share", "share"], "watts": 5}, "meter 77 obeys the same command at cmd/house"),
    ],
)
def test_a_meter_that_can_not_obey_is_named(meter: dict[str, object], why: str) -> None:
    given = {"id": 77, "source": "house", "preset": "mine", "capacity_wh": 10_000} | meter
    settings = AdapterSettings.model_validate({"microgrid": "r", "meter": [given], "rule": RULES, "command": [SHARE]})
    with pytest.raises(SettingError, match=why):
        commands_of(settings)


def test_a_text_in_json_stays_json(start: Start) -> None:
    command = SHARE | {"on": '{"name": "{device}", "give": {watts}}', "topic": "cmd/x"}
    bench = start(command, source='my "battery"')
    bench.command("share_power_on", T, seq=1, for_s=900)
    ((_, payload),) = bench.to_devices()
    assert json.loads(payload) == {"name": 'my "battery"', "give": 2000}
    assert Kind.SHARING in bench.adapter.meters[77].description.commandable


def test_a_battery_stops_giving_when_its_gateway_is_gone_and_goes_on_when_it_is_back(start: Start) -> None:
    bench = start(SHARE)
    bench.command("share_power_on", T, seq=1, for_s=900)
    mode(bench, "giving", T + 1)
    assert [at for at in range(2, 200) if b'"give": 0' in b"".join(told(bench, T + at))] == [180]
    mode(bench, "idle", T + 200)
    bench.command("put", T + 210, time=T + 210, trust=1)
    assert [payload for _, payload in bench.to_devices()] == [b'{"give": 2000, "s": 690}']


def test_a_message_after_the_end_of_a_command_is_no_permit(start: Start) -> None:
    bench = start(ISOLATE)
    bench.command("isolate", T, seq=1, for_s=100, state="on")
    bench.hear("house/switch", "open", T + 1)
    told(bench, T + 99)
    bench.command("put", T + 100, time=T + 100, trust=1)
    assert not bench.to_devices(), "the end of the command permits nothing"


def test_a_permit_after_the_end_of_a_command_is_sent_once(start: Start) -> None:
    bench = start(ISOLATE)
    bench.command("isolate", T, seq=1, for_s=100, state="on")
    bench.hear("house/switch", "open", T + 1)
    bench.to_devices()
    assert not told(bench, T + 101)
    bench.command("isolate", T + 200, seq=2, state="off")
    assert [payload for _, payload in bench.to_devices()] == [b"permit"]
    assert not told(bench, T + 900)
    bench.command("isolate", T + 1000, seq=3, state="off")
    assert [payload for _, payload in bench.to_devices()] == [b"permit"], "the switch may not have closed"


def test_a_permit_that_can_not_be_sent_is_refused_and_not_sent_later(start: Start) -> None:
    bench = start(ISOLATE)
    bench.command("isolate", T, seq=1, for_s=900, state="on")
    bench.hear("house/switch", "open", T + 1)
    told(bench, T + 1)
    bench.adapter.commands.reached = frozenset()
    bench.command("isolate", T + 10, seq=2, state="off")
    for at in range(10, 200, 5):
        bench.do(bench.adapter.tick(T + at))
    answers = [json.loads(m.payload)["result"] for m in bench.published if m.topic.endswith("/out")]
    assert answers == ["refused"]
    bench.published.clear()
    bench.adapter.commands.reached = frozenset({""})
    bench.do(bench.adapter.reconnected("", 0, T + 3600))
    bench.hear("house/switch", "open", T + 3600)
    assert not [at for at in range(3600, 4600, 5) if told(bench, T + at)]


def test_a_command_that_ends_before_its_device_obeys_is_not_done(start: Start) -> None:
    bench = start(SHARE)
    bench.command("share_power_on", T, seq=1, for_s=20)
    mode(bench, "idle", T + 1)
    bench.published.clear()
    for at in range(2, 60):
        bench.do(bench.adapter.tick(T + at))
    mode(bench, "idle", T + 60)
    bench.do(bench.adapter.tick(T + 60))
    assert outcomes(bench) == [("expired", "off")]


@pytest.mark.parametrize("words", ["\x00" * 60, "\U000e0001" * 60, "é" * 60])
def test_a_device_that_shows_nonsense_ends_nothing(start: Start, words: str) -> None:
    bench = start(SHARE)
    bench.command("share_power_on", T, seq=1, for_s=900)
    mode(bench, words, T + 1)
    for at in range(1, 91):
        bench.do(bench.adapter.tick(T + at))
    assert outcomes(bench) == [("refused", "disobeys")]


def test_half_a_surrogate_pair_of_a_device_ends_nothing(start: Start) -> None:
    bench = start(SHARE)
    bench.adapter.meters[77].deferred.ignore("unreadable", "in \ud800, not kWh")
    bench.command("get", T, what="manager")
    assert json.loads(bench.published[-1].payload)["device"]["ignored"] == {"unreadable": [1, "in ?, not kWh"]}


def test_without_its_will_a_device_is_not_told_again(start: Start) -> None:
    bench = start(SHARE | {"failsafe": "will", "failsafe_s": None})
    bench.adapter.commands.armed = frozenset({(77, Kind.SHARING)})
    bench.command("share_power_on", T, seq=1, for_s=900)
    mode(bench, "giving", T + 1)
    bench.to_devices()
    bench.adapter.commands.armed = frozenset()
    assert not [at for at in range(2, 100) if told(bench, T + at)]
    bench.adapter.commands.armed = frozenset({(77, Kind.SHARING)})
    assert told(bench, T + 100)


def test_connections_that_come_and_go_wear_no_relay(start: Start) -> None:
    bench = start(SHARE | {"at_most_each_s": 50})
    bench.command("share_power_on", T, seq=1, for_s=900)
    bench.published.clear()
    sent = []
    for at in range(1, 111):
        bench.do(bench.adapter.reconnected("", 0, T + at))
        mode(bench, "giving", T + at)
        sent += [at] * bool(told(bench, T + at))
    assert sent == [50, 100]


def test_a_clock_that_is_set_back_delays_no_end(start: Start) -> None:
    bench = start(SHARE)
    bench.command("share_power_on", T + 3600, seq=1, for_s=900)
    bench.published.clear()
    bench.do(bench.adapter.tick(T))
    bench.command("share_power_off", T, seq=2)
    mode(bench, "giving", T + 1)
    assert b'{"give": 0}' in told(bench, T + 6)


def test_a_state_of_before_the_command_confirms_nothing_though_the_clock_is_behind(start: Start) -> None:
    bench = start(SHARE)
    bench.command("share_power_on", T, seq=1, for_s=900)
    bench.published.clear()
    before = Arrived("house/mode", b'{"mode": "giving"}', False, int((T - 1) * 1000))
    bench.do(bench.adapter.message(before, 60_000))
    bench.do(bench.adapter.tick(T))
    assert not outcomes(bench)
    ahead = Arrived("house/mode", b'{"mode": "giving"}', False, int((T + 1) * 1000))
    bench.do(bench.adapter.message(ahead, -60_000))
    bench.do(bench.adapter.tick(T + 1))
    assert outcomes(bench) == [("done", "obeys")]


def test_a_will_that_can_not_be_made_is_named(start: Start) -> None:
    bench = start(SHARE | {"failsafe": "will", "failsafe_s": None})
    bench.command("share_power_on", T, seq=1, for_s=900)
    mode(bench, "idle", T + 1)
    for at in range(1, 100):
        bench.do(bench.adapter.tick(T + at))
    (outcome,) = [json.loads(m.payload) for m in bench.published if m.topic.endswith("/out")]
    assert outcome["reason"] == "should be on, and its broker has no will that would end it"


def test_a_command_that_was_done_is_not_done_again_at_its_end(start: Start) -> None:
    reduce = SHARE | {"kind": "reduce"}
    bench = start(reduce)
    bench.command("reduce_power_off", T, seq=1)
    for at in range(0, 100, 5):
        bench.do(bench.adapter.tick(T + at))
    bench.command("reduce_power_on", T + 200, seq=2, for_s=60, id="2")
    mode(bench, "giving", T + 201)
    for at in (201, 260):
        bench.do(bench.adapter.tick(T + at))
    mode(bench, "idle", T + 261)
    bench.do(bench.adapter.tick(T + 261))
    answers = [json.loads(m.payload) for m in bench.published if m.topic.endswith("/out")]
    assert [(one["id"], one["result"]) for one in answers] == [("1", "refused"), ("2", "done"), ("2", "expired")]


def test_a_changed_minimum_is_told_with_the_first_acknowledgement_after_a_start(start: Start) -> None:
    bench = start(SHARE, minimum_percent=90)
    ack = PutAck(log=Log.EVENT, generation=1, first_id=1, last_id=1, time=T).pack()
    for told_of in (1, 0):
        bench.do(bench.adapter.receive(77, "ack", ack, T))
        outcomes_of = [json.loads(m.payload) for m in bench.published if m.topic.endswith("/out")]
        assert [one["minimum_percent"] for one in outcomes_of] == [90] * told_of
        bench.published.clear()
