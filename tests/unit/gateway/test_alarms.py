"""A gateway's alarms: each raised by its condition, and by nothing else."""

from typing import Any

import pytest

from commonwatt.model.words import duration
from gateway.alarms import KINDS, Alarm, alarms, byte_size
from harness.surroundings.page import NOW, add_meter, empty


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


def named(found: list[Alarm]) -> list[tuple[str, str]]:
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
