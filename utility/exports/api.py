"""The API's exports: the same rows as ``commonwatt export`` writes, streamed, and bounded in rows and in number."""

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Annotated, BinaryIO, TypeAlias, cast

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import StreamingResponse
from pydantic import StringConstraints
from starlette.types import Receive, Scope, Send

from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.topics import MICROGRID_PATTERN
from utility.access.people import Actor
from utility.database.database import Database
from utility.exports.selection import ExportSelection, Resolution
from utility.exports.store.exports import (
    AskedExport,
    Export,
    bills_export,
    events_export,
    readings_export,
    settled_export,
)
from utility.exports.store.files import Hashed
from utility.exports.writers import MEDIA_TYPES, Format, make_writer, require
from utility.webkit.requests import LOCAL_TIMES, Moment
from utility.webkit.rights import ReadsBills, ReadsTown
from utility.webkit.services import Api, RequestApi

# Most rows of one answer, such as a month of quarter-hours of a thousand meters; about 20 s as CSV.
MAX_ROWS = 3_000_000
MAX_EXPORTS = 4  # exports at a time, each of another person; each uses a thread and some ten megabytes

_NAMES = ("start", "end", "meter", "microgrid", "account")

_Meter = Annotated[str, StringConstraints(pattern="^[0-9]{1,20}$")]
_Microgrid = Annotated[str, StringConstraints(pattern=f"^{MICROGRID_PATTERN}$")]
Accounts = Annotated[list[int] | None, Query(max_length=500, description="Accounts' numbers; may be repeated.")]
Form = Annotated[Format, Query(alias="format", description="csv or parquet.")]
Interval = Annotated[Resolution, Query(description="The interval of a row: 15s, 15min, 1h, or 1d, a local day.")]
_Make: TypeAlias = Callable[[Database, AskedExport], Export]


def _chosen(
    meter: Annotated[list[_Meter] | None, Query(max_length=500, description="Meters' ids; may be repeated.")] = None,
    microgrid: Annotated[
        list[_Microgrid] | None, Query(max_length=500, description="Microgrids; may be repeated.")
    ] = None,
    account: Accounts = None,
) -> ExportSelection:
    return ExportSelection(meters=meter or (), microgrids=microgrid or (), accounts=account or ())


Chosen = Annotated[ExportSelection, Depends(_chosen)]


class _Answer(StreamingResponse):
    """A streamed answer that gives its place back at its end, also if the client is gone before its begin."""

    def __init__(self, content: Iterator[bytes], free: Callable[[], None], form: Format, name: str) -> None:
        headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
        super().__init__(content, media_type=MEDIA_TYPES[form], headers=headers)
        self._free = free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._free()


def _answering(api: Api) -> "Callable[[Actor, _Make, Format, AskedExport], _Answer]":
    """Return what answers a service's exports: one of a person at a time, a bounded number together."""
    people, lock = set[str](), Lock()  # whose exports run

    def answer(actor: Actor, make: _Make, form: Format, asked: AskedExport) -> _Answer:
        try:
            require(form)
            export = make(api.database, asked)
        except ConfigError as error:
            raise HTTPException(422, str(error)) from error
        if export.most > MAX_ROWS:
            raise HTTPException(
                422,
                f"this may have {export.most:,} rows, and an answer at most {MAX_ROWS:,}; ask for less time, fewer "
                "meters or a longer resolution, or use: commonwatt export",
            )
        with lock:
            why = "an export of yours is" if actor.name in people else f"{len(people)} exports of others are"
            if actor.name in people or len(people) >= MAX_EXPORTS:
                raise HTTPException(503, f"{why} running; try again when it has ended", headers={"Retry-After": "10"})
            people.add(actor.name)
        return _Answer(_content(export, form), lambda: people.discard(actor.name), form, export.name)

    return answer


router = APIRouter()


@router.get("/export/readings", response_class=StreamingResponse, dependencies=[LOCAL_TIMES])
def readings(
    api: RequestApi,
    actor: ReadsTown,
    start: Moment,
    end: Moment,
    chosen: Chosen,
    form: Form = Format.CSV,
    resolution: Interval = Resolution.QUARTER,
) -> StreamingResponse:
    """Return the readings of ``[start, end)`` as a file: a row for each meter, record type and interval.

    Sums are of the slots that have a reading; ``missing_slots`` says how many have none. Levels have their last,
    lowest and highest value. The columns are those of ``commonwatt export``.
    """
    return api.part(_answering)(actor, readings_export, form, _asked(start, end, resolution, chosen))


@router.get("/export/settled", response_class=StreamingResponse, dependencies=[LOCAL_TIMES])
def settled(
    api: RequestApi,
    actor: ReadsTown,
    start: Moment,
    end: Moment,
    chosen: Chosen,
    form: Form = Format.CSV,
    resolution: Interval = Resolution.QUARTER,
) -> StreamingResponse:
    """Return the settled quarter-hours of ``[start, end)``, or their sums, as a file."""
    return api.part(_answering)(actor, settled_export, form, _asked(start, end, resolution, chosen))


@router.get("/export/bills", response_class=StreamingResponse, dependencies=[LOCAL_TIMES])
def bills(
    api: RequestApi,
    actor: ReadsBills,
    start: Moment,
    end: Moment,
    form: Form = Format.CSV,
    account: Accounts = None,
) -> StreamingResponse:
    """Return the lines of the issued bills of the local months in ``[start, end)`` as a file."""
    return api.part(_answering)(
        actor, bills_export, form, _asked(start, end, Resolution.QUARTER, ExportSelection(accounts=account or ()))
    )


@router.get("/export/events", response_class=StreamingResponse, dependencies=[LOCAL_TIMES])
def events(
    api: RequestApi, actor: ReadsTown, start: Moment, end: Moment, chosen: Chosen, form: Form = Format.CSV
) -> StreamingResponse:
    """Return the meters' events of ``[start, end)`` as a file."""
    return api.part(_answering)(actor, events_export, form, _asked(start, end, Resolution.QUARTER, chosen))


def _asked(start: int, end: int, resolution: Resolution, chosen: ExportSelection) -> AskedExport:
    return AskedExport(start=start, end=end, resolution=resolution, selection=chosen, names=_NAMES)


def _content(export: Export, form: Format) -> Iterator[bytes]:
    """Yield the bytes of an export, as its rows are read."""
    made: list[bytes] = []
    writer = make_writer(form, cast("BinaryIO", Hashed(made.append)), export.table)
    for piece in export.pieces():
        for rows in export.rows(piece):
            writer.write(rows)
            yield b"".join(made)
            made.clear()
    writer.close()
    yield b"".join(made)
