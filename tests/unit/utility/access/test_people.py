"""The second person."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from commonwatt.config.files import load_settings
from commonwatt.config.utility import UtilitySettings
from commonwatt.model.exceptions import ConfigError
from utility.access.actor import Actor, Via
from utility.access.decisions import Second, refusal, seconds, words_of
from utility.access.roles import Role
from utility.access.store.second_people import Standing

DAY = 86_400


def one(name: str, *makers: str, changed: int | None = None) -> Standing:
    both = frozenset({Role.CLERK, Role.APPROVER})
    return Standing(name=name, roles=both, makers=frozenset(makers), changed=changed)


def refused(people: list[Standing], name: str, first: str, now: int = 100 * DAY) -> str:
    actor = Actor(name=name, roles=frozenset({Role.APPROVER}), account=None, via=Via.SESSION, address="")
    return refusal({p.name: p for p in people}, Second(actor=actor, now=now, wait_days=7), {first: "proposed it"})


def test_people_second_person_is_another_one() -> None:
    people = [one("anna"), one("ben")]
    assert refused(people, "ben", "anna") == ""
    assert "anna proposed it; a second person" in refused(people, "anna", "anna")


def test_people_neither_of_two_made_the_other() -> None:
    people = [one("anna"), one("ben", "anna", changed=0), one("eve", "root", changed=0)]
    for name, first in (("ben", "anna"), ("anna", "ben")):
        assert "made the link, gave the roles or removed the second factor" in refused(people, name, first)
    assert refused(people, "eve", "anna") == refused(people, "eve", "ben") == refused(people, "ben", "eve") == ""


def test_people_changed_by_another_one_wait_and_the_refusal_has_the_date() -> None:
    people = [one("anna"), one("ben", "root", changed=100 * DAY)]
    assert "root changed link, roles or second factor of ben, who may be the second from 1970-04-18" in refused(
        people, "ben", "anna", 107 * DAY - 1
    )
    assert refused(people, "ben", "anna", 107 * DAY) == ""
    assert refused(people, "anna", "ben", 101 * DAY) == "", "the first may propose at once"


@pytest.mark.parametrize("nobody", ["service", "", "root@this-machine", "this-machine", "was-removed"])
def test_people_what_nobody_did_first_needs_a_person_again(nobody: str) -> None:
    assert "is no person who logs in; a person has to do that again" in refused([one("ben")], "ben", nobody)


def test_people_who_may_says_who_and_from_when() -> None:
    people = {p.name: p for p in (one("anna"), one("ben", "root", changed=100 * DAY), one("eve", "anna", changed=0))}
    assert seconds(people, ["anna"], 7) == {"ben": 107 * DAY}
    assert seconds(people, ["ben"], 7) == {"anna": 0, "eve": 7 * DAY}
    assert seconds(people, ["ben"], 0) == {"anna": 0, "eve": 0}
    assert words_of(seconds(people, ["anna"], 7), 106 * DAY) == "ben from 1970-04-18 00:00:00Z"
    assert words_of({}, 0).startswith("nobody; an administrator")


def test_people_no_wait_is_for_a_demonstration_alone() -> None:
    with pytest.raises(ValidationError, match="is for a demonstration with a `clock` alone"):
        UtilitySettings(second_person_wait_days=0)
    assert UtilitySettings(second_person_wait_days=0, clock=Path("clock.json")).second_person_wait_days == 0
    assert (UtilitySettings().second_person_wait_days, UtilitySettings().second_factor) == (7, "approvers")


def test_people_in_the_file_is_an_error_that_names_the_next_step(tmp_path: Path) -> None:
    file = tmp_path / "utility.toml"
    file.write_text('[utility]\n[utility.billing]\npeople = ["anna", "ben"]\n')
    with pytest.raises(ConfigError, match=r"people: is no setting any more: .* commonwatt login"):
        load_settings(file, "utility", UtilitySettings)
