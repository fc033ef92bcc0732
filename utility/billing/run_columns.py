"""What a run of bills is, for API and terminal."""

from typing import Any

from pydantic import BaseModel, Field

from utility.webkit.columns import Time


class Run(BaseModel):
    """A run of bills."""

    no: int
    month: str
    state: str
    policy: str
    code: str = Field(description="The version of the program.")
    settled_no: int = Field(description="The newest version of settled days that it counts.")
    previous_no: int = Field(description="The run of the newest month with issued bills, when it was made; 0: none.")
    digest: str = Field(description="SHA-256 of its bills, hexadecimal.")
    root: str = Field(description="Root of the tree over its bills, hexadecimal.")
    figures: dict[str, Any]
    made_by: str
    made: Time
    checked_by: str | None
    checked: Time | None
    issued_by: str | None
    issued: Time | None
