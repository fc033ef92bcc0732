"""The files that a customer gets of an account's quarter-hours, by format."""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from itertools import islice
from zoneinfo import ZoneInfo

from commonwatt.model.csv_text import line_of
from commonwatt.model.units import QUARTER_S
from utility.exports.customer.green_button import green_button
from utility.exports.customer.quarters import AccountQuarters, Flow, Quality
from utility.statistics.words import kilowatt_hours

_NAMES = {Flow.DELIVERED: "Delivered to you (kWh)", Flow.RECEIVED: "Received from you (kWh)"}

PIECE = 2_000  # lines of text in a piece of a file: some hundred kilobytes


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
                "" if quality is Quality.MISSING else kilowatt_hours(int(quarters.energy[flow][column])),
                quality.name.lower(),
            ]
        yield line_of(cells)


class Source(StrEnum):
    """What an account's file is made of."""

    SETTLED = "settled"
    READINGS = "readings"


class CustomerFormat(StrEnum):
    """The format of an account's file."""

    GREEN_BUTTON = "green-button"
    SPREADSHEET = "spreadsheet"


# The media type of each format.
MEDIA_TYPES = {CustomerFormat.GREEN_BUTTON: "application/atom+xml", CustomerFormat.SPREADSHEET: "text/csv"}
# The end of a file's name by its format.
SUFFIXES = {CustomerFormat.GREEN_BUTTON: "xml", CustomerFormat.SPREADSHEET: "csv"}


def pieces_of(quarters: AccountQuarters, form: CustomerFormat, store: str, zone: ZoneInfo) -> Iterator[str]:
    """Yield the text of a file in large pieces; `store` is the id of the store that the quarter-hours are from."""
    is_feed = form is CustomerFormat.GREEN_BUTTON
    lines = green_button(quarters, store, zone) if is_feed else spreadsheet(quarters, zone)
    while piece := "".join(islice(lines, PIECE)):
        yield piece
