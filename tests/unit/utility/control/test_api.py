"""Programs change gateways by the API with the page's rights: previewed, made, refused after newer ones, put back."""

from collections.abc import Callable

from harness.console import Browser
from tests.unit.utility.control.test_changes import answer, hear
from tests.unit.utility.corrections.test_api import post
from utility.access.roles import Role
from utility.database.database import Database

Browsers = Callable[..., Browser]
SLOWER = {"action": "schedule", "fields": {"periods": {"relay_s": 900}}}


def test_a_change_is_made_answered_and_put_back(browser: Browsers, database: Database) -> None:
    hear(database)
    operator = browser(Role.OPERATOR)
    made = post(operator, "/commands", **SLOWER, seen=0, everyone=True).json()
    assert (made["change"]["waits"], made["change"]["counts"], made["newest"]) == (True, {"open": 2}, 1)
    answer(database)
    change = browser(Role.VIEWER).get("/commands/1").json()
    assert (change["change"]["waits"], change["change"]["made"]) == (False, "2027-01-15T09:23:20Z")
    first, second = change["microgrids"]
    assert first["before"] == "relay 60 s (as installed)"
    assert (second["before"], second["answer"]) == ("relay: not known", "done")
    assert second["answered"] == "2027-01-15T08:00:00Z"
    back = post(operator, "/commands/1/put-back").json()
    assert [one["what"] for one in back["microgrids"]] == ["schedule relay as installed"]
    listed = browser(Role.VIEWER).get("/commands/changes?limit=1").json()
    assert [one["what"] for one in listed["changes"]] == ["put back change 1: schedule relay as installed"]


def test_the_second_person_is_told_and_wrong_fields_are_named(browser: Browsers, database: Database) -> None:
    hear(database)
    anna, ben = browser(Role.OPERATOR, name="anna"), browser(Role.OPERATOR, name="ben")
    preview = post(ben, "/commands/preview", **SLOWER, microgrids=["r001"]).json()
    assert (preview["newest"], preview["effects"][0]["delay_s"], preview["refused"]) == (0, [135, 975], "")
    post(anna, "/commands", **SLOWER, seen=0, everyone=True)
    told = post(ben, "/commands", **SLOWER, microgrids=["r001"], seen=preview["newest"])
    assert (told.status_code, "r001: anna changed relay at" in told.json()["detail"]) == (409, True)
    wrong = post(ben, "/commands", action="reduce", fields={"state": "on"}, microgrids=["r001"])
    assert (wrong.status_code, wrong.json()["detail"]) == (422, "reduce needs for_s")
    assert post(ben, "/commands", **SLOWER, seen=0, microgrids=["r009"]).status_code == 409
    assert post(ben, "/commands/7/cancel").status_code == 404
    assert post(browser(Role.CLERK), "/commands", **SLOWER, seen=0, everyone=True).status_code == 403


def test_a_planned_change_is_cancelled(browser: Browsers) -> None:
    operator = browser(Role.OPERATOR)
    planned = post(operator, "/commands", **SLOWER, seen=0, everyone=True, at="2027-01-16T02:00-05:00").json()["change"]
    assert (planned["state"], planned["due"]) == ("planned", "2027-01-16T07:00:00Z")
    assert post(operator, "/commands/1/cancel").json()["change"]["ended_by"] == operator.name
    assert post(operator, "/commands/1/cancel").status_code == 409


def test_a_schedule_that_does_not_say_what_was_seen_is_refused_and_changes_nothing(browser: Browsers) -> None:
    operator = browser(Role.OPERATOR)
    refused = post(operator, "/commands", **SLOWER, everyone=True)
    assert (refused.status_code, "needs `seen`" in refused.json()["detail"]) == (428, True)
    assert operator.get("/commands/changes").json() == {"changes": [], "newest": 0}
