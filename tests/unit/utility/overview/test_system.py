"""Administrators see each part of the utility with its state and what to do, by the conditions of the alarms."""

from collections.abc import Callable

import pytest

from harness.console import Browser, text_of
from harness.surroundings.utility import a_heartbeat
from utility.access.roles import Role
from utility.alarms.conditions import Counted, Facts, JobFacts
from utility.alarms.past import Past
from utility.overview.system import Known, Part, parts

HOUR_S, DAY_S = 3_600, 86_400
NOW = 1_800_000_000


def judged(facts: Facts, *, backup: int | None = NOW - 5 * HOUR_S, makes_backups: bool = True) -> dict[str, Part]:
    known = Known(version="0.4", schema="0031", jobs=14, makes_backups=makes_backups, backup=backup)
    return {part.name: part for part in parts(facts, known, NOW)}


def test_everything_is_good_without_a_condition_and_says_what_is_known() -> None:
    facts = Facts(disk=(40 * 10**9, 100 * 10**9), certificates={"mqtt": 90 * DAY_S, "http": 30 * DAY_S})
    found = judged(facts)
    assert {part.state for part in found.values()} == {"good"}
    assert found["Disk"].words == "40.0 GB of 100.0 GB are free"
    assert found["Backups"].words == "the newest was made 5 hours ago"
    assert found["Certificates"].words == "for gateways ends in 90 days; for browsers ends in 30 days"


def test_what_is_not_measured_or_not_in_use_is_neither_good_nor_wrong() -> None:
    found = judged(Facts(), makes_backups=False)
    assert {name for name, part in found.items() if part.state == "idle"} == {"Disk", "Backups", "Certificates"}


FAILING = Facts(counted=Counted(jobs=(JobFacts(name="gaps"),)), past=Past(counts={("job_failures", "gaps"): 3}))


@pytest.mark.parametrize(
    ("facts", "name", "state", "words"),
    [
        (Facts(disk=(5, 100)), "Disk", "warning", "nearly full"),
        (Facts(full=True, disk=(0, 100)), "Disk", "bad", "full"),
        (Facts(damaged=True), "Database", "bad", "damaged"),
        (Facts(head_ends={"127.0.0.1:1884": False}), "Connection", "bad", "no connection"),
        (Facts(trusted=False), "Clock", "warning", "not synchronized"),
        (Facts(certificates={"http": 3 * DAY_S}), "Certificates", "warning", "expires soon"),
        (Facts(certificates={"mqtt": -HOUR_S}), "Certificates", "bad", "has expired"),
        (FAILING, "Jobs", "warning", "gaps fails"),
        (Facts(counted=Counted(jobs=(JobFacts(name="backup", late_s=DAY_S),))), "Backups", "warning", "backup is late"),
    ],
)
def test_a_part_is_wrong_by_the_condition_of_its_alarm(facts: Facts, name: str, state: str, words: str) -> None:
    found = judged(facts)
    assert found[name].state == state
    assert words in found[name].wrong[0].summary
    assert [part.name for part in found.values() if part.wrong] == [name]


def test_gateways_are_counted_by_their_releases() -> None:
    said = {
        "r001": a_heartbeat(),
        "r002": a_heartbeat(program={"release": "0.4"}),
        "r003": a_heartbeat(program={"release": "0.4"}),
    }
    assert judged(Facts(said=said))["Versions"].words == "utility 0.4, 2 gateways 0.4, 1 gateway 0.3 or older"


def test_page_shows_each_part_and_the_jobs(browser: Callable[..., Browser]) -> None:
    shown = text_of(browser(Role.ADMIN).get("/console/system"))
    for words in ("Disk", "Backups", "Certificates", "Versions", "○ not known", "settles the finished days"):
        assert words in shown
