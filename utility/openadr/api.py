"""The routes of OpenADR 3.1 that a VEN reads; each other method is refused, and errors are the standard's ``problem``.

A VEN logs in with an API token of the role ``ven``: ``client_id`` is the token's label, ``client_secret`` its text.
"""

import hashlib
import json
import logging
from datetime import datetime
from http import HTTPStatus
from itertools import groupby
from math import ceil
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from commonwatt.identity.guesses import Guesses
from commonwatt.model.units import quarter_of
from utility.access.people import Actor, Role
from utility.access.store.access import Token, tokens
from utility.households.store import home_of
from utility.openadr.objects import Object, object_of, seen, supply_events, supply_program, tariff_objects
from utility.registry.store.registry import controllers
from utility.supply.store import rations
from utility.tariffs.store import published, versions
from utility.webkit.rights import OPEN, ReadsOpenAdr, address_of, gate_of
from utility.webkit.services import Api, RequestApi

BASE = "/openadr3/3.1.0"

_MAX_PAGE = 50  # most objects of an answer, by the standard
_Field = Annotated[str, Form(default_factory=str, max_length=128)]
_Basic = Annotated[HTTPBasicCredentials | None, Depends(HTTPBasic(auto_error=False))]

log = logging.getLogger(__name__)


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return the standard's answer to a request that failed."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(content, status, headers, "application/problem+json")


router = APIRouter(include_in_schema=False)


@router.get(f"{BASE}/auth/server", dependencies=[OPEN])
def server(request: Request) -> dict[str, str]:
    """Return where a client gets its token."""
    return {"tokenURL": str(request.url_for("openadr_token"))}


@router.post(f"{BASE}/auth/token", dependencies=[OPEN], name="openadr_token")
def token(
    api: RequestApi, request: Request, basic: _Basic, grant_type: _Field, client_id: _Field, client_secret: _Field
) -> Response:
    """Return the token of a client (RFC 6749, 4.4): it is the secret itself, which can be revoked at any time."""
    if grant_type != "client_credentials":
        return JSONResponse({"error": "unsupported_grant_type"}, 400)
    name, secret = (client_id, client_secret) if basic is None else (basic.username[:128], basic.password)
    gate, address = gate_of(request), address_of(request)
    now = gate.now()
    if wait_s := ceil(api.part(_guesses).guess(name, address, now)):
        return problem(429, f"too many wrong secrets; try again in {wait_s} s", {"Retry-After": str(wait_s)})
    actor = gate.identify(f"Bearer {secret}", None, address)
    its = _token_of(api, actor)
    if actor is None or its is None or not actor.has(Role.VEN) or its.label != name:
        log.warning("openadr: a wrong client or secret from %s", address)
        return JSONResponse({"error": "invalid_client"}, 401, {"WWW-Authenticate": "Basic"})
    api.part(_guesses).right(name, address, now)
    return JSONResponse({"access_token": secret, "token_type": "Bearer", "expires_in": its.until - now})


@router.get(f"{BASE}/notifiers")
def notifiers(request: Request, _: ReadsOpenAdr) -> Response:
    """Return the ways of notification: there are none, clients ask again with ``If-None-Match``."""
    return _answer(request, {"WEBHOOK": False})


@router.get(f"{BASE}/{{kind}}")
def listed(
    api: RequestApi,
    request: Request,
    actor: ReadsOpenAdr,
    kind: str,
    targets: Annotated[list[str], Query(default_factory=list, max_length=1000)],
    programID: str = "",  # noqa: N803 - the standard's name
    venName: str = "",  # noqa: N803
    skip: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    limit: Annotated[int, Query(ge=0, le=_MAX_PAGE)] = _MAX_PAGE,
) -> Response:
    """Return objects of a kind: events without targets, or those with asked ones; of VENs the one that asks."""
    asked = {name: value for name, value in (("programID", programID), ("venName", venName)) if value}
    visible = _visible(api, actor, kind, targets)
    found = [one for one in visible if all(one.get(name, value) == value for name, value in asked.items())]
    return _answer(request, found[skip:][:limit])


@router.get(f"{BASE}/{{kind}}/{{its_id}}")
def one(api: RequestApi, request: Request, actor: ReadsOpenAdr, kind: str, its_id: str) -> Response:
    """Return an object."""
    found = [one for one in _visible(api, actor, kind, None) if one["id"] == its_id]
    if not found:
        raise HTTPException(404, "there is no such object")
    return _answer(request, found[0])


def _guesses(_: Api) -> Guesses:
    return Guesses()


def _visible(api: Api, actor: Actor, kind: str, asked: list[str] | None) -> list[Object]:
    """Return the objects of a kind that a VEN may see; ``asked``: see ``seen``."""
    granted = _granted(api, actor)
    objects = _objects(api) | {"vens": [], "reports": [], "resources": [], "subscriptions": []}
    if kind not in objects:
        raise HTTPException(404, "there is no such kind of objects")
    if (its := _token_of(api, actor)) is not None:
        named = {"venName": its.label, "clientID": its.label, "targets": sorted(granted)}
        objects["vens"] = [object_of("VEN", f"ven-{its.no}", its.made, its.made, **named)]
    return [shown for one in objects[kind] if (shown := seen(one, granted, asked)) is not None]


def _objects(api: Api) -> dict[str, list[Object]]:
    """Return all programs and events."""
    now, zone = int(api.clock.now()), api.zone.read()
    with api.database.reads.begin() as connection:
        tariffs, told = published(connection), rations(connection, now)
        times = {(one.name, one.version): one.approved or one.proposed for one in versions(connection)}
    programs, events = [supply_program()], [*supply_events(told)]
    for name, group in groupby(tariffs, lambda tariff: tariff.name):
        its = {tariff.version: tariff for tariff in group}
        approved = {version: times[name, version] for version in its}
        program, days = tariff_objects([*its.values()], approved, datetime.fromtimestamp(now, zone).date(), zone)
        programs.append(program)
        events += days
    return {"programs": programs, "events": events}


def _granted(api: Api, actor: Actor) -> frozenset[str]:
    """Return the targets of a VEN: the microgrids of its resident's account; without one all."""
    if actor.account is None:
        return frozenset(api.database.read(controllers))
    home = home_of(api.database, actor.account)
    places = [] if home is None else home.places(quarter_of(int(api.clock.now())))
    return frozenset(microgrid for microgrid, _ in places)


def _token_of(api: Api, actor: Actor | None) -> Token | None:
    if actor is None or actor.token is None:
        return None
    return api.database.read(tokens, None, 1, actor.token)[0]


def _answer(request: Request, content: Object | list[Object]) -> Response:
    """Return content with its tag; nothing if the client has it already."""
    body = json.dumps(content).encode()
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "private, no-cache"}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
