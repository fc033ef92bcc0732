"""One account as its resident sees it: its places and meters with their dates, and the building's that it shares."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from commonwatt.model.ids import MeterId, signed64, unsigned64
from commonwatt.model.records import RecordType
from commonwatt.model.units import AccountNumber, EpochSeconds, MicrogridId, MilliwattHours, Quarter
from commonwatt.town.town import Function
from utility.database.database import Database
from utility.exports.holdings import Held, held_by
from utility.households.course import Recording
from utility.registry.accounts import Account, DatedRegistry, Installed
from utility.registry.store.accounts import load_registry_around
from utility.registry.tables import meter, present_minimum


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What is registered of a meter, and what it reported."""

    id: MeterId  # its id
    kinds: frozenset[RecordType]  # its record types
    capacity: MilliwattHours | None  # capacity of the battery behind it; ``None``: no battery
    minimum: int | None  # the minimum in the registry, percent; ``None``: none
    declared: int | None  # the minimum that the meter reported (T6), percent; ``None``: it did not report one yet
    declared_at: EpochSeconds | None  # when it reported it


@dataclass(frozen=True, kw_only=True)
class Battery:
    """A battery of the account, or of its building."""

    meter: MeterId  # the meter that it is behind
    microgrid: MicrogridId  # the microgrid that it is in
    place: str  # its place
    capacity: MilliwattHours  # milliwatt-hours
    minimum: int | None  # the sharing minimum, percent; ``None``: none is known
    # When its meter reported the minimum; ``None``: it is what was agreed, and not reported yet.
    reported: EpochSeconds | None
    is_shared: bool  # whether it is the building's


@dataclass(frozen=True, kw_only=True)
class Home:
    """An account with its meters."""

    account: Account  # the account
    registry: DatedRegistry  # its microgrids, whole; most of it is of others and is not shown
    meters: Mapping[MeterId, Registered]  # what is registered of its meters and of its buildings'

    def held(self, first: Quarter, end: Quarter) -> list[Held]:
        """Return when the account had which meter in ``[first, end)``."""
        return held_by(self.registry, [self.account.number], first, end)

    def shared(self, first: Quarter, end: Quarter) -> list[Held]:
        """Return the meters of buildings in which the account had an apartment, and when, in ``[first, end)``."""
        found = []
        for one in self.held(first, end):
            apartment = self.registry.meters[one.meter]
            for its in _building_of(self.registry, apartment):
                start, stop = its.within(one.first, one.end)
                if start < stop:
                    found.append(Held(meter=its.id, direction=its.direction, first=start, end=stop))
        return found

    def recordings(self, held: list[Held]) -> list[Recording]:
        """Return some of its meters, or of its buildings', with what they record."""
        return [Recording(held=one, kinds=self.meters[one.meter].kinds) for one in held if one.meter in self.meters]

    @property
    def since(self) -> Quarter | None:
        """The first quarter in which the account had a meter; 0: from the beginning; ``None``: it never had one."""
        return min((one.first for one in self.held(0, _FOR_EVER)), default=None)

    def places(self, quarter: Quarter) -> list[tuple[MicrogridId, str]]:
        """Return the places that the account has in a quarter."""
        meters = (self.registry.meters[one.meter] for one in self.held(quarter, quarter + 1))
        return sorted({(meter.microgrid, meter.place) for meter in meters})

    def batteries(self, quarter: Quarter) -> list[Battery]:
        """Return the batteries that the account has, or shares in its building, in a quarter."""
        own = [(one, False) for one in self.held(quarter, quarter + 1)]
        both = [*own, *((one, True) for one in self.shared(quarter, quarter + 1))]
        known = {one.meter: (self.registry.meters[one.meter], self.meters[one.meter], shared) for one, shared in both}
        return [
            Battery(
                meter=meter.id,
                microgrid=meter.microgrid,
                place=meter.place,
                capacity=stated.capacity,
                minimum=stated.minimum if stated.declared is None else stated.declared,
                reported=stated.declared_at,
                is_shared=shared,
            )
            for _, (meter, stated, shared) in sorted(known.items())
            if stated.capacity is not None
        ]


_FOR_EVER = 2**31


def home_of(database: Database, account: AccountNumber) -> Home | None:
    """Return an account with its meters; ``None``: there is no such account."""
    with database.reads.begin() as connection:
        registry = load_registry_around(connection, account)
        if account not in registry.accounts:
            return None
        own = [m for m in registry.meters.values() if any(held.account == account for held in m.holdings)]
        theirs = [building for meter in own for building in _building_of(registry, meter)]
        meters = _registered(connection, {one.id for one in (*own, *theirs)})
    return Home(account=registry.accounts[account], registry=registry, meters=meters)


def _registered(connection: Connection, ids: Collection[MeterId]) -> dict[MeterId, Registered]:
    """Return what is registered of some meters of one account, by id."""
    columns = (meter.c.id, meter.c.record_types, meter.c.battery_capacity, meter.c.minimum_percent)
    statement = select(*columns, present_minimum.c.percent, present_minimum.c.said).outerjoin(present_minimum)
    rows = connection.execute(statement.where(meter.c.id.in_([signed64(one) for one in ids])))
    found = [
        Registered(
            id=unsigned64(row.id),
            kinds=frozenset(RecordType(int(kind)) for kind in row.record_types.split(",")),
            capacity=row.battery_capacity,
            minimum=row.minimum_percent,
            declared=row.percent,
            declared_at=row.said,
        )
        for row in rows
    ]
    return {one.id: one for one in found}


def _building_of(registry: DatedRegistry, meter: Installed) -> list[Installed]:
    """Return the meters of the building that a meter is in; none if it is in none."""
    if meter.building is None:
        return []
    return [
        one
        for one in registry.meters.values()
        if one.function is Function.BUILDING and one.microgrid == meter.microgrid and one.place == meter.building
    ]
