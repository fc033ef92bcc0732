"""What was acknowledged under which marks of the utility's store, and what of it the store does not have any more.

See docs/stores.md ("A database that went back"). The store keeps stretches of acknowledgements, in order of arrival.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from commonwatt.protocol.batches import Mark
from gateway.stored import KeptSettings

ACKNOWLEDGED = "acknowledged"  # setting: the stretches, as JSON; it changes about once an hour
MARK = "mark"  # setting: the newest mark, "run,counter", which is also the newest stretch's last one
RUN = "utility_run"  # setting: the run of the utility's store with whose history this store was last compared

STRETCH_S = 3600  # longest stretch, seconds
KEPT = 72  # stretches that are kept: three days; after a database that went back further, everything is sent again


class Stretch(NamedTuple):
    """The acknowledgements of some time within one run of the utility's store."""

    period: int  # the hour in which they came
    run: int  # the run
    first: int  # the lowest counter
    last: int  # the highest counter
    part: int  # the lowest number of a part among them


class Lost(NamedTuple):
    """What the utility lost."""

    part: int  # parts from this number on, of those that are acknowledged; 0: all
    kept: int  # how many stretches it has whole


def mark_of(text: str | None) -> Mark | None:
    """Return the mark in the setting ``MARK``."""
    if text is None:
        return None
    run, counter = map(int, text.split(","))
    return run, counter


def stretches(store: KeptSettings) -> list[Stretch]:
    """Return the stretches that a store keeps."""
    found = [Stretch(*each) for each in json.loads(store.setting(ACKNOWLEDGED) or "[]")]
    mark = mark_of(store.setting(MARK))
    if found and mark is not None and found[-1].run == mark[0]:
        found[-1] = found[-1]._replace(last=max(found[-1].last, mark[1]))
    return found


def grown(found: Sequence[Stretch], mark: Mark, period: int, part: int) -> list[Stretch]:
    """Return the stretches with one more acknowledgement."""
    run, counter = mark
    if not found or (found[-1].period, found[-1].run) != (period, run):
        return [*found, Stretch(period, run, counter, counter, part)][-KEPT:]
    newest = found[-1]
    first, last = min(newest.first, counter), max(newest.last, counter)
    return [*found[:-1], newest._replace(first=first, last=last, part=min(newest.part, part))]


def missing(store: KeptSettings, marks: Sequence[Mark], *, is_new: bool) -> Lost | None:
    """Return what a store of the utility lacks, by the marks of its acknowledgement; ``None``: nothing.

    Without stretches it is unknown what was acknowledged when; a gateway that never had any has the same store.
    """
    found = stretches(store)
    return Lost(0, 0) if not marks or (is_new and not found) else lost(found, dict(marks[1:]))


def lost(found: Sequence[Stretch], history: Mapping[int, int]) -> Lost | None:
    """Return what a store of the utility lacks; ``None``: nothing.

    Args:
        history: By run that the utility's store has, its last counter there.
    """
    for at, stretch in enumerate(found):
        if stretch.last > history.get(stretch.run, -1):
            # Before the first stretch there may be others, no longer kept.
            whole = at or stretch.first <= history.get(stretch.run, -1)
            return Lost(min(each.part for each in found[at:]), at) if whole else Lost(0, 0)
    return None
