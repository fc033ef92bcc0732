"""The meters' two aggregation algorithms on records (M7); ``blocks.average`` is the lossy one on blocks (C6)."""

from collections.abc import Sequence
from itertools import pairwise

from commonwatt.model.averaging import mean_of_group
from commonwatt.model.records import HistoryRecord
from commonwatt.model.units import GROUP_S, GROUP_SLOTS, QUARTER_S, SLOT_S


def consolidate(records: Sequence[HistoryRecord]) -> list[HistoryRecord]:
    """Lossless: merge consecutive records that are identical except for time and id.

    Records of one type follow each other in time. A merged record keeps the first record's id and never crosses a
    quarter-hour: the receiver splits records there, and puts of such records stay within a bounded range.
    """
    result: list[HistoryRecord] = []
    last: dict[int, int] = {}
    for record in records:
        at = last.get(record.record_type)
        if at is not None and _continues(result[at], record):
            result[at] = result[at]._replace(end=record.end)
        else:
            last[record.record_type] = len(result)
            result.append(record)
    return result


def _continues(first: HistoryRecord, second: HistoryRecord) -> bool:
    same = second._replace(start=first.start, end=first.end, record_id=first.record_id) == first
    # A group has one average (docs/architecture.md): two equal averages stay two records.
    return (
        same
        and not first.lossy
        and second.start == first.end
        and first.start // QUARTER_S == (second.end - 1) // QUARTER_S
    )


def average(records: Sequence[HistoryRecord]) -> list[HistoryRecord]:
    """Lossy: replace the ten readings of each aligned group by one record with their mean, rounded half up.

    A group whose ten exact readings do not follow each other stays unchanged. The result is ordered by first id.
    """
    groups: list[list[HistoryRecord]] = []
    last: dict[int, list[HistoryRecord]] = {}
    for record in records:
        members = last.get(record.record_type)
        if members is None or members[0].start // GROUP_S != record.start // GROUP_S:
            members = last[record.record_type] = []
            groups.append(members)
        members.append(record)
    result = []
    for members in groups:
        if sum((m.end - m.start) // SLOT_S for m in members) == GROUP_SLOTS and _is_one_group(members):
            total = sum(m.reading * ((m.end - m.start) // SLOT_S) for m in members)
            result.append(members[0]._replace(lossy=1, end=members[-1].end, reading=mean_of_group(total)))
        else:
            result += members
    return sorted(result, key=lambda record: record.record_id)


def _is_one_group(members: Sequence[HistoryRecord]) -> bool:
    return (
        not any(m.lossy for m in members)
        and all(a.end == b.start for a, b in pairwise(members))
        and len({m.account for m in members}) == 1
        and members[0].start // GROUP_S == (members[-1].end - 1) // GROUP_S
    )
