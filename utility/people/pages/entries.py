"""Entries of the audit log as people read them."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from commonwatt.model.csv_text import line_of
from utility.access.actions import action_words
from utility.access.differences import rows_of
from utility.webkit.console.rendering import local_words

VIA = {"session": "the console", "token": "a program", "machine": "the machine"}

_HEAD = ("number", "time", "person", "by", "address", "action", "what was done", "subject", "before and after")


def with_changes(
    entries: list[dict[str, Any]], zone: ZoneInfo
) -> list[tuple[dict[str, Any], list[tuple[str, str, str]]]]:
    """Return entries, each with the rows of what changed."""
    return [(one, _changes(one, zone)) for one in entries]


def csv_lines(entries: Iterator[Mapping[str, Any]], zone: ZoneInfo) -> Iterator[str]:
    """Yield entries as lines of CSV, times in the town's zone."""
    yield line_of(_HEAD)
    for one in entries:
        changes = "; ".join(f"{name}: {was} → {now}".strip() for name, was, now in _changes(one, zone))
        time, via = local_words(one["time"], zone), VIA.get(one["via"], one["via"])
        what = (one["action"], action_words(one["action"]), one["subject"], changes)
        yield line_of((one["no"], time, one["person"], via, one["address"], *what))


def _changes(entry: Mapping[str, Any], zone: ZoneInfo) -> list[tuple[str, str, str]]:
    return rows_of(entry["before"], entry["after"], partial(local_words, zone=zone))
