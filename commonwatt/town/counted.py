"""Microgrids from the tables of a town file, with numbers that are counted in the order of the file."""

from commonwatt.model.records import RecordType
from commonwatt.model.units import MilliwattHours
from commonwatt.town.file import MicrogridTable, TownFile
from commonwatt.town.town import (
    CONTROLLER_STEP,
    Battery,
    Direction,
    Function,
    Meter,
    Microgrid,
    address_of,
    address_of_id,
    average_w,
)

_BOUNDARY_AMPS = 4000


class Builder:
    """Numbers the elements of a town in the order of its file."""

    def __init__(self, file: TownFile) -> None:
        self.file = file
        self.microgrids: dict[str, Microgrid] = {}  # the microgrids so far, by name
        self.accounts = 0  # the highest number of an account so far

    def add(self, name: str, table: MicrogridTable) -> None:
        """Append a microgrid."""
        number = len(self.microgrids) + 1
        self._microgrid, self._number, self._push_share = name, number, table.push_share
        self._meters: list[Meter] = []
        self._places = 0
        getattr(self, f"_{table.kind}")(table)
        # The boundary's service is the sum of the incoming services behind it, at least _BOUNDARY_AMPS.
        amps = max(_BOUNDARY_AMPS, sum(m.service_amps for m in self._meters if m.direction is Direction.INCOMING))
        for direction in Direction:
            self._meter(Function.BOUNDARY, "boundary", direction, amps=amps, places=0)
        self.microgrids[name] = Microgrid(
            id=name,
            number=number,
            kind=table.kind,
            address=address_of(number),
            meters=tuple(self._meters),
        )

    def _residential(self, table: MicrogridTable) -> None:
        for n in range(table.houses):
            battery = Battery(
                capacity=self._day_of(Function.HOUSE), minimum_percent=(25, 50, 75)[(self._number + n) % 3]
            )
            account = self._next_account()
            self._meter(Function.HOUSE, f"house {n + 1}", Direction.OUTGOING, account=account, battery=battery)
            self._meter(Function.HOUSE, f"house {n + 1}", Direction.INCOMING, account=account, places=0)

    def _apartment(self, table: MicrogridTable) -> None:
        for b in range(table.buildings):
            battery = Battery(capacity=self._day_of(Function.APARTMENT) * table.apartments, minimum_percent=50)
            building = f"building {b + 1}"
            amps = 100 * table.apartments
            self._meter(Function.BUILDING, building, Direction.OUTGOING, battery=battery, amps=amps)
            for a in range(table.apartments):
                self._meter(
                    Function.APARTMENT,
                    f"{building} apartment {a + 1}",
                    Direction.INCOMING,
                    account=self._next_account(),
                    amps=100,
                    building=building,
                )

    def _public(self, table: MicrogridTable) -> None:
        del table
        services = (Function.HOSPITAL, Function.POLICE, Function.FIRE)
        for function in services:
            self._meter(function, function.value, Direction.INCOMING, account=self._next_account(), amps=2000)
        battery = Battery(capacity=sum(self._day_of(function) for function in services), minimum_percent=75)
        self._meter(Function.SOLAR_FARM, "solar farm", Direction.OUTGOING, battery=battery, amps=4000)

    def _meter(
        self,
        function: Function,
        location: str,
        direction: Direction,
        *,
        account: int = 0,
        battery: Battery | None = None,
        amps: int = 200,
        places: int = 1,
        building: str | None = None,
    ) -> None:
        """Append the next meter; ``places`` is 0 for a second meter at the same place, which shares its switch."""
        self._places += places
        # The switches are spread evenly over the places, so that any share is met from the start.
        push = function is Function.BOUNDARY or int(self._places * self._push_share) > int(
            (self._places - 1) * self._push_share
        )
        solar = battery is not None
        types = (RecordType.GENERATION, RecordType.STORED, RecordType.THROUGH) if solar else (RecordType.THROUGH,)
        meter_id = self._number * CONTROLLER_STEP + len(self._meters) + 1
        self._meters.append(
            Meter(
                id=meter_id,
                microgrid=self._microgrid,
                address=address_of_id(meter_id),
                location=location,
                function=function,
                direction=direction,
                account=account,
                record_types=types,
                service_amps=amps,
                battery=battery,
                push=push,
                building=building,
            )
        )

    def _day_of(self, function: Function) -> MilliwattHours:
        return average_w(self.file.town, function) * 24 * 1000

    def _next_account(self) -> int:
        self.accounts += 1
        return self.accounts
