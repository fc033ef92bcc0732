"""The page *Fleet*: the controllers of a town, sorted and filtered, and what is done to many of them."""

from collections import Counter
from typing import Annotated, get_args

from fastapi import FastAPI, Query, Request, Response

from utility.alarms.decisions import alarms_of
from utility.control.forms import TITLES
from utility.control.store.control_changes import kinds_of
from utility.fleet.fleet import Sort, cared_for, chosen, ordered
from utility.readings.store.heartbeats import last_heartbeats
from utility.webkit.console.answers import ROWS, Skip, other_pages
from utility.webkit.console.console import Console
from utility.webkit.rights import Staff

PATH = "/console/fleet"

_Word = Annotated[str, Query(max_length=32)]


def add_fleet(app: FastAPI, console: Console) -> None:
    """Add the routes."""

    @app.get(PATH, include_in_schema=False)
    def fleet(
        request: Request,
        actor: Staff,
        name: _Word = "",
        kind: _Word = "",
        release: _Word = "",
        wrong: bool = False,
        sort: Sort = "name",
        skip: Skip = 0,
    ) -> Response:
        """List the controllers."""
        with console.database.reads.begin() as connection:
            kinds, heard = kinds_of(connection), last_heartbeats(connection)
        every = cared_for(kinds, heard, [row.alarm for row in alarms_of(console.api).board().rows])
        shown = ordered(chosen(every, name=name, kind=kind, release=release, wrong=wrong), sort)
        words = {"name": name, "kind": kind, "release": release, "wrong": "true" if wrong else "", "sort": sort}
        content = words | {
            "rows": shown[skip : skip + ROWS],
            "all": len(every),
            "found": len(shown),
            "wrong_count": sum(bool(one.wrong) for one in every),
            "releases": sorted(Counter(one.release for one in every if one.release).items(), reverse=True),
            "kinds": list(dict.fromkeys(kinds.values())),
            "sorts": get_args(Sort),
            "actions": TITLES,
            **other_pages(PATH, skip, is_more=len(shown) > skip + ROWS, **words),
        }
        return console.page(request, actor, "fleet.html", content)
