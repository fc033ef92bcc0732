"""The files that a customer gets of an account's quarter-hours, by format."""

from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from zoneinfo import ZoneInfo

from utility.households.exports.green_button import green_button
from utility.households.exports.quarters import AccountQuarters
from utility.households.exports.spreadsheet import spreadsheet


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


PIECE = 2_000  # lines of text in a piece of a file: some hundred kilobytes


def pieces_of(quarters: AccountQuarters, form: CustomerFormat, store: str, zone: ZoneInfo) -> Iterator[str]:
    """Yield the text of a file in large pieces.

    Args:
        quarters: The quarter-hours.
        store: The id of the store that they are from.
        zone: The town's zone.
    """
    is_feed = form is CustomerFormat.GREEN_BUTTON
    lines = green_button(quarters, store, zone) if is_feed else spreadsheet(quarters, zone)
    while piece := "".join(islice(lines, PIECE)):
        yield piece
