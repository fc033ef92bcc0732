"""What the shell makes or takes for the utility: an adapter is asked what it hears; a bundle is taken."""

import json
import random
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from commonwatt.config.settings import GatewaySettings
from commonwatt.network.http_server import HttpRequest, HttpServer, Response
from commonwatt.protocol.controller_commands import MAX_OUTCOME_BYTES, ControllerCommand, ControllerOutcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.reports import read_report
from gateway.care.discovery import FULL_S, KEPT_S, MOST_CARDS, NO_ADAPTER, LatelyHeard, ask_adapter
from gateway.events import Reported
from harness.network.waiting import free_ports
from harness.surroundings.gateway import START, World

ASK = {"v": 1, "id": "discover-1", "cmd": "discover", "until": START + 60}


def asked(body: str, status: int = 200) -> dict[str, Any]:
    """Return what a gateway makes of an adapter's answer."""
    address = f"127.0.0.1:{free_ports(1)[0]}"

    def pages(request: HttpRequest) -> Response | None:
        return Response(status=status, body=body) if request.path == "/discovered" else None

    server = HttpServer(address, CollectorRegistry(), dict, pages=pages)
    server.start()
    try:
        found: dict[str, Any] = json.loads(read_report(ask_adapter(address)))
        return found
    finally:
        server.stop()


def test_the_answer_of_the_adapter_is_the_report() -> None:
    said = {"sources": [], "cards": [{"key": "tasmota kitchen 0"}], "unknown": [], "left_out": 0}
    assert asked(json.dumps(said)) == said


@pytest.mark.parametrize(
    ("body", "status"),
    [("no", 200), ("[]", 200), ('{"cards":1}', 200), ('{"cards":[],"sources":1}', 200), ('{"cards":[]}', 403)],
)
def test_another_answer_is_a_fault(body: str, status: int) -> None:
    found = asked(body, status)
    assert found["cards"] == []
    assert "does not answer" in found["fault"]


def test_without_an_adapter_or_its_answer_there_is_a_fault() -> None:
    assert json.loads(read_report(ask_adapter(None))) == {"cards": [], "fault": NO_ADAPTER}
    assert "refused" in json.loads(read_report(ask_adapter(f"127.0.0.1:{free_ports(1)[0]}")))["fault"]


def test_devices_stay_while_an_adapter_that_was_started_anew_hears_them_again() -> None:
    heard, source = LatelyHeard(), {"sources": [{"address": "broker:1883"}]}
    heard.joined(
        source | {"cards": [{"key": "tasmota kitchen 0", "age_s": 3}, {"key": "evcc evcc 0", "age_s": 1}]}, 10.0
    )
    again = heard.joined(source | {"cards": [{"key": "evcc evcc 0", "age_s": 0}]}, 20.0)
    assert {card["key"]: card["age_s"] for card in again["cards"]} == {"tasmota kitchen 0": 13, "evcc evcc 0": 0}
    silent = heard.joined({"fault": "it does not answer"}, 100.0)
    assert (len(silent["cards"]), "fault" in silent) == (2, False)
    later = heard.joined(source | {"cards": []}, 10.0 + KEPT_S + 1)
    assert [card["key"] for card in later["cards"]] == ["evcc evcc 0"]
    assert heard.joined({"sources": [{"address": "other:1883"}], "cards": []}, 135.0)["cards"] == []
    assert heard.joined({"fault": "it does not answer"}, 136.0)["fault"] == "it does not answer"


def test_a_device_whose_channel_is_known_now_is_one_device() -> None:
    heard, source = LatelyHeard(), {"sources": [{"address": "broker:1883"}]}
    heard.joined(source | {"cards": [{"key": "victron a/512 0"}]}, 20.0)
    known = heard.joined(source | {"cards": [{"key": "victron a/512 276"}]}, 30.0)
    assert [card["key"] for card in known["cards"]] == ["victron a/512 276"]
    anew = heard.joined(source | {"cards": [{"key": "victron a/512 0"}]}, 40.0)
    assert [card["key"] for card in anew["cards"]] == ["victron a/512 276"]


