"""The quarter-hours of one account as CSV for a spreadsheet: local times, kilowatt-hours."""

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from commonwatt.model.csv_text import line_of
from commonwatt.model.units import QUARTER_S
from utility.households.exports.quarters import AccountQuarters, Flow, Quality

_NAMES = {Flow.DELIVERED: "Delivered to you (kWh)", Flow.RECEIVED: "Received from you (kWh)"}
_MILLIWATT_HOURS = 1_000_000  # in a kilowatt-hour


def spreadsheet(quarters: AccountQuarters, zone: ZoneInfo) -> Iterator[str]:
    """Yield the header, and a line for each quarter-hour; an energy that is missing is empty.

    Kilowatt-hours have six decimals, which is exact. The offset tells the two hours apart that a clock shows twice.
    """
    flows = sorted(quarters.energy)
    head = ["Date", "Begin", "End", "UTC offset"]
    for flow in flows:
        head += [_NAMES[flow], "Quality"]
    yield line_of(head)
    count = max((len(values) for values in quarters.energy.values()), default=0)
    for column in range(count):
        begin, end = (datetime.fromtimestamp((quarters.first + column + n) * QUARTER_S, zone) for n in (0, 1))
        cells = [f"{begin:%Y-%m-%d}", f"{begin:%H:%M}", f"{end:%H:%M}", begin.isoformat()[-6:]]
        for flow in flows:
            quality = Quality(int(quarters.quality[flow][column]))
            cells += [
                "" if quality is Quality.MISSING else _kwh(int(quarters.energy[flow][column])),
                quality.name.lower(),
            ]
        yield line_of(cells)


def _kwh(energy: int) -> str:
    whole, rest = divmod(energy, _MILLIWATT_HOURS)
    return f"{whole}.{rest:06d}"
