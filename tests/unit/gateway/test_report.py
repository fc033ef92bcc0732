"""A gateway's alarms, and the report of a controller: its faults, no secret, few bytes."""

import asyncio
import json
import logging
import random
import string
from collections import namedtuple
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import zstandard

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.certificates import Purpose as CertificateKind
from commonwatt.identity.certificates import Signer
from commonwatt.identity.devices import new_token, save_tokens
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.text import duration
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.controller_commands import (
    MAX_OUTCOME_BYTES,
    MAX_REPORT_BYTES,
    ControllerCommand,
    ControllerOutcome,
)
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.reports import MOST_TEXT_BYTES, read_report, report_of
from commonwatt.runtime.clock import load_clock, wall_clock
from commonwatt.runtime.service import LAST_LINES, start_log, without_secrets
from commonwatt.town.registry import RegisteredController, Registry, save_registry
from gateway.alarms import KINDS, GatewayAlarm, alarms, byte_size
from gateway.care import report
from gateway.care.report import SAVING_BYTES, fitted, make_report
from gateway.events import FromUtility, Reported
from gateway.shell import Shell
from harness.network.waiting import become
from harness.surroundings.gateway import START, World, end_work, readings, registered
from harness.surroundings.page import NOW, add_meter, empty

ASK = {"v": 1, "id": "report-1", "cmd": "report", "until": START + 3600}
Usage = namedtuple("Usage", "total used free")  # as of ``shutil.disk_usage``
SECRETS = ("hunter2-of-r001", new_token(), "s3cr3t", "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0w")


def status(**changes: Any) -> dict[str, Any]:
    """The status of a gateway that is well, with changes."""
    store = {"refusing": False, "quarantined": None, "damaged_rows": 0, "kept_quarantined": 0}
    recent = dict.fromkeys(("dropped_messages", "store_failures", "stuck", "time_contradictions", "faults"), 0)
    found: dict[str, Any] = {
        "microgrid": "r001",
        "time": START,
        "trust": "network",
        "offset_s": 0,
        "time_contested": False,
        "store": store | {"disk_free_bytes": 5 * 10**9, "disk_bytes": 10**10},
        "connected": {"meters": True, "head_end": True},
        "connection_failures": {},
        "meters": {"registered": 3, "silent": {}, "fenced": []},
        "watched_s": 5000,
        "recent": recent | {"records": 50},
        "backlog_age_s": 0,
        "modes": {"unknown_s": 0, "disagreement": ""},
        "lte": {"level": "ok", "allowance": 10, "used": [1, 1], "expected": None},
        "certificate_left_s": 60 * 86_400,
    }
    for key, value in changes.items():
        found[key] = found[key] | value if isinstance(value, dict) else value
    return found | {"alarms": [asdict(alarm) for alarm in alarms(found)]}


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    save_tokens(tmp_path / "tokens.json", {"r001": new_token()})
    registry = Registry(
        microgrid="r001",
        controller=RegisteredController(number=1, address="10.0.0.1"),
        meters=tuple(map(registered, (1, 2, 3))),
    )
    save_registry(tmp_path / "registry.json", registry)
    paths = {"store": "gateway.db", "tokens": "tokens.json", "registry": "registry.json"}
    values = {"microgrid": "r001", "http": None} | {name: tmp_path / file for name, file in paths.items()}
    return GatewaySettings.model_validate(values)


