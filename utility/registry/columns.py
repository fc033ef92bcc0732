"""What differs from the registry, for API, terminal and page."""

from typing import Annotated

from pydantic import BaseModel, Field

from utility.webkit.columns import Shown, Written


class Differing(BaseModel):
    """An account that a meter reports and that the registry does not have for it; the registered account is billed."""

    meter: Annotated[str, Shown("Meter")]
    told: Annotated[int | str, Shown("Reported")] = Field(description="`others`: all beyond ten of a meter.")
    registered: Annotated[int, Shown("Registered")] = Field(description="0: nobody had the meter.")
    first: Annotated[int, Shown("First", Written.MOMENT)] = Field(description="Epoch seconds, as `last`.")
    last: Annotated[int, Shown("Last", Written.MOMENT)]
    reports: Annotated[int, Shown("Reports")] = Field(description="Messages about it: a gateway sends one a day.")
