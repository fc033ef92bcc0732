"""What several of the API's typed answers share: bodies, reasons, refusals."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field

from commonwatt.model.exceptions import ConfigError, StoreError

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
