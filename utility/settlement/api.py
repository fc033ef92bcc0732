"""The record of sharing by the API."""

from fastapi import APIRouter

from commonwatt.model.units import QUARTER_S
from utility.readings.api import MAX_COMPLETENESS_S, check_microgrid, check_range
from utility.settlement.store.sharing import recorded
from utility.webkit.parameters import Limit, MicrogridName, Moment
from utility.webkit.services import Api


def add_sharing(app: APIRouter, api: Api) -> None:
    """Add the endpoint of the record of sharing."""

    @app.get("/sharing")
    def sharing(
        start: Moment, end: Moment, microgrid: MicrogridName | None = None, limit: Limit = 1000
    ) -> dict[str, object]:
        """Return who gave and received by sharing in the quarter-hours that begin in ``[start, end)``, newest first.

        By microgrid, milliwatt-hours, from stored readings. Quarter-hours without sharing are not listed. Late readings
        make a new ``version``; ``complete``: every reading that is needed was there.
        """
        check_range(start, end, MAX_COMPLETENESS_S)
        if microgrid is not None:
            check_microgrid(api.database, microgrid)
        first, last = -(-start // QUARTER_S), (end - 1) // QUARTER_S
        return {"sharing": api.database.read(recorded, first, last, microgrid, limit)}
