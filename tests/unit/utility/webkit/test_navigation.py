"""What a person is offered: few groups, each with the pages of one subject, none that the person may not open."""

import pytest

from utility.access.roles import PEOPLE, Role
from utility.webkit.console.navigation import NAVIGATION, Entry, groups_of


def offered(role: Role) -> list[Entry]:
    return [entry for entry in NAVIGATION if role in entry.roles]


@pytest.mark.parametrize("role", sorted(PEOPLE))
def test_nobody_has_more_than_five_groups_to_choose_from(role: Role) -> None:
    groups = groups_of(offered(role))
    assert 1 <= len(groups) <= 5, [group.title for group in groups]
    assert len({group.title for group in groups}) == len(groups)


def test_a_page_is_in_one_group_and_so_are_the_pages_below_it() -> None:
    for here, title in (
        ("/console/microgrids/r001", "Town"),
        ("/console/quarantine/findings", "Billing"),
        ("/console/jobs/gaps", "Operation"),
    ):
        assert [group.title for group in groups_of(NAVIGATION) if group.holds(here)] == [title]
    assert not any(group.holds("/console/account") for group in groups_of(NAVIGATION))
