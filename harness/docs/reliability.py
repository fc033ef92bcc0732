"""What is promised under which fault, and which test does that fault to real processes: ``docs/reliability.md``.

A test belongs to a row by its name: ``test_row_16_...``. ``make docs`` makes the page anew when there is another.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2] / "tests"

_TEST = re.compile(r"^def (test_row_(\d\d)_\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        fault: What happens, in plain words.
        holds: What holds then.
    """

    fault: str
    holds: str


ROWS: dict[int, Row] = {
    1: Row(
        "A process dies just after it stored data, before it could say so.",
        "It is sent again and counted once: at the gateway, at the utility, at the meter.",
    ),
    2: Row(
        "A process dies just before it stores data.",
        "Nothing was acknowledged, so it is sent again.",
    ),
    3: Row(
        "The message brokers are killed, again and again, while data flows.",
        "Everybody connects and subscribes again by itself; nothing is lost.",
    ),
    4: Row(
        "The power fails.",
        "All that was acknowledged is there afterwards, on gateway and utility.",
    ),
    5: Row(
        "Bits flip in a stored file.",
        "Found by a checksum and quarantined; no wrong value is ever shown; what others still have is fetched again. A "
        "gateway replaces a damaged store by itself; a utility stops and waits for a person, who has it recovered.",
    ),
    6: Row(
        "A disk is full.",
        "Nothing is acknowledged that is not stored; an alarm is raised; batteries are still commanded; meters "
        "wait, and make up for the slots they missed; all go on by themselves when there is room.",
    ),
    7: Row(
        "The disk says that it could not write.",
        "Nothing is acknowledged from then on until the store was opened anew and is sound.",
    ),
    8: Row(
        "A line is dead, but neither side is told.",
        "It is noticed within two heartbeats, and made anew.",
    ),
    9: Row(
        "A client takes no more messages.",
        "Nobody else waits for it, and memory stays bounded.",
    ),
    10: Row(
        "Every line loses, doubles, reorders and delays messages.",
        "The utility ends with exactly what was measured, the same sums to the last milliwatt-hour.",
    ),
    11: Row(
        "The utility is away for a week.",
        "When it is back, what is measured now comes first; the week follows and is complete.",
    ),
    12: Row(
        "The utility's acknowledgements are lost.",
        "Batches are sent again, and each counts once.",
    ),
    13: Row(
        "The database server (PostgreSQL) crashes in the middle of a batch.",
        "All of the batch is stored, or nothing; the utility goes on by itself when the server is back.",
    ),
    14: Row("Two controllers both believe to be in charge.", "Meters obey one of them only."),
    15: Row("A controller that was paused wakes up and goes on commanding.", "Its old commands are refused."),
    16: Row(
        "A command arrives after its time, or was kept by a broker and delivered as new.",
        "It is refused as expired, or ignored, and shown to the operator (commands, metrics, log).",
    ),
    17: Row(
        "The answer to a command is lost.",
        "The command is sent again, carried out once, and its answer repeated.",
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
    21: Row("Readings arrive after the bill.", "The bill stays, and a correction is made."),
    22: Row(
        "A meter is reset or exchanged, its counter rolls over, or shows too little for once.",
        "No energy appears that never flowed.",
    ),
    23: Row(
        "A meter without a connection runs out of storage.",
        "What it had no room for is counted at the meter and shown as absent at the utility, to the slot; all before "
        "and after arrives.",
    ),
    24: Row(
        "Somebody connects in another's name, with a wrong token or certificate or none.",
        "Refused, with the reason; the victim notices nothing.",
    ),
    25: Row(
        "Somebody connects and sends rubbish, too much, or too slowly.",
        "Cut off within 5 s, and memory stays bounded.",
    ),
    26: Row(
        "A device tries to read or write what is not its own.",
        "Refused and logged, whatever it asks for.",
    ),
    27: Row(
        "A part of a program fails in a way nobody expected.",
        "It is counted, and the program goes on.",
    ),
    28: Row(
        "A reading makes no sense.",
        "It is kept aside with the reason, and everything else flows.",
    ),
    29: Row("An upgrade while data waits, and back again.", "Nothing is lost or counted twice."),
    30: Row(
        "A certificate has expired, or was revoked.",
        "Its owner is refused with the reason; data stays where it is until there is a new one.",
    ),
}
"""By its number in the catalogue of faults."""

LATER = frozenset({14, 15, 19, 21, 29})
"""Rows about what is not built yet: a second controller, bills, upgrades."""


def row_tests() -> dict[int, list[str]]:
    """Return the tests of each row, as ``path::name``."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, number in _TEST.findall(path.read_text(encoding="utf-8")):
            found[int(number)].append(f"{path.relative_to(TESTS.parent)}::{name}")
    return dict(found)


_HEAD = """\
# What happens when things fail

This page is for those who decide whether to rely on Commonwatt. It lists the faults it was built to survive, what holds
in each, and the test that does that very fault to the real programs, with real brokers, databases, files and
connections, and then checks the outcome. The tests run with every change (`make test`), and a change that breaks one is
not taken. The page is made by `make docs` from the tests that are there, so it can't promise what no test shows.

The check at the end of most of them is the same that you can run on your own data: `commonwatt audit` compares every
reading that every meter ever made with what the utility stores, slot by slot. *Nothing lost, nothing counted twice*
means that this comparison finds no difference at all.

| # | what fails | what holds | shown by | result |
|---|---|---|---|---|
"""

_LIMITS = """
## What is not covered, and limits

- **Not yet**: rows marked so are about what is not built yet (a second controller that takes over, bills, upgrades
  between releases), or their test is still missing. Nothing is promised there.
- **One machine.** All tests run on one machine; several machines are several processes, and a bad network is a proxy
  that cuts, delays, darkens, loses, doubles and reorders. Real radio, real switches and months of running are not in
  them.
- **What only one place has can be lost with it.** A reading that a meter has not sent yet is lost if the meter is
  destroyed; one that a gateway acknowledged and has not relayed, usually of the last minute, or of a whole outage, is
  lost if its disk is. Both show as missing, never as zero. The meter keeps a reading until the gateway has it, and
  the gateway until the utility has it.
- **A damaged store of many gigabytes.** If its log or its schema is damaged, reading around that takes a copy of it:
  the disk must have as much room again, or the gateway does not start and says what it needs. Taking over a million
  acknowledged parts takes about 12 s, and all others are looked at too; readings wait at their meters meanwhile.
- **A meter that sends nothing but bad records**: its gateway keeps 100,000 of them a day, about 20 MB; more are
  rejected by name, counted, and gone; readings that are held as implausible wait at the meter
  instead. Parts of which the utility has averages alone are never deleted.
- **A meter with no room left** records nothing until there is room again. The energy of that time is in no interval;
  a meter with a counter (record type `register`) still shows it there.
- **Counters are kept as they were read.** Energy comes from intervals alone; a counter is a level and never summed,
  so a reset, an exchange, a rollover or a dip can make no energy. Whether a counter and the intervals agree is not
  checked yet. When two devices tell different values of one slot, the smaller stands, and the conflict is kept for a
  person to see.
- **A command for a duration** is given only while a controller does not trust its clock, as after a start without a
  network. If it is held on the way it begins when it arrives; it still ends by itself.
- **A meter's clock** is right within 2 s and what an answer took, or up to 120 s ahead, once its gateway has told it
  the time; it ends states by that clock. Before that, as after a power cut without a network, it is as wrong as its own
  clock is. Readings it has recorded under times to come wait at the meter until those have come, and so does all it
  records meanwhile; of such a time no second measurement is kept.
- **A retained command** can't expire at a broker of ours, which keeps none. Other brokers may; receivers ignore it,
  count it (`..._retained_messages_total`) and log it once, which is all the operator sees.
- **A damaged database of the utility** loses what was in it alone: decisions, commands and dead letters that can't be
read
  any more. Who sent a part and when, and the sums beside each block, have no checksum of their own; the readings have.
- **A gateway that loses its store while it sends averages** forgets which it sent. If a meter then repeats a few exact
  readings of such a group, the utility has both: the exact ones, and the mean of all ten in the other slots. Each slot
  says which it is; the sum of that one group may be off by as much as readings differ from their mean.
- **After a long outage of the utility** the newest readings come first, so the oldest are the last to be complete.
- **A clock that is trusted and years ahead** has jobs done for periods that have not been. They stay done when the
  clock is right again. `commonwatt utility jobs` shows them.
- **Figures**: a week of eight meters, 80,640 parts of a minute each, drained in 20 s on a busy two-core machine over a
  line of 100 kB/s.
"""


def reliability_page() -> str:
    """Return ``docs/reliability.md``."""
    tests = row_tests()
    lines = []
    for number, row in sorted(ROWS.items()):
        names = tests.get(number, [])
        shown = "<br>".join(f"`{name}`" for name in names) or "no test yet"
        holds = row.holds if names else f"*To come:* {row.holds}"
        lines.append(f"| {number} | {row.fault} | {holds} | {shown} | {'holds' if names else 'not yet'} |\n")
    return _HEAD + "".join(lines) + _LIMITS
