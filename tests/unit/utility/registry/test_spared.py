"""Places that must not be cut: flagged by two people by every door, told to gateways, shown to operators alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.console import Browser
from harness.real import databases
from tests.unit.utility.conftest import NOW
from tests.unit.utility.supply.test_deciding import FACTS
from tests.unit.utility.supply.test_rationing import HOUSES
from utility.access.roles import Role
from utility.database.database import Database
from utility.outbox.store.commands import open_commands, repeat_commands
from utility.outbox.tables import command
from utility.registry.store.spared import AGAIN_S, meters_of, tell, to_tell
from utility.supply.deciding import rations_of
from utility.supply.rationing import RATIONING
from utility.supply.store.rations import members

Make = Callable[..., Browser]


def told(database: Database, now: int = NOW) -> list[str]:
    """Do the work of the job once; return what waits for gateways."""
    with database.writes.begin() as connection:
        tell(connection, now)
        return [each.message for each in open_commands(connection)]


def answered(database: Database, state: str = "done") -> None:
    with database.writes.begin() as connection:
        connection.execute(command.update().values(state=state, result="done"))


def flag(clerk: Browser, account: int, wanted: str = "true") -> int:
    form = {"account": account, "wanted": wanted, "csrf": clerk.csrf}
    return int(clerk.send("POST", "/console/spared", data=form).status_code)


def decide(person: Browser, account: int, agrees: str = "true", wanted: str = "true") -> int:
    form = {"agrees": agrees, "wanted": wanted, "csrf": person.csrf}
    return int(person.send("POST", f"/console/spared/{account}", data=form).status_code)


@databases.on_both_kinds
def test_a_flag_takes_two_people_and_only_then_the_gateway_is_told(database: Database, browser: Make) -> None:
    clerk, approver = browser(Role.CLERK), browser(Role.APPROVER)
    both = browser(Role.CLERK, Role.APPROVER)
    assert flag(both, 1) == 303
    assert told(database) == []
    assert decide(both, 1) == 409, "not the one who asked"
    assert decide(clerk, 1) == 403
    assert flag(approver, 2) == 403
    assert decide(approver, 1) == 303
    (message,) = told(database)
    with database.reads.begin() as connection:
        ((microgrid, meters),) = meters_of(connection, NOW // 900).items()
        assert all(f'"{meter}"' in message for meter in meters)
    assert told(database) == [message], "once"
    answered(database)
    assert told(database) == []
    assert flag(clerk, 1, "false") == 303
    assert decide(approver, 1) == 409, "another one was asked for since the page was shown"
    assert '<input type="hidden" name="wanted" value="false">' in approver.get("/console/spared").text
    assert decide(approver, 1, "false", "false") == 303, "refused: it stays"
    assert told(database) == []
    flag(clerk, 1, "false")
    decide(approver, 1, wanted="false")
    assert '"spared":[]' in told(database, NOW + 1)[0].replace(" ", "")
    assert microgrid


def test_it_is_told_again_until_it_is_answered_and_to_the_next_manager(database: Database, browser: Make) -> None:
    flag(browser(Role.CLERK), 1)
    decide(browser(Role.APPROVER), 1)
    told(database)
    answered(database, "expired")
    assert len(told(database, NOW + 9)) == 1
    answered(database)
    with database.writes.begin() as connection:
        (microgrid,) = meters_of(connection, NOW // 900)
        repeat_commands(connection, microgrid, "+1", NOW + 20)
        (again,) = open_commands(connection)
        assert '"spare"' in again.message
        assert to_tell(connection, NOW + 20) == {}


def test_it_is_told_again_to_a_gateway_that_refused_it_or_may_have_lost_it(database: Database, browser: Make) -> None:
    flag(browser(Role.CLERK), 1)
    decide(browser(Role.APPROVER), 1)
    told(database)
    for count, result in enumerate(("refused", "unsupported", "done")):
        now = NOW + count * AGAIN_S
        with database.writes.begin() as connection:
            connection.execute(command.update().values(state="done", result=result))
        assert told(database, now + AGAIN_S - 1) == []
        assert len(told(database, now + AGAIN_S)) == 1
    flag(browser(Role.CLERK), 1, "false")
    decide(browser(Role.APPROVER), 1, wanted="false")
    assert len(told(database, NOW + 4 * AGAIN_S)) == 1
    answered(database)
    assert told(database, NOW + 9 * AGAIN_S) == [], "none is left"


@pytest.mark.parametrize(
    ("role", "status"), [(Role.OPERATOR, 200), (Role.CLERK, 200), (Role.VIEWER, 403), (Role.ADMIN, 403)]
)
def test_only_operators_and_the_office_see_who_it_is(browser: Make, role: Role, status: int) -> None:
    flag(browser(Role.CLERK), 1)
    decide(browser(Role.APPROVER), 1)
    seen = browser(role).send("GET", "/console/spared")
    assert seen.status_code == status
    assert ("Not cut, whatever is short" in seen.text) == (status == 200)


def test_no_import_limit_is_below_what_such_a_place_uses(database: Database, browser: Make) -> None:
    flag(browser(Role.CLERK), 1)
    decide(browser(Role.APPROVER), 1)
    with database.reads.begin() as connection:
        found = members(connection, NOW // 900, (), frozenset())
    assert [each.spared_w > 0 for each in found if each.spared_w] == [True]
    street = replace(HOUSES, spared_w=1_200)
    empty = replace(FACTS, seen=(FACTS.now, FACTS.seen[1].model_copy(update={"supply": "empty"})))  # type: ignore[index]
    limits = {m.spared_w: rations_of(RATIONING["aces"], empty, [m])["r001"].import_limit_w for m in (street, HOUSES)}
    assert limits == {1_200: 1_200, 0: 0}
