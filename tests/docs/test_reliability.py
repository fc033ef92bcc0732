"""The tables of reliability and security: each line is there, with the tests that do it."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.docs.marked import DOCS
from harness.docs.reliability import ROWS, TESTS, row_tests

TEXT = (DOCS / "reliability.md").read_text(encoding="utf-8")


def test_every_row_of_the_catalogue_stands_there_once() -> None:
    assert list(ROWS) == list(range(1, 33))
    rows = re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)
    assert [int(number) for number in rows] == list(range(1, 33))


def test_every_row_has_a_test() -> None:
    assert row_tests().keys() == ROWS.keys()


def test_every_test_of_a_row_that_pytest_finds_is_listed_and_every_one_listed_is_found(
    request: pytest.FixtureRequest,
) -> None:
    files = {path for path in TESTS.rglob("*.py") if "def test_row_" in path.read_text(encoding="utf-8")}
    collected = [item.nodeid for item in request.session.items]
    if files - {item.path for item in request.session.items}:  # Not all tests run.
        collected = _collected(files)
    found = {test.partition("[")[0] for test in collected if "::test_row_" in test}
    listed = Counter(re.findall(r"`(tests/\S+?::test_row_\w+)`", TEXT))
    assert listed == Counter(found)


def _collected(files: Iterable[Path]) -> list[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-k", "test_row_"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        [*command, *map(str, files)], cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


TEST_FILES = DOCS.parent / "tests"


def test_every_test_that_the_page_names_exists() -> None:
    text = (DOCS / "security.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    there = {
        name for path in TEST_FILES.rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
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
