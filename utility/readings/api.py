"""Stored readings by the API: values, events and completeness."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query

from commonwatt.model.blocks import Blocks
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, SLOT_S
from utility.database.database import Database
from utility.readings.columns import Refilling
from utility.readings.store import completeness, reads
from utility.readings.store.gateways import refills
from utility.webkit.columns import type_name
from utility.webkit.requests import LOCAL_TIMES, Limit, MeterText, MicrogridName, Moment
from utility.webkit.rights import READS_TOWN
from utility.webkit.services import RequestApi

TypeText = Annotated[str, Query(alias="type", description="A record type, by name or number.")]

MAX_READINGS_S = 7 * 86_400  # the longest time range of one readings request, seconds
# The longest time range of one completeness request, seconds; one day of a whole town is already slow.
MAX_COMPLETENESS_S = 7 * 86_400


router = APIRouter(dependencies=[READS_TOWN, LOCAL_TIMES])


def _asked_meter(api: RequestApi, meter: MeterText) -> tuple[int, int]:
    return _registered(api.database, meter)


@router.get("/readings")
def readings(
    api: RequestApi,
    meter: Annotated[tuple[int, int], Depends(_asked_meter)],
    start: Moment,
    end: Moment,
    kind: TypeText = "through",
) -> dict[str, object]:
    """Return the readings of one meter that start in ``[start, end)``: [slot's start, value, quality].

    Quality 2 is exact, 1 averaged; a slot that is missing is not listed. ``type`` is a name or a number.
    """
    record_type = _record_type(kind)
    check_range(start, end, MAX_READINGS_S)
    blocks = reads.readings(api.database, meter[1], record_type, start // QUARTER_S, max(start, end - 1) // QUARTER_S)
    return {
        "meter": str(meter[0]),
        "type": type_name(record_type),
        "unit": "mWh",
        "slot_s": SLOT_S,
        "start": start,
        "end": end,
        "conflicts": len({(int(extra["row"]), int(extra["slot"])) for extra in blocks.extras}),
        "readings": [reading for reading in _expanded(blocks) if start <= reading[0] < end],
    }


@router.get("/events")
def events(
    api: RequestApi, meter: Annotated[tuple[int, int], Depends(_asked_meter)], limit: Limit = 100
) -> dict[str, object]:
    """Return the newest events of one meter, newest first."""
    return {"events": api.database.read(reads.events, meter[1], meter[0], limit)}


@router.get("/completeness")
def complete(
    api: RequestApi,
    start: Moment,
    end: Moment,
    microgrid: MicrogridName | None = None,
    meter: MeterText | None = None,
) -> dict[str, Any]:
    """Count the present and missing slots of the finished quarters that begin in ``[start, end)``, by reason.

    By microgrid; for one ``microgrid`` or ``meter`` also by meter and record type. A meter counts from its first
    quarter with data until it is removed.
    """
    check_range(start, end, MAX_COMPLETENESS_S)
    if microgrid is not None:
        check_microgrid(api.database, microgrid)
    if meter is not None:
        _registered(api.database, meter)
    first, last = completeness.settled_range(int(api.clock.now()), start, end)
    found = completeness.completeness(api.database, first, last, microgrid, None if meter is None else int(meter))
    answer: dict[str, Any] = {"start": first * QUARTER_S, "end": max(first, last) * QUARTER_S}
    answer["microgrids"] = {name: counts.model_dump() for name, counts in completeness.by_microgrid(found).items()}
    if microgrid is not None or meter is not None:
        answer["series"] = [
            {
                "meter": str(s.meter),
                "type": type_name(s.record_type),
                **s.counts.model_dump(),
            }
            for s in found
        ]
    return answer


@router.get("/refilling")
def refilling(api: RequestApi) -> dict[str, list[Refilling]]:
    """Return how far each gateway is in refilling a database that was lost, and which are not heard.

    `parts` are parts of blocks to send again, `sent` those so far, `end` when it ended or is expected to. A refill
    that ended is listed for a day.
    """
    return {"refilling": api.database.read(refills, int(api.clock.now()))}


@router.get("/stored")
def stored(api: RequestApi, start: Moment, end: Moment) -> dict[str, Any]:
    """Count the slots that are stored of the quarters that begin in ``[start, end)``, by microgrid.

    Each slot counts once, however often it was received; those of the present quarter count too.
    """
    check_range(start, end, MAX_COMPLETENESS_S)
    return {"slots": completeness.stored_slots(api.database, -(-start // QUARTER_S), -(-end // QUARTER_S))}


def _expanded(blocks: Blocks) -> Iterator[tuple[int, int, int]]:
    """Yield start, value and quality of each slot that is not missing."""
    for row, quarter in enumerate(blocks.quarter.tolist()):
        slots = zip(blocks.values[row].tolist(), blocks.quality[row].tolist(), strict=True)
        for slot, (value, quality) in enumerate(slots):
            if quality:
                yield quarter * QUARTER_S + slot * SLOT_S, value, quality


def _record_type(text: str) -> RecordType:
    for kind in RecordType:
        if text.lower() == kind.name.lower() or text == str(int(kind)):
            return kind
    names = ", ".join(f"{kind.name.lower()} ({int(kind)})" for kind in RecordType)
    raise HTTPException(422, f"type must be one of {names}, not {text!r}")


def _registered(database: Database, meter: str) -> tuple[int, int]:
    number = database.read(reads.meter_number, int(meter))
    if number is None:
        raise HTTPException(404, f"meter {meter} is not registered")
    return int(meter), number


def check_microgrid(database: Database, name: str) -> None:
    """Refuse a microgrid that is not registered."""
    if not database.read(reads.is_controller, name):
        raise HTTPException(404, f"microgrid {name} is not registered")


def check_range(start: int, end: int, longest_s: int) -> None:
    """Refuse a range of time that is empty or too long."""
    if not start < end <= start + longest_s:
        raise HTTPException(422, f"end must be after start, by at most {longest_s} s ({longest_s // 86_400} days)")
