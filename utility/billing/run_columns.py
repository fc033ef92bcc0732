"""What a run of bills is, for API and terminal."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from utility.webkit.columns import Shown, Time


class Run(BaseModel):
    """A run of bills."""

    no: Annotated[int, Shown("Run")]
    month: Annotated[str, Shown("Month")]
    state: Annotated[str, Shown("State")]
    policy: Annotated[str, Shown("Policy")]
    code: str = Field(description="The version of the program.")
    settled_no: int = Field(description="The newest version of settled days that it counts.")
    previous_no: int = Field(description="The run of the newest month with issued bills, when it was made; 0: none.")
    digest: str = Field(description="SHA-256 of its bills, hexadecimal.")
    root: str = Field(description="Root of the tree over its bills, hexadecimal.")
    figures: dict[str, Any]
    made_by: Annotated[str, Shown("Made by")]
    made: Time
    checked_by: Annotated[str | None, Shown("Checked by")]
    checked: Time | None
    issued_by: Annotated[str | None, Shown("Issued by")]
    issued: Time | None
