"""What a version of a tariff is, for API, terminal and page."""

from pydantic import BaseModel, Field

from utility.webkit.columns import Time


class Version(BaseModel):
    """A version of a tariff."""

    name: str
    version: int
    state: str
    effective: Time
    begins: str = Field(description="`effective` as a local time of the town.")
    proposed_by: str
    proposed: Time
    approved_by: str | None
    approved: Time | None
