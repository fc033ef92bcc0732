"""The tests that the page on security names exist, and each line of its tables has one."""

import re

from harness.docs.marked import DOCS

TESTS = DOCS.parent / "tests"


def test_every_test_that_the_page_names_exists() -> None:
    text = (DOCS / "security.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    there = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())}
    assert named - there == set()
    assert len(named) > 40


def test_every_row_has_a_test_or_a_reason() -> None:
    rows = [line for line in (DOCS / "security.md").read_text().splitlines() if re.match(r"\| \d", line)]
    assert len(rows) > 60
    for row in rows:
        assert "`test_" in row or "not testable" in row or "**not met**" in row, row


def test_every_line_of_what_a_stolen_controller_can_do_has_a_test() -> None:
    text = (DOCS / "security.md").read_text().split("## What a stolen controller can and can't do")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    assert all("`test_" in row for row in rows)
