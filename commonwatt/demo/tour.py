"""Eight things to try in the demonstration: what to do, and what to look at; the docs have them from here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something to try."""

    title: str  # what it is
    do: Sequence[str]  # commands for a second terminal, or pages with the role that opens them
    look: str  # what to look at, and what it shows


STEPS: Sequence[Step] = (
    Step(
        title="Stop a gateway",
        do=("kill -9 $(grep -oP '\"r001 gateway\": \\K[0-9]+' DATA/processes.json)",),
        look="The live view counts a restart, and what waits at r001 grows and drains. At the end the audit finds no "
        "reading missing.",
    ),
    Step(
        title="A storm",
        do=(
            ".venv/bin/commonwatt utility storm --for 21600 --config DATA/utility/utility.toml",
            ".venv/bin/commonwatt meters weather 10 --for 14400 --config DATA/plant/meters.toml",
            ".venv/bin/commonwatt meters feeder dead --for 7200 --config DATA/r001/meters.toml",
        ),
        look="viewer: CONSOLE/console/microgrids/r001. Batteries hold their energy; r001 becomes an island, and "
        "returns when the voltage is back and stable.",
    ),
    Step(
        title="A regional supply of LOW",
        do=(".venv/bin/commonwatt meters supply LOW --for 7200 --config DATA/plant/meters.toml",),
        look="viewer: CONSOLE/console/town. An alarm says so, and all places use less. The plant takes less from the "
        "regional grid.",
    ),
    Step(
        title="Tune a schedule",
        do=("operator: CONSOLE/console/schedules, then choose r002 and relay every 300 s",),
        look="The page shows the gateway's answer. In the live view more waits at r002: it relays less often. The same "
        "page puts back what was in force.",
    ),
    Step(
        title="Approve a tariff",
        do=(
            "clerk: CONSOLE/console/rates/new, raise the off-peak import price, press Next, and propose",
            "approver: CONSOLE/console/rates, open the proposal",
        ),
        look="People can't approve their own proposals. The approver sees who would pay how much more, then approves.",
    ),
    Step(
        title="Read a bill",
        do=("resident: CONSOLE/console/home, then open a bill",),
        look="One picture of today, the money, what sun and neighbours were worth this month, and the bills. A bill "
        "starts with amount and due date, the change since the month before, and what neighbours' energy would have "
        "cost. A town without a finished month has no bill yet.",
    ),
    Step(
        title="Check the bill",
        do=(
            "resident: CONSOLE/console/home, open the bill of 2026-05 and download its receipt",
            ".venv/bin/python docs/examples/check_bill.py receipt-2026-05-1.json --code 'CODE'",
        ),
        look="The program of one file, without any of ours, computes the bill again. CODE is at the end of the bill.",
    ),
    Step(
        title="Make a release for researchers",
        do=(
            ".venv/bin/commonwatt login --config DATA/utility/utility.toml",
            (
                ".venv/bin/commonwatt research release open --config DATA/utility/utility.toml"
                " --from 2026-06-20T00:00Z --to 2026-06-21T00:00Z"
            ),
        ),
        look="Log in as clara, the clerk. Wait until the town time at the foot of a page is after 20 Jun 2026 21:00: "
        "the period must be over. A period is released once. The folder has the data, their dictionary, and what "
        "attacks on it get. researcher: CONSOLE/console/research.",
    ),
)
"""The tour. DATA is the demonstration's folder, CONSOLE the address of its console."""


def told(data: str, console: str) -> Iterator[str]:
    """Yield the tour's lines for a terminal, with the folder and the address of a demonstration."""
    for number, step in enumerate(STEPS, start=1):
        yield f"{number}. {step.title}"
        for line in (*step.do, f"→ {step.look}"):
            yield "   " + line.replace("DATA", data).replace("CONSOLE", console)


def as_markdown() -> str:
    """Return the tour as a part of a page."""
    lines = []
    for number, step in enumerate(STEPS, start=1):
        lines.append(f"{number}. **{step.title}.** {step.look.replace('CONSOLE', '')}")
        lines += [f"   - `{line.replace('DATA', 'data').replace('CONSOLE', '')}`" for line in step.do]
    return "\n".join(lines) + "\n"
