"""No page says what only programs and files say: every page of every role is read."""

import re
from collections.abc import Iterator

import pytest

from harness.furnished import furnished, visited
from harness.routes import Visitors, all_routes
from harness.words import faults_of_words, words_of
from tests.unit.utility.assembly.test_routes import QUERY, values_of
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role

PAGES = [route for route in all_routes() if route.is_page and route.is_safe]
LATER = {"action": "schedule", "which": "all", "when": "later", "time": "2027-02-01T02:00", "relay_s": "reset"}


@pytest.fixture(scope="module")
def visitors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitors]:
    with furnished(tmp_path_factory.mktemp("words"), NOW) as database, visited(database, NOW) as made:
        headers = made.session("everything")
        assert made.ask("POST", "/console/schedules", headers, data=LATER).status_code == 303
        yield made


@pytest.mark.parametrize("role", [*Role, "everything"])
def test_no_page_has_words_of_programs(visitors: Visitors, role: str) -> None:
    headers, read, wrong = visitors.session(str(role)), 0, []
    for route in PAGES:
        query = {name: value for name, value in QUERY.items() if name in route.in_query}
        for params in (query, dict.fromkeys(route.in_query, "wrong")):
            answer = visitors.ask("GET", route.address(values_of(route)), headers, params=params)
            if "text/html" in answer.headers.get("content-type", ""):
                read += 1
                wrong += [f"{route.path}: {fault}" for fault in faults_of_words(words_of(answer.text))]
    assert not wrong, "\n".join(wrong)
    assert read > 30


def test_every_cell_of_a_card_has_its_head(visitors: Visitors) -> None:
    text = visitors.ask("GET", "/console/meters", visitors.session("viewer")).text
    row = text.partition("<tbody>")[2].partition("</tr>")[0]
    assert re.findall(r'<td data-words="([^"]+)"', row) == ["Microgrid", "Place", "Direction", "Account", "Battery"]
