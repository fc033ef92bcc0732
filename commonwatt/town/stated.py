"""Microgrids from their places, with the numbers that these have; and the places of any town."""

from collections.abc import Iterator, Sequence

from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.town.places import PlaceRow
from commonwatt.town.town import Battery, Direction, Function, Meter, Microgrid, Town, address_of, addresses_of


def microgrids_of(places: Sequence[PlaceRow], *, stated: bool) -> dict[str, Microgrid]:
    """Return the microgrids of checked places, by number; the meters of each by id."""
    addresses = addresses_of([i for place in places for i in (place.outgoing, place.incoming) if i is not None])
    of: dict[str, list[PlaceRow]] = {}
    for place in places:
        of.setdefault(place.microgrid, []).append(place)
    made = [
        Microgrid(
            id=name,
            number=rows[0].number,
            kind=rows[0].kind,
            address=address_of(rows[0].number),
            meters=tuple(
                sorted((m for row in rows for m in _meters(row, addresses, stated=stated)), key=lambda meter: meter.id)
            ),
        )
        for name, rows in of.items()
    ]
    return {one.id: one for one in sorted(made, key=lambda one: one.number)}


def _meters(place: PlaceRow, addresses: dict[MeterId, str], *, stated: bool) -> Iterator[Meter]:
    battery = None
    if place.battery_mwh is not None and place.minimum is not None:
        battery = Battery(capacity=place.battery_mwh, minimum_percent=place.minimum)
    for direction, meter_id in ((Direction.OUTGOING, place.outgoing), (Direction.INCOMING, place.incoming)):
        if meter_id is None:
            continue
        own = battery if direction is Direction.OUTGOING else None
        types = (RecordType.THROUGH,)
        yield Meter(
            id=meter_id,
            microgrid=place.microgrid,
            address=addresses[meter_id],
            location=place.place,
            function=Function(place.function),
            direction=direction,
            account=place.account,
            record_types=types if own is None else (RecordType.GENERATION, RecordType.STORED, *types),
            service_amps=place.amps,
            battery=own,
            push=place.push,
            building=place.building,
            stated=stated,
        )


def places_of_town(town: Town) -> list[PlaceRow]:
    """Return the places of a town, without meters of other makers, with the numbers that they have."""
    found: dict[tuple[str, str], list[Meter]] = {}
    for meter in town.meters:
        if meter.emulated:
            found.setdefault((meter.microgrid, meter.location), []).append(meter)
    return [_row(town.microgrids[name], meters) for (name, _), meters in found.items()]


def _row(microgrid: Microgrid, meters: Sequence[Meter]) -> PlaceRow:
    ids = {meter.direction: meter.id for meter in meters}
    first = meters[0]
    battery = next((meter.battery for meter in meters if meter.battery is not None), None)
    return PlaceRow(
        microgrid=microgrid.id,
        number=microgrid.number,
        kind=microgrid.kind,
        place=first.location,
        function=first.function.value,
        building=first.building,
        account=first.account,
        outgoing=ids.get(Direction.OUTGOING),
        incoming=ids.get(Direction.INCOMING),
        amps=first.service_amps,
        battery_mwh=None if battery is None else battery.capacity,
        minimum=None if battery is None else battery.minimum_percent,
        push=first.push,
    )
