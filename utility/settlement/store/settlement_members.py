"""The members of microgrids, with their dates, as settlement takes them."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, select

from commonwatt.model.ids import unsigned64
from commonwatt.model.records import RecordType
from commonwatt.model.units import MicrogridId
from utility.readings.store.parts import MAX_IN
from utility.registry.accounts import Installed
from utility.registry.store.accounts import load_dated_registry, load_microgrids
from utility.registry.tables import controller, meter

_THROUGH = str(int(RecordType.THROUGH))


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A microgrid with the meters that it has or had."""

    number: int  # the number of its controller
    microgrid: MicrogridId  # its name
    meters: tuple[Installed, ...]  # its meters that report energy


def owners(connection: Connection, wanted: Collection[int] | None = None) -> dict[int, Owner]:
    """Return the microgrids by the numbers of their controllers; ``wanted``: only these."""
    rows = connection.execute(select(controller.c.number, controller.c.id)).all()
    numbers = {row.id: row.number for row in rows if wanted is None or row.number in wanted}
    types = select(meter.c.id, meter.c.record_types)
    are_few = wanted is not None and len(numbers) <= MAX_IN
    if are_few:
        types = types.where(meter.c.microgrid.in_(sorted(numbers)))
    with_energy = {unsigned64(row.id) for row in connection.execute(types) if _THROUGH in row.record_types.split(",")}
    registry = load_microgrids(connection, numbers) if are_few else load_dated_registry(connection)
    members: dict[MicrogridId, list[Installed]] = {name: [] for name in numbers}
    for _, one in sorted(registry.meters.items()):
        if one.microgrid in members and one.id in with_energy:
            members[one.microgrid].append(one)
    return {
        number: Owner(number=number, microgrid=name, meters=tuple(members[name]))
        for name, number in numbers.items()
        if members[name]
    }
