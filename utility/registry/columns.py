"""Accounts, what people changed of them, and what differs from the registry."""

from typing import Annotated

from pydantic import BaseModel, Field

from utility.webkit.columns import Shown, Time, Written


class Differing(BaseModel):
    """An account that a meter reports and that the registry does not have for it; the registered account is billed."""

    meter: Annotated[str, Shown("Meter")]
    told: Annotated[int | str, Shown("Reported")] = Field(description="`others`: all beyond ten of a meter.")
    registered: Annotated[int, Shown("Registered")] = Field(description="0: nobody had the meter.")
    first: Annotated[int, Shown("First", Written.MOMENT)] = Field(description="Epoch seconds, as `last`.")
    last: Annotated[int, Shown("Last", Written.MOMENT)]
    reports: Annotated[int, Shown("Reports")] = Field(description="Messages about it: a gateway sends one a day.")


class Account(BaseModel):
    """An account as it is now."""

    account: int
    places: list[str] = Field(description="Where its meters are: the microgrid, and the place in it.")
    meters: list[str]
    terms: dict[str, str] = Field(description="Its terms, such as its tariff.")


class Changed(BaseModel):
    """A change of the dates or terms of a meter or an account."""

    no: int
    time: Time
    person: str
    subject: str = Field(description="`account 17`, or `meter 10001`.")
    before: str
    after: str
