"""What several of the API's typed answers share: times, refusals."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.times import iso

Time = Annotated[int, PlainSerializer(iso, return_type=str), Field(description="A time, ISO 8601 with Z.")]
"""A time: epoch seconds in the program, ISO 8601 in answers."""

Why = Annotated[str, Field(max_length=200, description="The reason, kept with the decision.")]


class Asked(BaseModel):
    """The body of a request; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


@contextmanager
def refusing(status: int = 409, words: Callable[[Exception], str] = str) -> Iterator[None]:
    """Answer with the reason, if a decision is refused; nothing was changed then.

    Raises:
        HTTPException: The decision was refused.
    """
    try:
        yield
    except (ConfigError, StoreError) as error:
        raise HTTPException(status, words(error)) from error
