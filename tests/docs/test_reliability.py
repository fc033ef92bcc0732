"""docs/reliability.md: every fault of the catalogue stands there, with tests that do it."""

import re
from collections import defaultdict

from tests.support.reliability import LATER, PAGE, ROWS, reliability_page, row_tests


def listed() -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for name, number in re.findall(r"`(tests/\S+?::test_row_(\d\d)_\w+)`", PAGE.read_text()):
        found[int(number)].append(name)
    return found


def test_page_is_made_from_the_rows() -> None:
    assert PAGE.read_text() == reliability_page(listed()), "docs/reliability.md is out of date: run make docs"


def test_every_row_of_the_catalogue_stands_there_once() -> None:
    assert list(ROWS) == list(range(1, 31))
    rows = re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number in rows] == list(range(1, 31))


def test_every_test_that_is_listed_is_there_and_belongs_to_a_row() -> None:
    there = row_tests()
    assert there.keys() <= ROWS.keys()
    for number, names in listed().items():
        assert set(names) <= set(there[number]), "docs/reliability.md names a test that is gone: run make docs"


def test_every_row_with_a_test_says_so_and_no_row_of_what_is_not_built_does() -> None:
    assert row_tests().keys() - listed().keys() <= {18}, "run make docs"
    assert not LATER & listed().keys(), "no longer later"
