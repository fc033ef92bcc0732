"""The steps of a rollout, pure."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from utility.fleet.steps import Member, planned, to_send

NAMES = [f"r{number:03}" for number in range(1, 81)]


def test_eighty_controllers_are_one_then_four_then_the_rest() -> None:
    steps = [each.step for each in planned(NAMES, "r007")]
    assert [steps.count(step) for step in (1, 2, 3)] == [1, 4, 75]
    assert planned(NAMES, "r007")[0].controller == "r007"
    assert [each.step for each in planned(["r001"], None)] == [1]


@given(st.data())
def test_whatever_the_verdicts_no_two_of_a_clique_are_under_way_and_each_step_waits(data: st.DataObject) -> None:
    names = NAMES[: data.draw(st.integers(1, 30))]
    cliques = [names[at : at + 3] for at in range(0, len(names), 3)]
    members = planned(names, None)
    for _ in range(200):
        due = to_send(members, cliques, is_approved=True)
        members = [replace(m, command="x") if m.controller in due else m for m in members]
        busy = {m.controller for m in members if m.is_under_way}
        assert all(len(busy & set(clique)) <= 1 for clique in cliques)
        assert len({m.step for m in members if m.is_under_way}) <= 1
        if not busy:
            break
        ended = data.draw(st.sampled_from(sorted(busy)))
        members = [replace(m, verdict="done") if m.controller == ended else m for m in members]
    assert all(m.verdict == "done" for m in members)


def test_without_the_second_person_only_the_first_is_sent_it() -> None:
    members = planned(NAMES, None)
    assert to_send(members, [], is_approved=False) == ["r001"]
    members[0] = replace(members[0], command="x", verdict="done")
    assert to_send(members, [], is_approved=False) == []
    assert len(to_send(members, [], is_approved=True)) == 4


def test_after_a_bad_verdict_none_is_sent_it() -> None:
    bad = Member(controller="r001", step=1, command="x", verdict="failed")
    assert to_send([bad, *planned(NAMES[1:], None)], [], is_approved=True) == []
