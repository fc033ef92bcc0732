"""Answers to requests that fail: a page for people, JSON for programs; neither tells what the program is made of."""

import json
import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from commonwatt.model.exceptions import ConfigError
from utility.access.passwords import BusyError
from utility.assembly.console import failed_page, refused_page, unknown_page, wrong_form
from utility.billing.proof.altered import AlteredBillError
from utility.database.base import DataError, SQLAlchemyError
from utility.database.checks import is_unknown
from utility.openadr.api import BASE, problem
from utility.webkit.headers import SECURITY_HEADERS
from utility.webkit.rights import RefusedRequestError
from utility.webkit.services import Api

log = logging.getLogger(__name__)


def add_refusals(app: FastAPI) -> None:
    """Add a handler for each kind of error."""

    @app.exception_handler(RefusedRequestError)
    async def refused(request: Request, error: RefusedRequestError) -> Response:
        if _is_page(request):
            return await refused_page(request, error)
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return _told(request, error.text, error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        if _is_page(request):
            return await wrong_form(request, error)
        if request.url.path.startswith(BASE):
            return problem(400, "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()))
        # What was sent is not repeated: it may be a number or a character that no answer can have.
        faults = [{key: fault[key] for key in ("type", "loc", "msg")} for fault in error.errors()]
        return Response(json.dumps({"detail": faults}), 422, media_type="application/json")

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        text, why = str(error.detail) if _is_page(request) else error.detail, error.__cause__
        if _is_page(request) and isinstance(why, ConfigError):
            text = text.replace(str(why), why.text)  # without the command for a terminal
        return await _answered(request, text, error.status_code, dict(error.headers or {}))

    @app.exception_handler(ConfigError)
    async def unusable(request: Request, error: ConfigError) -> Response:
        log.warning("%s can't be done: %s", request.scope["route"].path, error)
        return await _answered(request, error.text, 422)

    @app.exception_handler(AlteredBillError)
    async def altered(request: Request, error: AlteredBillError) -> Response:
        log.error("%s", error)
        return await _answered(request, str(error), 409)

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> Response:
        return await _answered(request, str(error), 503, {"Retry-After": "5"})

    @app.exception_handler(DataError)
    async def impossible(request: Request, error: DataError) -> Response:
        log.info("a request has a value that the database does not take: %s", error.orig)
        return await _answered(request, "a value has characters or digits that can't be stored or searched for", 422)

    @app.exception_handler(SQLAlchemyError)
    def unreadable(request: Request, error: SQLAlchemyError) -> Response:
        api: Api = request.app.state.api
        api.health.failed(error, "an API request")
        api.metrics.store_errors.inc()
        if is_unknown(error):
            unknown = "whether that was stored is unknown: the database did not answer; look before you do it again"
            return _told(request, unknown, 503)
        return _told(request, "the database can't be read; see /status", 503)

    @app.exception_handler(Exception)
    def broken(request: Request, _: Exception) -> Response:
        # The server logs it. This answer does not pass through `with_headers`.
        return _told(request, "that failed by a fault of this program, which its log has", 500, SECURITY_HEADERS)


def _is_page(request: Request) -> bool:
    return request.url.path.startswith("/console/")


async def _answered(request: Request, text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return (
        await failed_page(request, text, status, headers)
        if _is_page(request)
        else _told(request, text, status, headers)
    )


def _told(request: Request, text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """Return an answer that needs no database."""
    if _is_page(request):
        answer = unknown_page(request, text, status)
        answer.headers.update(headers or {})
        return answer
    if request.url.path.startswith(BASE):
        return problem(status, text, headers)
    return JSONResponse({"detail": text}, status, headers)