def test_what_was_heard_of_a_device_stays_minutes_while_an_adapter_that_was_started_anew_hears_it_again() -> None:
    heard, number = LatelyHeard(), {"key": "pump hours"}
    full = {"key": "zendure x 0", "level_percent": 30.0, "power_w": 0.0, "role": "battery", "age_s": 1}
    bare = {"key": "zendure x 0", "level_percent": None, "power_w": 40.0, "role": "unknown", "age_s": 0}
    heard.joined({"cards": [full], "unknown": [number, {"key": "it fell since"}]}, 9.0)
    heard.joined({"cards": [full], "unknown": [number]}, 10.0)
    heard.joined({"cards": [], "unknown": []}, 20.0)
    again = heard.joined({"cards": [bare], "unknown": []}, 30.0)
    assert again["cards"] == [full | {"power_w": 40.0, "age_s": 21}]
    assert again["unknown"] == [number]
    heard.joined({"cards": [bare], "unknown": []}, 100.0)
    later = heard.joined({"cards": [bare], "unknown": []}, 11.0 + FULL_S)
    assert (later["cards"], later["unknown"]) == ([bare], [])


def test_devices_that_are_heard_now_are_never_left_out_for_earlier_ones() -> None:
    heard = LatelyHeard()
    for turn in range(3):
        found = heard.joined({"cards": [{"key": f"x {turn * MOST_CARDS + n} 0"} for n in range(MOST_CARDS)]}, turn)
    assert [card["key"] for card in found["cards"]] == [f"x {2 * MOST_CARDS + n} 0" for n in range(MOST_CARDS)]


@pytest.mark.parametrize("left_out", [7, "much"])
def test_an_answer_that_is_too_long_is_cut_and_what_is_left_out_is_counted(left_out: object) -> None:
    rng = random.Random(1)
    cards = [{"key": rng.randbytes(2_000).hex()} for _ in range(200)]
    found = asked(json.dumps({"cards": cards, "left_out": left_out}))
    assert found["cards"] == cards[: len(found["cards"])] != []
    assert found["left_out"] == 200 - len(found["cards"]) + (7 if left_out == 7 else 0)


def test_only_an_adapter_of_the_same_machine_is_asked() -> None:
    with pytest.raises(ValueError, match="beyond this machine"):
        GatewaySettings(microgrid="r001", adapter="10.0.0.1:9102")


def test_a_repeated_question_is_answered_anew_and_nothing_is_kept(world: World) -> None:
    command = ControllerCommand.model_validate(ASK)
    for text in ("first", "second"):
        assert world.utility_says("cmd", json.dumps(ASK).encode()) == []
        assert list(world.core.utility_commands.reports) == ["discover-1"]
        (sent,) = world.handle(Reported(command, {"report": text}))
        outcome = unpack_json(ControllerOutcome, sent.payload, MAX_OUTCOME_BYTES)
        assert (outcome.cmd, outcome.result, outcome.report) == ("discover", "done", text)
    assert not world.core.utility_commands.reports
    assert "discover" not in (world.store.setting("outcomes") or "")


def test_a_bundle_is_taken_by_the_shell_and_its_outcome_is_kept_over_a_restart(world: World) -> None:
    ask = {"v": 1, "id": "unpack-1", "cmd": "unpack", "until": START + 60, "sha256": "a" * 64}
    for _ in range(2):
        assert world.utility_says("cmd", json.dumps(ask).encode()) == [], "it is asked again until it is unpacked"
    assert list(world.core.utility_commands.reports) == ["unpack-1"]
    said = {"result": "refused", "reason": "packed by a newer version"}
    (sent,) = world.handle(Reported(ControllerCommand.model_validate(ask), said))
    outcome = unpack_json(ControllerOutcome, sent.payload, MAX_OUTCOME_BYTES)
    assert (outcome.cmd, outcome.result, outcome.reason) == ("unpack", "refused", "packed by a newer version")
    world.crash()
    (again,) = world.utility_says("cmd", json.dumps(ask).encode())
    assert again.payload == sent.payload
