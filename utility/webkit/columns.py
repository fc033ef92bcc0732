"""The columns of a list, declared once: a row is a model, a column one of its fields.

The API answers with the rows, the terminal prints them, a page lists them (macro ``listed``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, GetJsonSchemaHandler, PlainSerializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from commonwatt.model.calendar import iso, parse_time
from commonwatt.model.records import RecordType
from commonwatt.model.text import moment

COLUMN = "x-column"
"""The key of a field in the API's description that is a column: how its values are written; empty: as they are."""


class Written(StrEnum):
    """How a value is written for people."""

    TEXT = "text"
    NUMBER = "number"
    MOMENT = "moment"  # epoch seconds, as a local time
    ENERGY = "energy"  # milliwatt-hours, in kilowatt-hours
    BYTES = "bytes"  # in gigabytes
    STATE = "state"  # a word with a shape and a colour
    RECORD_TYPE = "record type"  # its number, by name


Time = Annotated[
    int,
    BeforeValidator(lambda time: parse_time(time, "") if isinstance(time, str) else time),
    PlainSerializer(iso, return_type=str),
    Field(description="A time, ISO 8601 with Z."),
]
"""A time: epoch seconds in the program, ISO 8601 in answers."""


@dataclass(frozen=True, kw_only=True)
class ListColumn:
    """A column of a list."""

    name: str  # the field's name, also in the API and at the terminal
    kind: Written  # how its values are written
    shown: "Shown"  # what its declaration says

    @property
    def is_number(self) -> bool:
        """Return whether its values stand one below the other by their last digit."""
        return self.kind in (Written.NUMBER, Written.ENERGY)


@dataclass(frozen=True)
class Shown:
    """Says of a field that it is a column: ``no: Annotated[int, Shown("Number")]``."""

    words: str  # the heading on a page
    kind: Written | None = None  # how a value is written; ``None``: a number as number, all else as text
    link: str = ""  # the address that a page's cell leads to, with fields' names in braces
    role: str = ""  # the role that the link is for; empty: everybody's
    badges: Mapping[str, str] = field(default_factory=dict)  # of states: good, warning or bad; others are idle

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the field's schema, which says that it is a column, and how its values are written."""
        return handler(core) | {COLUMN: self.kind or ""}


@cache
def columns_of(model: type[BaseModel]) -> tuple[ListColumn, ...]:
    """Return the columns of a model's rows, in the order of its fields."""
    number, text = Written.NUMBER, Written.TEXT
    return tuple(
        ListColumn(name=name, kind=shown.kind or (number if one.annotation in (int, float) else text), shown=shown)
        for name, one in model.model_fields.items()
        for shown in one.metadata
        if isinstance(shown, Shown)
    )


def type_name(record_type: int) -> str:
    """Return the name of a record type; its number if it has none."""
    return RecordType(record_type).name.lower() if record_type in list(RecordType) else str(record_type)


def cells(row: BaseModel, most: int | None = None) -> dict[str, str]:
    """Return a row as a terminal shows it: the text of each column by its heading, or of the first few columns."""
    shown = columns_of(type(row))[:most]
    return {heading(column): _text(column, getattr(row, column.name)) for column in shown}


def heading(column: ListColumn) -> str:
    """Return a column's heading in a terminal: the field's name, or the unit of an energy."""
    return "kWh" if column.kind is Written.ENERGY else column.name


def _text(column: ListColumn, value: object) -> str:
    if not isinstance(value, int | float):
        return str(value)
    if column.kind is Written.MOMENT:
        return moment(int(value))
    if column.kind is Written.ENERGY:
        return f"{value / 1e6:.3f}"
    if column.kind is Written.RECORD_TYPE:
        return type_name(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)
