"""A month's steps to its bills: which is done, and what the next one waits for."""

from utility.billing.month_steps import month_steps


def states(runs: list[dict[str, object]], waits_for: str | None) -> list[tuple[str, str]]:
    return [(step.state, step.waits_for) for step in month_steps(runs, waits_for)]


def test_the_first_step_that_is_not_done_says_what_it_waits_for() -> None:
    waiting = states([], "3 days are not final")
    assert waiting[0] == ("now", "3 days are not final")
    assert [state for state, _ in waiting[1:]] == ["later"] * 3
    ready = states([], None)
    assert ready[1][0] == "now"
    assert "a clerk now" in ready[1][1]
    drafts: list[dict[str, object]] = [
        {"no": 1, "state": "draft"},
        {"no": 2, "state": "checked", "made_by": "service", "made": 5, "checked_by": "anna", "checked": 9},
    ]
    checked = month_steps(drafts, None)
    assert [step.state for step in checked] == ["done", "done", "done", "now"]
    assert checked[3].run == 2
    assert [(step.by, step.at) for step in checked] == [("", None), ("service", 5), ("anna", 9), ("", None)]
    assert [state for state, _ in states([{"no": 3, "state": "issued"}], None)] == ["done"] * 4


def test_a_draft_whose_readings_may_still_come_has_no_step_done() -> None:
    draft = {"no": 4, "state": "draft", "made_by": "anna", "made": 5}
    figures = {"provisional": 9, "days": 20, "of_days": 31}
    steps = month_steps([draft | {"figures": figures}], "11 days not settled yet")
    assert [step.state for step in steps] == ["now", "later", "later", "later"]
    assert steps[0].waits_for == "20 of 31 days are settled; 11 days not settled yet"
    assert steps[1].run == 4, "it can be looked at"
    late = month_steps([draft | {"figures": {"provisional": 9}}], None)
    assert late[0].state == "now", "all days are settled, and a reading may still come"
