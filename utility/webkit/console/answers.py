"""Answers that several pages give: errors in words, files, fields of forms, local days that one may ask for."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import date, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import Form, HTTPException, Path, Query, Response, UploadFile

from commonwatt.model.calendar import midnight
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import QUARTER_S, Quarter
from utility.webkit import requests

ROWS = 100  # rows of a page of a list


class FormFaults(dict[str, str]):
    """What is wrong with a form, by the field's name; a field without a fault has an empty text."""

    def __missing__(self, field: str) -> str:
        return ""


Why = Annotated[str, Form(max_length=2_000)]
After = Annotated[str, Query(max_length=60)]
Skip = Annotated[int, Query(ge=0, le=10_000_000)]
Number = Annotated[int, Path(ge=0, lt=2**31)]


def plain(error: Exception) -> str:
    """Return an error for a page: without the command that helps at a terminal."""
    return error.text if isinstance(error, ConfigError) else str(error)


def faults_of(error: Exception, fields: Iterable[str], **others: str) -> FormFaults:
    """Return an error by the field of a form whose name it begins with; under the empty name if it names none.

    Args:
        error: Its text is such as ``place: r9 is no microgrid`` or ``to is in the future``.
        fields: The names of the form's fields.
        others: Fields by the names that errors have for them.
    """
    text = plain(error)
    name = text.replace(":", " ").split(" ", 1)[0]
    field = others.get(name, name)
    return FormFaults({field: text.partition(": ")[2] or text} if field in fields else {"": f"{text}."})


def refusing(status: int = 409) -> AbstractContextManager[None]:
    """Answer with a page that says why, if a decision is refused; nothing was changed then."""
    return requests.refusing(status, lambda error: f"{plain(error)}. Nothing was changed.")


def found(make: Callable[[], Any]) -> Any:
    """Return what a function returns; a page that says so if there is no such thing, or if it is damaged.

    Raises:
        HTTPException: There is no such thing, or it is damaged.
    """
    try:
        return make()
    except ConfigError as error:
        raise HTTPException(404, plain(error)) from error
    except StoreError as error:
        raise HTTPException(503, plain(error)) from error


def content_of(file: UploadFile, most: int) -> bytes:
    """Return the bytes of a file that a form sends.

    Raises:
        ConfigError: It is empty, or has more than so many bytes.
    """
    content = file.file.read(most + 1)
    if not content.strip():
        raise ConfigError("file: is empty; choose the one with the content")
    if len(content) > most:
        raise ConfigError(f"file: has more than {most:,} bytes; send it in parts")
    return content


def address(path: str, **words: object) -> str:
    """Return the address of a page with the words of its query that say something."""
    said = {name: str(value) for name, value in words.items() if value not in (None, "", 0)}
    return f"{path}?{urlencode(said)}" if said else path


def other_pages(path: str, skip: int, *, is_more: bool, **words: object) -> dict[str, str]:
    """Return the addresses of the pages ``earlier`` and ``later`` than one of a list; empty: there is none.

    Args:
        skip: How many rows come before the page.
        is_more: Whether some come after it.
        words: The words of the list's query.
    """
    earlier = address(path, **words, skip=max(0, skip - ROWS)) if skip else ""
    return {"earlier": earlier, "later": address(path, **words, skip=skip + ROWS) if is_more else ""}


def download(content: bytes, name: str, kind: str) -> Response:
    """Return a file for the browser to save."""
    return Response(content, media_type=kind, headers=attached(name))


def attached(name: str) -> dict[str, str]:
    """Return the headers of an answer that the browser saves as a file of this name."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


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
