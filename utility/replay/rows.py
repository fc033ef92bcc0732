"""What a replay shows, declared once for page, JSON and command: who pays, who goes dark, who helps whom."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel

from utility.webkit.columns import Shown, Written


class AccountRow(BaseModel):
    """What an account pays."""

    account: Annotated[int, Shown("Account")]
    was: Annotated[Decimal, Shown("Was, dollars", Written.NUMBER)]
    would: Annotated[Decimal, Shown("Would be, dollars", Written.NUMBER)]
    more: Annotated[Decimal, Shown("More, dollars", Written.NUMBER)]


class PlaceRow(BaseModel):
    """What a place gives, receives and goes without."""

    microgrid: Annotated[str, Shown("Microgrid", link="/console/microgrids/{microgrid}")]
    place: Annotated[str, Shown("Place")]
    dark_h: Annotated[float, Shown("Dark, hours")]
    dark_was_h: Annotated[float, Shown("Was, hours")]
    gives: Annotated[int, Shown("Gives, kWh", Written.ENERGY)]
    gave: Annotated[int, Shown("Gave, kWh", Written.ENERGY)]
    receives: Annotated[int, Shown("Receives, kWh", Written.ENERGY)]
    received: Annotated[int, Shown("Received, kWh", Written.ENERGY)]


class LeftOutRow(BaseModel):
    """A day of a microgrid that does not count."""

    day: Annotated[str, Shown("Day")]
    microgrid: Annotated[str, Shown("Microgrid")]
    why: Annotated[str, Shown("Why")]
