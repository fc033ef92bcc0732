"""The table of what a stolen controller can do names tests that exist."""

import re
from pathlib import Path

from harness.docs.marked import DOCS

TESTS = Path(__file__).parents[1]


def test_every_line_names_a_test_that_exists() -> None:
    text = (DOCS / "security.md").read_text().split("## What a stolen controller can and can't do")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert len(rows) > 10
    assert all(named), "each line is tested"
    known = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert {name for names in named for name in names} - known == set()
