"""Foreign devices that a controller hears, by the API."""

from typing import Annotated

from fastapi import Path

from commonwatt.protocol.topics import MICROGRID_PATTERN
from utility.access.people import Right
from utility.discovery import decisions, store
from utility.discovery.cards import DiscoveryAnswer
from utility.webkit.actions import Act, Actions
from utility.webkit.columns import Time
from utility.webkit.requests import LOCAL_TIMES
from utility.webkit.rights import ReadsDevices
from utility.webkit.services import RequestApi

_Microgrid = Annotated[str, Path(pattern=f"^{MICROGRID_PATTERN}$")]

ACTIONS = Actions()
router = ACTIONS.json


class HeardDevices(DiscoveryAnswer):
    """The newest answer of a controller."""

    time: Time | None = None  # when it was asked for that; none: there is no answer


@router.get("/discovery/{microgrid}", dependencies=[LOCAL_TIMES])
def newest(api: RequestApi, _: ReadsDevices, microgrid: _Microgrid) -> HeardDevices:
    """Return what devices a controller's adapter heard when it was asked last."""
    time, found = api.database.read(store.newest, microgrid)
    return HeardDevices(time=time, **found)


@ACTIONS.add("/discovery/{microgrid}", Right.READ_DEVICES, refused=404)
def ask(act: Act, microgrid: _Microgrid) -> str:
    """Ask a controller what devices its adapter hears; the answer follows within seconds."""
    return f"{microgrid} {'is' if decisions.ask(act.database, microgrid, act.now) else 'was'} asked"
