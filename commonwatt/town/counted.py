"""Places from the tables of a town file, with numbers that are counted in the order of the file."""

from commonwatt.model.ids import MeterId
from commonwatt.model.units import MilliwattHours
from commonwatt.town.file import MicrogridTable, TownFile
from commonwatt.town.places import PlaceRow
from commonwatt.town.town import CONTROLLER_STEP, Function, average_w

_BOUNDARY_AMPS = 4000


class Builder:
    """Numbers the elements of a town in the order of its file."""

    def __init__(self, file: TownFile) -> None:
        self.file = file
        self.microgrids: dict[str, list[PlaceRow]] = {}  # the places of each microgrid so far
        self.kinds: dict[str, str] = {}  # the kind of each
        self.accounts = 0  # the highest number of an account so far

    def add(self, name: str, table: MicrogridTable) -> None:
        """Append a microgrid."""
        self._rows = self.microgrids[name] = []
        self._name, self._table, self._number = name, table, len(self.microgrids)
        self.kinds[name] = table.kind
        self._last_id = self._number * CONTROLLER_STEP
        getattr(self, f"_{table.kind}")()
        if not table.boundary:
            return
        # The boundary's service is the sum of the incoming services behind it, at least _BOUNDARY_AMPS.
        amps = max(_BOUNDARY_AMPS, sum(row.amps for row in self._rows if row.incoming is not None))
        self._place(Function.BOUNDARY, "boundary", amps=amps)

    def _residential(self) -> None:
        for n in range(self._table.houses):
            battery = self._day_of(Function.HOUSE), (25, 50, 75)[(self._number + n) % 3]
            self._place(Function.HOUSE, f"house {n + 1}", account=self._next_account(), battery=battery)

    def _apartment(self) -> None:
        count = self._table.apartments
        for b in range(self._table.buildings):
            building, battery = f"building {b + 1}", (self._day_of(Function.APARTMENT) * count, 50)
            self._place(Function.BUILDING, building, incoming=False, battery=battery, amps=100 * count)
            for a in range(count):
                name, account = f"{building} apartment {a + 1}", self._next_account()
                self._place(Function.APARTMENT, name, outgoing=False, account=account, amps=100, building=building)

    def _public(self) -> None:
        services = (Function.HOSPITAL, Function.POLICE, Function.FIRE)
        for function in services:
            self._place(function, function.value, outgoing=False, account=self._next_account(), amps=2000)
        battery = sum(self._day_of(function) for function in services), 75
        self._place(Function.SOLAR_FARM, "solar farm", incoming=False, battery=battery, amps=4000)

    def _place(
        self,
        function: Function,
        name: str,
        *,
        outgoing: bool = True,
        incoming: bool = True,
        account: int = 0,
        battery: tuple[MilliwattHours | None, int | None] = (None, None),
        amps: int = 200,
        building: str | None = None,
    ) -> None:
        """Append the next place; ``battery`` is its capacity and its minimum, percent."""
        # The switches are spread evenly over the places, so that any share is met from the start.
        places, share = len(self._rows) + 1, self._table.push_share
        push = function is Function.BOUNDARY or int(places * share) > int((places - 1) * share)
        capacity, minimum = battery
        self._rows.append(
            PlaceRow.model_construct(  # Checked, as what it is made of was.
                microgrid=self._name,
                number=self._number,
                kind=self._table.kind,
                place=name,
                function=function.value,  # type: ignore[arg-type]
                building=building,
                account=account,
                outgoing=self._next_id() if outgoing else None,
                incoming=self._next_id() if incoming else None,
                amps=amps,
                battery_mwh=capacity,
                minimum=minimum,
                push=push,
            )
        )

    def _day_of(self, function: Function) -> MilliwattHours:
        return average_w(self.file.town, function) * 24 * 1000

    def _next_account(self) -> int:
        self.accounts += 1
        return self.accounts

    def _next_id(self) -> MeterId:
        self._last_id += 1
        return self._last_id
