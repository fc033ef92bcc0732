"""How long each microgrid lasts, the weakest and what would help them, and the scores of islands: page and API."""

from typing import Any

from fastapi import FastAPI, Request, Response

from commonwatt.energy.hours_left import HoursLeft
from commonwatt.energy.lasting import HORIZON_H
from utility.lasting.jobs import TOWN, lasting_of
from utility.lasting.levers import LEVERS
from utility.lasting.scores import DARK
from utility.webkit.console.console import Console
from utility.webkit.rights import Staff

SHOWN = 100  # microgrids, and islands, that are listed
_STEP_H = 6  # hours of a bar of the histogram


def add_lasting(app: FastAPI, console: Console) -> None:
    """Add the page and the endpoint."""
    lasting = lasting_of(console.api)

    @app.get("/console/lasting", include_in_schema=False)
    def page(request: Request, actor: Staff) -> Response:
        """Return the page."""
        microgrids = [(name, it) for name, it in lasting.left.items() if name != TOWN]
        hours = [HORIZON_H if it.first.middle is None else it.first.middle for _, it in microgrids]
        steps = [(at, at + _STEP_H, sum(at <= each < at + _STEP_H for each in hours)) for at in range(0, 78, _STEP_H)]
        weakest = [(name, lasting.left[name], of) for name, of in lasting.levers()]
        order = sorted(zip(hours, microgrids, strict=True), key=lambda each: each[0])
        content = {"steps": steps, "microgrids": [one for _, one in order[:SHOWN]], "weakest": weakest}
        content |= {"levers": LEVERS, "scores": lasting.scores[: -SHOWN - 1 : -1], "horizon": HORIZON_H}
        return console.page(request, actor, "lasting.html", content | lasting.told())

    @app.get("/lasting")
    def told(_: Staff) -> dict[str, Any]:
        """Return how long the town and each microgrid have energy if their lines fail now, hours until homes are dark.

        ``first``: until the first home is dark; ``half``: until half of them are at once; ``all``: until all are.
        ``low`` to ``high`` is a band of 80 %, ``alone``: as ``middle``, if no battery shared; null: more than 72 h.
        ``islands``: real islands with what was projected as they began and what came; ``proof``: how good such
        projections were when feeders were cut in emulated years, ``own``: in this town's islands.
        """
        of = lasting.told()
        return {
            "town": None if of["left"] is None else _plain(of["left"]),
            "microgrids": {name: _plain(it) for name, it in lasting.left.items() if name != TOWN},
            "islands": list(lasting.scores),
            "proof": of["proof"],
            "own": of["islands"] and of["islands"]._asdict(),
        }


def _plain(left: HoursLeft) -> dict[str, Any]:
    return {"time": left.at, "reasons": left.reasons} | {name: getattr(left, name)._asdict() for name in DARK}
