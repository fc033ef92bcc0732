"""Makes ``docs/reliability.md``: the guarantee under each fault, and the test of that fault with real processes.

A test's name gives its row: ``test_row_16_...``. After a new test, run ``make docs``.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from harness.docs.marked import filled

TESTS = Path(__file__).resolve().parents[2] / "tests"

_TEST = re.compile(r"^def (test_row_(\d\d)_\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One fault."""

    fault: str  # what happens, in plain words
    holds: str  # the guarantee


ROWS: dict[int, Row] = {
    1: Row(
        "A process dies just after it stored data, before it could acknowledge it.",
        "The data is sent again and counted once: at the gateway, at the utility, at the meter.",
    ),
    2: Row(
        "A process dies just before it stores data.",
        "Nothing was acknowledged, so the data is sent again.",
    ),
    3: Row(
        "The message brokers are killed, again and again, while data flows.",
        "All programs reconnect and subscribe again by themselves; nothing is lost.",
    ),
    4: Row(
        "The power fails.",
        "All acknowledged data is there afterwards, on gateway and utility.",
    ),
    5: Row(
        "Bits flip in a stored file.",
        "A checksum finds it; the data is quarantined; no wrong value is ever shown; data that others still have is "
        "fetched again. A gateway replaces a damaged store by itself; a utility stops until a person recovers it.",
    ),
    6: Row(
        "A disk is full.",
        "Nothing is acknowledged that is not stored; an alarm is raised; batteries are still commanded; meters "
        "wait, and make up for the slots they missed; all continue by themselves when there is space.",
    ),
    7: Row(
        "The disk reports that it could not write.",
        "From then on nothing is acknowledged until the store was reopened and is sound.",
    ),
    8: Row(
        "A line is dead, but neither side gets an error.",
        "The fault is detected within two heartbeats, and the connection is made again.",
    ),
    9: Row(
        "A client stops reading its messages.",
        "No other client waits for it, and memory stays bounded.",
    ),
    10: Row(
        "Every line loses, doubles, reorders and delays messages.",
        "The utility ends with exactly the measured readings, with equal sums to the last milliwatt-hour.",
    ),
    11: Row(
        "The utility is down for a week.",
        "When it is back, present readings arrive first; the week follows and is complete.",
    ),
    12: Row(
        "The utility's acknowledgements are lost.",
        "Batches are sent again, and each counts once.",
    ),
    13: Row(
        "The database server (PostgreSQL) crashes in the middle of a batch.",
        "All of the batch is stored, or nothing; the utility continues by itself when the server is back.",
    ),
    14: Row("Two controllers both act as a microgrid's manager.", "Meters obey one of them only."),
    15: Row("A paused controller wakes up and continues to command.", "Its old commands are refused."),
    16: Row(
        "A command arrives after its time, or a broker retained it and delivers it as new.",
        "It is refused as expired, or ignored, and shown to the operator (commands, metrics, log).",
    ),
    17: Row(
        "The outcome of a command is lost.",
        "The command is sent again, carried out once, and its outcome repeated.",
    ),
    18: Row(
        "A clock jumps by an hour, or starts in 1970.",
        "No reading is lost or overwritten, and nothing stops.",
    ),
    19: Row("A month ends while the line is down.", "The bill waits, or marks what it estimates."),
    20: Row(
        "Two schedulers run, or one dies in the middle of a job.",
        "Each period of a job that catches up has one result, in order; missed periods are made up for.",
    ),
    21: Row("Readings arrive after the bill.", "The issued bill stays; its correction is a line of the next one."),
    22: Row(
        "A meter is reset or exchanged, its counter rolls over, or it dips once.",
        "No false energy appears.",
    ),
    23: Row(
        "A meter without a connection runs out of storage.",
        "Readings without space are counted at the meter and shown as absent at the utility, to the slot; all others "
        "arrive.",
    ),
    24: Row(
        "A client connects in another device's name, with a wrong token or certificate or none.",
        "The client is refused, with the reason; the device is not disturbed.",
    ),
    25: Row(
        "A client connects and sends garbage, too much, or too slowly.",
        "The client is disconnected within 5 s, and memory stays bounded.",
    ),
    26: Row(
        "A device subscribes or publishes to topics of others.",
        "The request is refused and logged, whatever the topic.",
    ),
    27: Row(
        "A part of a program fails with an unexpected error.",
        "The error is counted, and the program continues.",
    ),
    28: Row(
        "A reading is implausible.",
        "It is quarantined with the reason, and all other readings are stored.",
    ),
    29: Row("An upgrade, and its reversal, while data waits.", "Nothing is lost or counted twice."),
    30: Row(
        "A certificate has expired, or was revoked.",
        "Its owner is refused with the reason; data waits at its sender until there is a new one.",
    ),
    31: Row(
        "A gateway is killed and started again while its microgrid is an island and places are off.",
        "Nothing at the meters changes until the boundary has reported: what they hold is renewed.",
    ),
    32: Row(
        "An issued bill is changed or deleted in the database.",
        "Each way to see it names it; none shows, prints or exports it; the next month corrects nothing of it.",
    ),
}
"""The faults by their numbers in the catalogue of faults."""


def row_tests() -> dict[int, list[str]]:
    """Return the tests of each row, as ``path::name``."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, number in _TEST.findall(path.read_text(encoding="utf-8")):
            found[int(number)].append(f"{path.relative_to(TESTS.parent)}::{name}")
    return dict(found)


def reliability_page() -> str:
    """Return ``docs/reliability.md`` as it is, with its rows made anew."""
    tests = row_tests()
    lines = []
    for number, row in sorted(ROWS.items()):
        shown = "<br>".join(f"`{name}`" for name in tests.get(number, []))
        lines.append(f"| {number} | {row.fault} | {row.holds} | {shown} |\n")
    head = "| # | what fails | what holds | shown by |\n|---|---|---|---|\n"
    return filled("reliability.md", "rows", head + "".join(lines))
