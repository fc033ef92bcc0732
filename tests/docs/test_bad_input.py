"""docs/limits.md case by case: every answer, counter and dead letter it names is what the real cores and stores do."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from commonwatt.protocol.dead_letters import MAX_DEAD_LETTER_BYTES
from harness.docs.marked import DOCS
from harness.fuzz import bad_input
from harness.fuzz.bad_input import Seen, gateway_bench, utility_bench

PAGE = (DOCS / "limits.md").read_text()
Row = tuple[str, str, str, str]


def rows(title: str) -> list[Row]:
    """The cases of the section under ``title``: what comes, answer, counted, kept. A row may have several, by ``;``."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    lines = [line for line in found[1].splitlines() if line.startswith("|") and not line.startswith("|---")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(case, answer, counted, kept) for what, answer, counted, kept in cells for case in what.split("; ")]


def in_gateway(play: Callable[[bad_input.GatewayBench, str], Seen], folder: Path, case: str) -> Seen:
    with gateway_bench(folder) as bench:
        return play(bench, case)


def in_utility(folder: Path, case: str) -> Seen:
    with utility_bench(folder) as bench:
        return bad_input.play_utility(bench, case)


def at_meter(folder: Path, case: str) -> Seen:
    del folder
    return bad_input.play_meter(case)


SOURCES: dict[str, Callable[[Path, str], Seen]] = {
    "Puts of a meter": partial(in_gateway, bad_input.play_put),
    "History records": partial(in_gateway, bad_input.play_record),
    "Event records": partial(in_gateway, bad_input.play_event),
    "Levels and outcomes": partial(in_gateway, bad_input.play_quiet),
    "What a meter receives": at_meter,
    "The head-end, at the gateway": partial(in_gateway, bad_input.play_head_end),
    "The head-end, at the utility": in_utility,
}
CASES = [(source, row) for source in SOURCES for row in rows(source)]


@pytest.mark.parametrize(("source", "row"), CASES, ids=[f"{source}: {row[0]}" for source, row in CASES])
def test_bad_input_is_answered_counted_and_kept_as_the_page_says(source: str, row: Row, tmp_path: Path) -> None:
    case, answer, counted, kept = row
    seen = SOURCES[source](tmp_path, case)
    assert seen.answer == answer
    assert (counted in seen.counted) if counted else not seen.counted - {"accepted"}, seen.counted
    assert seen.kept == ((kept,) if kept else ())
    assert all(len(content) <= MAX_DEAD_LETTER_BYTES for content in seen.contents)


def test_every_case_there_is_stands_on_the_page() -> None:
    known = {
        *bad_input.PUTS, *bad_input.RECORDS, *bad_input.EVENT_RECORDS, *bad_input.LEVELS, *bad_input.OUTCOMES,
        *bad_input.COMMANDS, *bad_input.ORDERS, *bad_input.AT_UTILITY,
    }  # fmt: skip
    assert known <= {row[0] for _, row in CASES}
