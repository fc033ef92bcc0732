"""Local days of pages: their quarters (92, 96 or 100), and what a person may ask for."""

from datetime import date, timedelta
from zoneinfo import ZoneInfo

from fastapi import HTTPException

from commonwatt.model.time.local_calendar import midnight
from commonwatt.model.units import QUARTER_S, Quarter

KILOWATTS = 3600 / QUARTER_S / 1e6  # mean kilowatts of a milliwatt-hour in a quarter-hour
MOST_DAYS = 5 * 366 + 1  # days of a plot at most: settled days are kept for five years


def quarters_of(first: date, last: date, zone: ZoneInfo) -> tuple[Quarter, Quarter]:
    """Return the first quarter of a local day, and the one after the last of another.

    Raises:
        HTTPException: The days are not in order, too many, or no computer can count them.
    """
    if not 0 <= (last - first).days < MOST_DAYS:
        raise HTTPException(422, f"from and to: the first day comes first, and there are at most {MOST_DAYS} days")
    try:
        return midnight(first, zone), midnight(last + timedelta(days=1), zone)
    except (ValueError, OverflowError) as error:
        raise HTTPException(422, f"{first} to {last} can't be shown") from error