class Whole(World):
    """A gateway with all of its shell but the connections."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.shell = Shell.open(settings, load_clock(None))
        self.controller, self.store = self.shell._controller, self.shell._work.own.store
        self.core, self.meters = self.controller.own, self.controller.own.meters
        self.settings, self.sent, self.now = settings, [], START

    def status(self) -> dict[str, Any]:
        async def look() -> None:
            self.shell._look_at_disk()
            await self.shell.shown._look()

        asyncio.run(look())
        return dict(self.shell.shown._view)


# What is planted, and the words of the report that name it.
FAULTS = {
    "disk nearly full": "DiskNearlyFull",
    "registry unreadable": "registry.json: not a registry",
    "clock untrusted": "GatewayClockUntrusted",
    "certificate nearly ended": "CertificateExpiring",
    "broker refuses": "No connection to the meters' broker: not authorized.",
    "store replaced after damage": "StoreQuarantined",
    "backlog old": "BacklogOld",
    "records refused": "3 dead letters",
    "dead letters over quota": "its daily limit of rejected records is reached",
    "device disobeys": "shows 900 W, told 0 W",
}


def test_a_report_names_ten_planted_faults(settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = settings.store.parent
    certificate, wall = folder / "r001.pem", int(wall_clock().now())
    signer = Signer.new("Town", wall, 90 * 86_400)
    certificate.write_text("".join(signer.issue(CertificateKind.DEVICE, "r001", (), wall, 5 * 86_400)[1]))
    settings = settings.model_copy(update={"certificate": certificate})
    settings.store.write_bytes(random.Random(1).randbytes(100_000))
    monkeypatch.setattr(logging.getLogger(), "handlers", [LAST_LINES])
    world = Whole(settings)
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**11, 10**11 - 10**9, 10**9))
    monkeypatch.setattr("gateway.collect.REJECTED_A_DAY", 5)
    world.introduce(
        1,
        states={
            Kind.SHARING: {"stage": "disobeys", "since": START, "failsafe": "none", "finding": "shows 900 W, told 0 W"}
        },
    )
    world.put(2, 1, readings(2, 1, 6))
    world.put(3, 1, readings(3, 1, 3, value=10**9))
    world.put(3, 4, readings(3, 4, 9, value=10**9))
    world.shell._links.each["meters"]._failed("not authorized")
    settings.registry.write_text("{")
    text = read_report(make_report(settings, world.status(), START))
    world.store.close()
    assert [name for name, word in FAULTS.items() if word not in text] == []
    for word in ("Python", "SQLite", "memory:", "commonwatt"):
        assert word in text


def test_no_secret_is_in_a_report(settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        f"password={SECRETS[0]}",
        f"the broker refused token {SECRETS[1]}",
        f"connect to postgresql://town:{SECRETS[2]}@db.example:5432/town failed",
        f"-----BEGIN PRIVATE KEY-----\n{SECRETS[3]}\n-----END PRIVATE KEY-----",
        f'{{"token": "{SECRETS[1]}"}}',
        f"Authorization: Bearer {SECRETS[1]}",
    )
    text = without_secrets("\n".join(lines))
    assert [secret for secret in SECRETS if secret in text] == []
    assert "db.example:5432/town failed" in text
    monkeypatch.setattr(LAST_LINES, "lines", list(lines))
    reported = read_report(make_report(settings, status(connection_failures={"meters": lines[1]}), START))
    assert [secret for secret in SECRETS if secret in reported] == []
    token = next(iter(json.loads(settings.tokens.read_text()).values()))
    assert str(token) not in reported


def test_a_line_of_the_log_loses_its_secrets_and_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.WARNING)
    start_log()
    logging.getLogger("a.part").warning("token=%s of meter 10001 and part 47", SECRETS[1])
    assert LAST_LINES.lines[-1].endswith("WARNING a.part: token=[removed] of meter 10001 and part 47")


def test_the_oldest_lines_go_first_until_a_report_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    noise = ["".join(rng.choices(string.ascii_lowercase + " ", k=1500)) + f" line {at}" for at in range(200)]
    for most in (MAX_REPORT_BYTES, SAVING_BYTES):
        packed = fitted("bad disk: full", {"commonwatt-gateway@r001": "\n".join(noise)}, most)
        text = read_report(report_of(packed))
        assert len(packed) <= most
        assert "bad disk: full" in text
        assert "line 199" in text or "left out" in text
        assert "line 0\n" not in text


def test_a_report_that_has_too_much_to_tell_still_fits_into_its_outcome() -> None:
    findings = "".join(random.Random(1).choices(string.ascii_letters + " \n", k=400_000))
    for most in (MAX_REPORT_BYTES, SAVING_BYTES):
        packed = fitted(f"bad disk: full\n{findings}", {"this process": "x"}, most)
        assert most // 2 < len(packed) <= most
        assert read_report(report_of(packed)).startswith("bad disk: full")


def test_a_part_of_a_report_that_fails_leaves_the_others(
    settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wear = settings.store.parent / "dev" / "mmcblk0" / "device" / "life_time"
    wear.parent.mkdir(parents=True)
    wear.write_text("worn out\n")
    monkeypatch.setattr(report, "_DEVICES", settings.store.parent / "dev")
    text = read_report(make_report(settings, {"microgrid": "r001"}, START))
    assert "== alarms\nfailed: KeyError('alarms')" in text
    assert "== wear\nfailed: ValueError" in text
    assert "== files\n" in text
    assert "Python" in text


def test_a_key_whose_first_line_the_log_no_longer_has_is_removed() -> None:
    line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDJ+/9aXk2yZc7v"
    assert without_secrets(f"10:00 gateway[1]: {line}") == "10:00 gateway[1]: [removed]"
    assert without_secrets("see https://x0fe9@ntfy.example/town and psk=anna1234") == (
        "see https://[removed]@ntfy.example/town and psk=[removed]"
    )


def test_a_report_that_claims_to_be_huge_is_refused_before_it_is_opened() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(MOST_TEXT_BYTES + 1))
    with pytest.raises(ProtocolError, match="too large"):
        read_report(report_of(bomb))


def test_a_line_whose_plan_is_used_up_carries_a_short_report(
    settings: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    noise = ["".join(rng.choices(string.ascii_letters + " ", k=900)) for _ in range(200)]
    monkeypatch.setattr(LAST_LINES, "lines", noise)
    sizes = [len(make_report(settings, status(lte={"level": level}), START)) * 4 // 5 for level in ("ok", "exceeded")]
    assert SAVING_BYTES < sizes[0] <= MAX_REPORT_BYTES
    assert sizes[1] <= SAVING_BYTES


def test_a_store_that_does_not_answer_is_named(settings: GatewaySettings) -> None:
    text = read_report(make_report(settings, {}, START))
    assert "not known: the store does not answer" in text
    assert "warning store" in text or "good store" in text or "bad store" in text


def outcomes(sent: list[Publish]) -> list[ControllerOutcome]:
    ours = [one.payload for one in sent if one.topic == "cw1/r001/u/out"]
    return [unpack_json(ControllerOutcome, payload, MAX_OUTCOME_BYTES) for payload in ours]


def ask(world: World) -> list[ControllerOutcome]:
    return outcomes(world.utility_says("cmd", json.dumps(ASK).encode()))


def test_a_command_is_answered_by_its_report_once_made_also_after_a_restart(world: World) -> None:
    assert ask(world) == ask(world) == []
    wanted = world.core.utility_commands.reports
    assert list(wanted) == ["report-1"]
    command = ControllerCommand.model_validate(ASK)
    (made,) = outcomes(world.handle(Reported(command, {"report": "x" * 80_000})))
    assert (made.result, made.report) == ("done", "x" * 80_000)
    assert (wanted, ask(world)) == ({}, []), "it is on its way: a slow line carries it once"
    world.now += 61
    assert ask(world) == [made]
    world.crash()
    assert ask(world) == [made]
    assert len(world.store.setting("outcomes") or "") < 1000


def test_of_a_report_that_a_later_one_replaced_the_gateway_says_so(world: World) -> None:
    for number in (1, 2):
        command = ControllerCommand.model_validate(ASK | {"id": f"report-{number}"})
        world.handle(Reported(command, {"report": "text"}))
    world.now += 61
    (again,) = ask(world)
    assert (again.report, again.reason) == (None, "a later report replaced it")


def test_a_running_gateway_makes_the_report_that_it_is_asked_for(settings: GatewaySettings) -> None:
    shell = Shell.open(settings, load_clock(None))
    sent: list[Publish] = []
    shell._work._publish = sent.append

    async def play() -> None:
        shell.shown._loop = asyncio.get_running_loop()
        work = asyncio.create_task(shell._work.run(shell._reload_registries, shell._schedule))
        # Unknown keys are ignored: utilities asked with `inputs` for a while.
        command = ASK | {"until": 2**32 - 1, "inputs": "whole"}
        shell._inbox.queue(FromUtility("cw1/r001/d/cmd", json.dumps(command).encode()))
        await become(lambda: outcomes(sent))
        await end_work(shell._work, work)

    asyncio.run(play())
    shell._work.own.store.close()
    assert "report of r001" in read_report(outcomes(sent)[0].report or "")


def changed(**changes: Any) -> dict[str, Any]:
    """Return a good status with a meter; a table is changed in its keys."""
    view = empty()
    add_meter(view, "1", "house 1")
    for key, value in changes.items():
        view[key] = view.get(key, {}) | value if isinstance(value, dict) else value
    return view


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("DiskFull", "critical", {"store": {"refusing": True, "disk_free_bytes": 0}}),
    ("DiskNearlyFull", "warning", {"store": {"disk_free_bytes": 3 * 10**9}}),
    ("StoreQuarantined", "warning", {"store": {"kept_quarantined": 1}}),
    ("StoreErrors", "warning", {"recent": {"store_failures": 2}}),
    ("GatewayDisconnected", "warning", {"connected": {"head_end": False}}),
    ("NoRecords", "critical", {"recent": {"records": 0}}),
    ("BacklogOld", "warning", {"backlog_age_s": 86_401}),
    ("MessagesDropped", "warning", {"recent": {"dropped_messages": 1}}),
    ("", "warning", {"meters": {"fenced": {"1": [2, 1]}}}),
    ("", "warning", {"meters": {"silent": {"1": None}}}),
    ("", "warning", {"household": {"connected": False, "failure": "not authorised"}}),
    ("", "warning", {"household": {"connected": True, "published": False, "place": "house 1"}}),
    ("BoundaryUnknown", "critical", {"modes": {"phase": None, "unknown_s": 601}}),
    ("BoundaryDisagrees", "warning", {"modes": {"disagreement": "meter 4 reports this; meter 5 reports that"}}),
    ("AllowanceExceeded", "critical", {"lte": {"level": "exceeded"}}),
    ("AllowanceAtRisk", "warning", {"lte": {"level": "at_risk"}}),
    ("GatewayClockUntrusted", "warning", {"trust": "meters"}),
    ("GatewayClockUntrusted", "warning", {"trust": "none"}),
    ("ClockContradicted", "warning", {"time_contested": True}),
    ("ClockContradicted", "warning", {"recent": {"time_contradictions": 1}}),
    ("CertificateExpiring", "warning", {"certificate_left_s": 14 * 86_400 - 1}),
    ("CertificateExpired", "critical", {"certificate_left_s": 86_399}),
    ("CertificateExpired", "critical", {"certificate_left_s": -5}),
    ("TwoLists", "critical", {"witness": {"others": {"2026-11": ["1" * 64, "2" * 64]}}}),
    ("Stuck", "critical", {"recent": {"stuck": 1}}),
    ("Faults", "warning", {"recent": {"faults": 1}}),
]


def named(found: list[GatewayAlarm]) -> list[tuple[str, str]]:
    return [(alarm.alert, alarm.severity) for alarm in found]


@pytest.mark.parametrize(("alert", "severity", "changes"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)])
def test_each_condition_is_one_alarm(alert: str, severity: str, changes: dict[str, Any]) -> None:
    found = alarms(changed(**changes))
    assert named(found) == [(alert, severity)]
    assert found[0].title.endswith(".")
    assert found[0].remedy.endswith(".")


def test_a_good_gateway_has_no_alarm() -> None:
    assert alarms(changed()) == []
    assert alarms(changed(certificate_left_s=None, lte={"level": "unknown"}, trust="hardware")) == []
    assert alarms(empty() | {"recent": changed()["recent"] | {"records": 0}}) == [], "there is no meter"


def test_no_readings_right_after_the_start_are_no_alarm() -> None:
    assert alarms(changed(recent={"records": 0}, watched_s=1199)) == []


def test_a_boundary_that_reports_within_ten_minutes_is_no_alarm_and_a_disagreement_has_both_reports() -> None:
    assert alarms(changed(modes={"phase": None, "unknown_s": 600})) == []
    (alarm,) = alarms(changed(modes={"disagreement": "meter 4 reports this; meter 5 reports that"}))
    assert "meter 4 reports this; meter 5 reports that" in alarm.remedy


def test_critical_alarms_come_first() -> None:
    view = changed(lte={"level": "at_risk"}, recent={"stuck": 1, "faults": 1}, store={"refusing": True})
    severities = [alarm.severity for alarm in alarms(view)]
    assert severities == ["critical", "critical", "warning", "warning"]


def test_a_lost_connection_names_its_reason() -> None:
    view = changed(connected={"meters": False}, connection_failures={"meters": "no answer"})
    (alarm,) = alarms(view)
    assert alarm.title == "No connection to the meters' broker: no answer."
    assert (alarm.check, alarm.level) == ("broker", "bad"), "though it may wait until the morning"
    assert alarm.remedy.startswith("Readings wait at the meters.")


def test_silent_meters_are_counted_and_named_with_the_last_message_once_a_gateway_had_the_time_to_hear_them() -> None:
    silent = {str(n): NOW - n for n in range(400, 407)}
    (alarm,) = alarms(changed(meters={"registered": 9, "silent": silent}))
    assert alarm.title.startswith(
        "7 of 9 meters silent: 400, 401, 402, 403, 404 and 2 more; the last message came at 20"
    )
    assert alarms(changed(meters={"silent": silent}, watched_s=110)) == []


HEARD = {"heard_s": 0.5, "lost": False}


@pytest.mark.parametrize(
    ("own", "other", "title"),
    [
        ({"manager": "r001", "manages": True}, HEARD, None),
        ({"manager": "r002", "manages": False}, HEARD, "r002 manages r001, and this one does not."),
        (
            {"manager": None, "manages": False},
            HEARD,
            "No controller is known to manage r001, and this one does not.",
        ),
        ({"manager": "r001", "manages": True}, HEARD | {"heard_s": None, "lost": True}, "Never heard: r002."),
        ({"manager": "r001", "manages": True}, HEARD | {"lost": True}, "Lost: r002."),
    ],
)
def test_a_clique_that_is_not_as_it_should_be_is_named(
    own: dict[str, Any], other: dict[str, Any], title: str | None
) -> None:
    takeover = {"microgrids": {"r001": own | {"able": True}}, "others": {"r002": other, "utility": HEARD}}
    assert [alarm.title for alarm in alarms(changed(takeover=takeover))] == ([] if title is None else [title])


def test_every_kind_is_raised_with_its_severity() -> None:
    assert {alert: severity for alert, severity, _ in CASES if alert} == {
        name: kind.severity for name, kind in KINDS.items()
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (99, "99 s"),
        (100, "1 min"),
        (5999, "99 min"),
        (6000, "1 hour"),
        (86_400, "24 hours"),
        (9**6, "6 days"),
    ],
)
def test_time_spans_have_one_unit(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_bytes_have_the_unit_of_their_size() -> None:
    assert [byte_size(n) for n in (5, 5_000, 5 * 10**6, 5 * 10**9)] == ["5 bytes", "5.00 kB", "5.00 MB", "5.00 GB"]
