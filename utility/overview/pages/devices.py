"""Devices: gateways, meters, the utility's own certificates; enrol and revoke where the authority's folder is."""

from collections.abc import Sequence
from pathlib import Path as File
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Path, Query, Request, Response

from commonwatt.model.exceptions import ConfigError
from commonwatt.network.tls import Expiry
from commonwatt.protocol.topics import PLANT, UTILITY
from utility.access.people import Actor, Right
from utility.overview.store.devices import ConnectedDevice, devices_of_others, gateways, meters_of, microgrid_of
from utility.registry.store.enrolment import Enrolment
from utility.webkit.console.answers import address
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.requests import changing
from utility.webkit.rights import ManagesDevices, ReadsDevices, gate_of
from utility.webkit.services import Api

SHOWN = 100  # gateways on one page
SOON_DAYS = 30  # days before the end of a certificate from which on it is marked: a daily renewal renews then

_Identity = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,20}$", description="A microgrid's id, a meter's id, `utility`.")]


router = APIRouter(include_in_schema=False)


@router.get("/console/devices")
def devices(
    console: RequestConsole,
    request: Request,
    actor: ReadsDevices,
    search: Annotated[str, Query(max_length=16)] = "",
    after: Annotated[str, Query(max_length=16)] = "",
) -> Response:
    """Return what connects to the head-end, some at a time, and the service's own certificates."""
    found = console.database.read(gateways, search, after, SHOWN + 1)
    enrolled, is_last = _read(_enrolment(console)), len(found) <= SHOWN
    others = [ConnectedDevice(id=one, kind=one) for one in (PLANT, UTILITY) if enrolled and one in enrolled]
    content = _shared(console, request) | {
        "devices": [*found[:SHOWN], *(one for one in others if is_last and one.id.startswith(search))],
        "others": console.database.read(devices_of_others),
        "later": "" if is_last else address("/console/devices", search=search, after=found[SHOWN - 1].id),
        "search": search,
        "enrolled": enrolled,
        "own": {name: expiry.look() for name, expiry in console.api.part(_expiries).items()},
    }
    return console.page(request, actor, "devices.html", content)


@router.get("/console/devices/{identity}")
def device(console: RequestConsole, request: Request, actor: ReadsDevices, identity: _Identity) -> Response:
    """Return a gateway with its meters, a meter, the utility or the plant."""
    return _device_page(console, request, actor, identity)


@router.post("/console/devices/{identity}/enrol")
def enrol(console: RequestConsole, request: Request, actor: ManagesDevices, identity: _Identity) -> Response:
    """Issue a certificate."""
    out = _folder(console)
    with changing(console.api, request, actor) as by:
        by.record("device.enrol", identity)
        files = out.enrol(identity, by.machine_s)
    return _device_page(console, request, actor, identity, files)


@router.post("/console/devices/{identity}/revoke")
def revoke(
    console: RequestConsole,
    request: Request,
    actor: ManagesDevices,
    identity: _Identity,
    reason: Annotated[str, Form()],
    with_meters: Annotated[bool, Form()] = False,
) -> Response:
    """Revoke certificate and token."""
    out = _folder(console)
    with changing(console.api, request, actor) as by:
        by.record("device.revoke", identity, after={"reason": reason, "with_meters": with_meters})
        done = out.revoke(identity, reason, by.machine_s, with_meters=with_meters)
    return _device_page(console, request, actor, identity, [*done.devices_files, *done.lists])


@router.post("/console/devices/{identity}/readmit")
def readmit(
    console: RequestConsole,
    request: Request,
    actor: ManagesDevices,
    identity: _Identity,
    with_meters: Annotated[bool, Form()] = False,
) -> Response:
    """Admit a revoked device again, with a new token."""
    out = _folder(console)
    with changing(console.api, request, actor) as by:
        by.record("device.readmit", identity, after={"with_meters": with_meters})
        files = out.readmit(identity, by.machine_s, with_meters=with_meters)
    return _device_page(console, request, actor, identity, files)


def _device_page(
    console: Console,
    request: Request,
    actor: Actor,
    identity: str,
    carry: Sequence[File] = (),
) -> Response:
    """Return the page of one device; with the files that its change made, which must be carried to machines."""
    with console.database.reads.begin() as connection:
        microgrid = microgrid_of(connection, identity)
        meters = meters_of(connection, identity) if microgrid == identity else []
        others = [one for one in devices_of_others(connection, microgrid) if identity in (microgrid, one.meter)]
    if microgrid is None and identity not in (UTILITY, PLANT):
        raise HTTPException(404, f"there is no device called {identity}")
    enrolment = _enrolment(console)
    enrolled = _read(enrolment, microgrid)
    content = _shared(console, request) | {
        "identity": identity,
        "microgrid": microgrid,
        "meters": meters,
        "others": others,
        "enrolled": enrolled,
        "one": None if enrolled is None else enrolled.get(identity),
        "carry": [str(path) for path in carry],
        "may_change": actor.may(Right.MANAGE_DEVICES) and enrolment is not None,
    }
    return console.page(request, actor, "device.html", content)


def _shared(console: Console, request: Request) -> dict[str, Any]:
    is_here = console.api.settings.enrolment is not None
    return {"machine_s": gate_of(request).now(), "soon": SOON_DAYS, "is_here": is_here}


def _read(enrolment: Enrolment | None, microgrid: str | None = None) -> dict[str, Any] | None:
    """Return the devices of the head-end, and those of a microgrid; ``None``: the folder is not on this machine."""
    if enrolment is None:
        return None
    try:
        return enrolment.head_end() | ({} if microgrid is None else enrolment.of(microgrid))
    except ConfigError as error:
        raise HTTPException(500, f"the enrolment's folder can't be read: {error}") from error


def _expiries(api: Api) -> dict[str, Expiry]:
    """Return the service's own certificates."""
    certificates = {
        "of the utility's service at the head-end": api.settings.certificate,
        "of the head-end's authority": api.settings.head_end_ca,
        "of this console": api.settings.http_certificate,
    }
    return {name: Expiry(path) for name, path in certificates.items() if path is not None}


def _enrolment(console: Console) -> Enrolment | None:
    folder = console.api.settings.enrolment
    return None if folder is None else Enrolment(folder)


def _folder(console: Console) -> Enrolment:
    if (enrolment := _enrolment(console)) is None:
        raise HTTPException(409, "the enrolment's folder is not on this machine: make the change where it is")
    return enrolment
