"""Estimates and entered values: looked at, decided once by a clerk, taken back; wrong input changes nothing."""

from collections.abc import Callable

import numpy as np
import pytest

from commonwatt.model.blocks import make_blocks
from commonwatt.settlement.estimates.methods import Method
from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.access.store import audit_log
from utility.corrections.lifecycle import State
from utility.corrections.store.corrections import Chosen, Corrections, found, propose
from utility.corrections.store.listed import corrections_page
from utility.database.database import Database

FIRST = 1_999_900
LIST = "/console/quarantine/corrections"
Browsers = Callable[..., Browser]


def estimates(*quarters: int, method: Method = Method.BALANCE, meter: int = 1, slots: slice = slice(60)) -> Corrections:
    keys = [(10_000 + meter, 3, quarter) for quarter in quarters]
    quality = np.zeros((len(keys), 60), np.uint8)
    quality[:, slots] = 2
    return Corrections(
        blocks=make_blocks(keys, np.full((len(keys), 60), 1000), quality),
        number=np.full(len(keys), meter),
        owner=np.full(len(keys), 1),
        method=np.full(len(keys), method, np.uint8),
    )


@pytest.fixture
def proposed(database: Database) -> None:
    with database.writes.begin() as connection:
        propose(connection, estimates(*range(FIRST, FIRST + 4), FIRST + 10), NOW)
        propose(connection, estimates(FIRST, meter=2), NOW)


def keys(database: Database, state: State = State.PROPOSED) -> list[str]:
    with database.reads.begin() as connection:
        return [line.key for line in corrections_page(connection, Chosen(), [state], 100).rows]


@pytest.mark.usefixtures("proposed")
def test_clerk_approves_lines_and_the_second_clerk_is_told(browser: Browsers, database: Database) -> None:
    anna, ben = browser(Role.CLERK, name="anna"), browser(Role.CLERK, name="ben")
    first, second, third = keys(database)
    assert "Estimates (6)" in text_of(anna.get(LIST))
    done = anna.post(LIST, {"key": [first, third], "action": "approve", "why": "as before"})
    assert "5 quarter-hours, 0.300 kWh: approved" in text_of(anna.get(done.headers["location"]))
    late = ben.post(LIST, {"key": [second, third], "action": "refuse"})
    assert late.status_code == 409
    assert "those chosen are approved, by anna" in text_of(late)
    assert keys(database) == [second], "all or none"
    page = text_of(ben.get(f"{LIST}/{first}"))
    assert "anna" in page
    assert "as before" in page
    assert "the line is of proposed corrections" in text_of(ben.post(LIST, {"key": first, "action": "revert"}))
    approved = keys(database, State.APPROVED)[0]
    assert f'value="{approved}"' in ben.get(f"{LIST}/{first}").text
    assert ben.post(LIST, {"key": approved, "action": "revert"}).status_code == 303
    assert set(keys(database)) == {first, second}
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.Wanted(action="correction."), 9)
    assert [(e["person"], e["action"], e["subject"]) for e in entries] == [
        ("ben", "correction.revert", "meter 10001"),
        ("anna", "correction.approve", "2 meters"),
    ]


@pytest.mark.usefixtures("proposed")
def test_line_that_grew_meanwhile_is_not_decided_unseen(browser: Browsers, database: Database) -> None:
    seen = keys(database)[0]
    with database.writes.begin() as connection:
        propose(connection, estimates(FIRST + 1, method=Method.LIKE_DAYS, meter=2), NOW)
        rows = found(connection, Chosen(), [State.PROPOSED], None)
    stale = ".".join([*seen.split(".")[:5], str(FIRST + 11), "4"])
    answer = browser(Role.CLERK).post(LIST, {"key": stale, "action": "approve"})
    assert answer.status_code == 409
    assert "changed some of these corrections meanwhile" in text_of(answer)
    assert len(rows) == 7
    assert len(keys(database)) == 4
    assert browser(Role.CLERK).post(LIST, {"key": "x", "action": "approve"}).status_code == 409


def test_line_is_decided_beside_corrections_of_the_same_quarter_in_other_states(
    browser: Browsers, database: Database
) -> None:
    clerk = browser(Role.CLERK)
    for slots, action in ((slice(0, 20), "approve"), (slice(20, 40), "refuse")):
        with database.writes.begin() as connection:
            propose(connection, estimates(FIRST, slots=slots), NOW)
        (line,) = keys(database)
        page = clerk.get(f"{LIST}/{line}").text
        assert f'name="key" value="{line}"' in page, "the page of a line decides it, too"
        assert clerk.post(LIST, {"key": line, "action": action}).status_code == 303, action
    (approved,), (refused,) = keys(database, State.APPROVED), keys(database, State.REFUSED)
    assert clerk.post(LIST, {"key": [approved], "action": "revert"}).status_code == 303
    assert (keys(database, State.APPROVED), keys(database, State.REFUSED)) == ([], [refused])


@pytest.mark.usefixtures("proposed")
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_corrections_show_every_line_once(database: Database, limit: int) -> None:
    with database.writes.begin() as connection:
        propose(connection, estimates(FIRST + 4, FIRST + 6, method=Method.LIKE_DAYS), NOW)
        propose(connection, estimates(FIRST + 5, FIRST + 7, method=Method.INTERPOLATION), NOW)
        for slots, method in ((slice(0, 20), Method.BALANCE), (slice(20, 40), Method.LIKE_DAYS)):
            propose(connection, estimates(FIRST + 20, FIRST + 21, method=method, slots=slots), NOW)
    shown: list[int] = []
    after, pages = "", 0
    with database.reads.begin() as connection:
        while after or not pages:
            page = corrections_page(connection, Chosen(), [State.PROPOSED], limit, after)
            assert len(page.rows) <= max(limit, 2), "two methods of a quarter-hour stay together"
            shown += [number for line in page.rows for number in line.numbers]
            after, pages = page.after, pages + 1
        assert sorted(shown) == sorted(row.no for row in found(connection, Chosen(), [State.PROPOSED], None))


def test_value_is_entered_or_the_form_says_what_is_wrong(browser: Browsers, database: Database) -> None:
    clerk = browser(Role.CLERK)
    fields = {"meter": "10001", "from": "2026-11-01T18:00", "to": "2026-11-01T20:00", "energy": "4,25", "why": "x"}
    wrong = clerk.post(f"{LIST}/edit", fields)
    assert wrong.status_code == 422
    assert "must be kilowatt-hours such as 4.25" in text_of(wrong)
    assert 'aria-describedby="energy-help energy-wrong"' in wrong.text, "beside the field"
    assert 'value="2026-11-01T18:00"' in wrong.text, "what was written stays in the form"
    done = clerk.post(f"{LIST}/edit", fields | {"energy": "0.25"})
    assert "8 quarter-hours entered, 0.250 kWh" in text_of(clerk.get(done.headers["location"]))
    (line,) = keys(database, State.EDITED)
    plot = clerk.get(f"{LIST}/{line}/plot.json").json()
    assert plot["series"][0]["unit"] == "kW"
    assert [round(x, 3) for x in plot["series"][1]["high"] if x is not None] == [0.125] * 8
    assert browser(Role.VIEWER).post(f"{LIST}/edit", fields).status_code == 403
