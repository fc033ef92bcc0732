"""How long each microgrid lasts, the weakest, and the scores of islands: page and API."""

from typing import Any

from fastapi import APIRouter, Request, Response

from commonwatt.energy.lasting import HORIZON_H, HoursLeft
from utility.lasting.jobs import TOWN, hours_of, lasting_of
from utility.webkit.console.console import RequestConsole
from utility.webkit.rights import ReadsTown

SHOWN, WEAKEST = 100, 10  # microgrids and islands that are listed; those with a bar
_STEPS = range(0, HORIZON_H + 6, 6)  # hours at which the bars of the histogram begin


router = APIRouter()


@router.get("/console/lasting", include_in_schema=False)
def page(console: RequestConsole, request: Request, actor: ReadsTown) -> Response:
    """Return the page."""
    of = [(name, left) for name, left in lasting_of(console.api).left.items() if name != TOWN]
    microgrids = sorted(of, key=lambda each: hours_of(each[1].first))
    hours = [hours_of(left.first) for _, left in microgrids]
    content = {
        "steps": [(at, at + 6, sum(at <= each < at + 6 for each in hours)) for at in _STEPS],
        "weakest": [(name, at) for (name, _), at in zip(microgrids[:WEAKEST], hours, strict=False)],
        "microgrids": microgrids[:SHOWN],
        "scores": lasting_of(console.api).scores[: -SHOWN - 1 : -1],
        "horizon": HORIZON_H,
    }
    return console.page(request, actor, "lasting.html", content | lasting_of(console.api).told())


@router.get("/lasting")
def told(console: RequestConsole, _: ReadsTown) -> dict[str, Any]:
    """Return how long the town and each microgrid have energy if their lines fail now, hours until homes are dark.

    ``first``: until the first home is dark; ``half``: until half of them are at once; ``all``: until all are.
    ``low`` to ``high`` is a band of 80 %, ``alone``: as ``middle``, if no battery shared, ``least``: at the worst;
    null: more than 72 h. ``as_now``: the first home's if use goes on as now, while that is twice the usual.
    ``islands``: the real ones with what was projected as they began, and what came.
    """
    return {
        "town": None if TOWN not in lasting_of(console.api).left else _plain(lasting_of(console.api).left[TOWN]),
        "microgrids": {name: _plain(left) for name, left in lasting_of(console.api).left.items() if name != TOWN},
        "islands": list(lasting_of(console.api).scores),
        "how_good": lasting_of(console.api).told()["how_good"],
    }


def _plain(left: HoursLeft) -> dict[str, Any]:
    bands = {name: band._asdict() for name, band in left.bands.items()}
    return {"time": left.at, "reasons": left.reasons, "as_now": left.as_now and left.as_now._asdict()} | bands
