"""The tables of the bench."""

from collections.abc import Sequence
from statistics import median

from harness.takeover.real.run import Seen
from harness.takeover.real.weighing import Weighed

HEADS = (
    "fault",
    "first",
    "90 %",
    "last",
    "managers",
    "home after",
    "old commands: came, obeyed",
    "two obeyed for",
    "held",
)


def times_table(seen: Sequence[Seen]) -> str:
    """Return the times of one fault in many runs."""
    if not seen:
        return ""
    rows: list[tuple[str, ...]] = [("meters that obey the new manager", "least", "median", "most")]
    for words, name in (("first", "first_s"), ("first battery", "battery_s"), ("90 %", "most_s"), ("last", "last_s")):
        found = [getattr(one.times, name) for one in seen]
        rows.append((words, *(f"{figure:.2f}" for figure in (min(found), median(found), max(found)))))
    return f"\n{seen[0].fault.words}: seconds in {len(seen)} runs\n{_table(rows)}"


def faults_table(seen: Sequence[Seen]) -> str:
    """Return what was seen of each fault."""
    rows: list[tuple[str, ...]] = [HEADS]
    for one in seen:
        figures = [f"{figure:.2f}" for figure in (one.times.first_s, one.times.most_s, one.times.last_s)]
        home = "" if one.home_s is None else f"{one.home_s:.0f}"
        old = f"{one.old[0]}, {one.old[1]}"
        held = "; ".join(one.broken) or "all"
        rows.append((one.fault.words, *figures, " ".join(one.managers), home, old, f"{one.together_s:.2f}", held))
    return f"\nSeconds after each fault\n{_table(rows)}"


def bytes_table(weighed: Sequence[Weighed]) -> str:
    """Return the bytes of beats and messages in 30 days."""
    rows: list[tuple[str, ...]] = [("a controller", "minutes", "IPv4: up", "down", "IPv6, reckoned: up", "down")]
    for one in weighed:
        words = "with the utility" if one.utility else "without the utility"
        kinds = {"beats": (one.beats_up, one.beats_down), "messages": (one.messages_up, one.messages_down)}
        for kind, ways in kinds.items():
            figures = [way.month_mb(one.seconds, ipv6=ipv6) for ipv6 in (False, True) for way in ways]
            rows.append((f"{kind}, {words}", f"{one.seconds / 60:.1f}", *(f"{figure:.1f}" for figure in figures)))
    return f"\nBeats and messages, MB in 30 days\n{_table(rows)}"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(f"| {line} |" for line in [lines[0], " | ".join("-" * width for width in widths), *lines[1:]])
