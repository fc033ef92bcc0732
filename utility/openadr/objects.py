"""OpenADR's programs and events, made from published tariffs and from rations; the same rows make the same objects."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from commonwatt.model.calendar import iso, midnight
from commonwatt.model.control import SupplyState
from commonwatt.model.units import MADE, QUARTER_S, EpochSeconds, MicrogridId
from utility.supply.rationing import RATION_S, ToldRation
from utility.tariffs.tariff import Tariff, prices_in

Object: TypeAlias = dict[str, Any]  # an object of the standard, as it is sent

DAYS = 2  # local days with prices, today included: 24 to 48 h ahead
SUPPLY = "supply"  # the id of the program of supply states and import limits
LEVELS = {SupplyState.NORMAL: 0, SupplyState.LOW: 1, SupplyState.CRITICAL: 2, SupplyState.EMPTY: 3}  # load to shed

_PRICE, _EXPORT = "PRICE", "EXPORT_PRICE"  # of energy taken from the town, and given to it, dollars per kWh
_LIMIT, _LEVEL, _FLEX, _EMERGENCY = "IMPORT_CAPACITY_LIMIT", "SIMPLE", "ALERT_FLEX_ALERT", "ALERT_GRID_EMERGENCY"


def object_of(kind: str, its_id: str, created: EpochSeconds, modified: EpochSeconds, **content: object) -> Object:
    """Return an object with the fields that all have."""
    stamps = {"createdDateTime": iso(created), "modificationDateTime": iso(modified)}
    return {"id": its_id, **stamps, "objectType": kind, **content}


def tariff_objects(
    versions: Sequence[Tariff], published: Mapping[int, EpochSeconds], today: date, zone: ZoneInfo
) -> tuple[Object, list[Object]]:
    """Return the program of a tariff, and its events: one for each local day.

    Args:
        versions: The published versions of one name.
        published: When each version was published.
    """
    its_id, first = f"tariff-{versions[0].name}", min(published.values())
    money = {"units": "KWH", "currency": "USD"}
    program = _program(its_id, first, max(published.values()), dict.fromkeys((_PRICE, _EXPORT), money))
    events = []
    for day in (today + timedelta(days=place) for place in range(DAYS)):
        begin, end = midnight(day, zone), midnight(day + timedelta(days=1), zone)
        changed = max((published[one.version] for one in versions if one.effective < end), default=first)
        prices = prices_in(versions, begin, end)
        starts = [quarter * QUARTER_S for quarter, _ in prices]
        ends = [*starts[1:], end * QUARTER_S]
        each = [{_PRICE: float(price.import_), _EXPORT: float(price.credit)} for _, price in prices]
        intervals = [_interval(*one) for one in zip(range(len(starts)), starts, ends, each, strict=False)]
        if intervals:
            name = f"{its_id}-{day}"
            events.append(object_of("EVENT", name, first, changed, programID=its_id, intervals=intervals))
    return program, events


def supply_program() -> Object:
    """Return the program of supply states and import limits."""
    return _program(SUPPLY, MADE, MADE, {_LIMIT: {"units": "KW"}, _LEVEL: {}, _FLEX: {}, _EMERGENCY: {}})


def supply_events(told: Mapping[MicrogridId, ToldRation]) -> Iterator[Object]:
    """Yield the event of a short supply, and the event of each import limit, whose target is its microgrid.

    Args:
        told: The rations in force.
    """
    # During a change of the state some controllers have the earlier one.
    newest = max(told.values(), key=lambda one: (one.until, LEVELS[one.supply]), default=None)
    if newest is not None and newest.supply is not SupplyState.NORMAL:
        alert = _FLEX if newest.supply is SupplyState.LOW else _EMERGENCY
        payloads = {_LEVEL: LEVELS[newest.supply], alert: f"The regional supply is {newest.supply}. Use less."}
        yield _supply_event("supply-state", newest, payloads)
    for name, one in sorted(told.items()):
        if one.import_limit_w is not None:
            yield _supply_event(f"limit-{name}", one, {_LIMIT: one.import_limit_w / 1000}, targets=[name])


def seen(one: Object, granted: Collection[str], asked: Collection[str] | None) -> Object | None:
    """Return an object as a VEN may see it, with no other targets than its own; ``None``: it may not see it.

    An object with targets is listed only if the request names one of them, and then only such objects are.

    Args:
        granted: The targets that the VEN has.
        asked: The targets that a list is asked for; ``None``: the object is asked for by its id.
    """
    if (targets := one.get("targets")) is None or one["objectType"] == "VEN":
        return one if set(asked or ()) <= set(targets or ()) else None
    shown = [target for target in targets if target in granted and (asked is None or target in asked)]
    return one | {"targets": shown} if shown else None


def _supply_event(its_id: str, told: ToldRation, payloads: Object, **targets: list[str]) -> Object:
    since = told.until - RATION_S
    intervals = [_interval(0, since, told.until, payloads)]
    return object_of("EVENT", its_id, since, since, programID=SUPPLY, intervals=intervals, **targets)


def _program(its_id: str, created: EpochSeconds, modified: EpochSeconds, payloads: Mapping[str, Object]) -> Object:
    """Return a program with what each payload of its events means."""
    kind = "EVENT_PAYLOAD_DESCRIPTOR"
    described = [{"objectType": kind, "payloadType": name, **meaning} for name, meaning in payloads.items()]
    return object_of("PROGRAM", its_id, created, modified, programName=its_id, payloadDescriptors=described)


def _interval(number: int, start: EpochSeconds, end: EpochSeconds, payloads: Object) -> Object:
    return {
        "id": number,
        "intervalPeriod": {"start": iso(start), "duration": f"PT{end - start}S"},
        "payloads": [{"type": kind, "values": [value]} for kind, value in payloads.items()],
    }
