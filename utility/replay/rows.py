"""What a replay shows, declared once for page, JSON and command: who pays, who goes dark, who helps whom."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel

from utility.replay.world import Place
from utility.webkit.columns import Shown, Written


class AccountRow(BaseModel):
    """What an account pays."""

    account: Annotated[int, Shown("Account")]
    was: Annotated[Decimal, Shown("Was, dollars", Written.NUMBER)]
    would: Annotated[Decimal, Shown("Would be, dollars", Written.NUMBER)]
    more: Annotated[Decimal, Shown("More, dollars", Written.NUMBER)]


class PlaceRow(BaseModel):
    """What a place gives by sharing, receives, and goes without."""

    microgrid: Annotated[str, Shown("Microgrid", link="/console/microgrids/{microgrid}")]
    place: Annotated[str, Shown("Place")]
    gave: Annotated[int, Shown("Gave", Written.ENERGY)]
    received: Annotated[int, Shown("Received", Written.ENERGY)]
    was_dark_h: Annotated[float, Shown("Was dark, hours")]
    would_give: Annotated[int, Shown("Would give", Written.ENERGY)]
    would_receive: Annotated[int, Shown("Would receive", Written.ENERGY)]
    would_be_dark_h: Annotated[float, Shown("Would be dark, hours")]

    def rank(self) -> tuple[float, int]:
        """What places are listed by: the hours of dark and the help that change."""
        helps = abs(self.would_give - self.gave) + abs(self.would_receive - self.received)
        return self.was_dark_h - self.would_be_dark_h, -helps

    @classmethod
    def of(cls, place: Place, sums: list[list[int]]) -> "PlaceRow":
        """Return the row of the ``sums`` of what was and would be: given, received, seconds dark."""
        values = (value for given, received, dark_s in sums for value in (given, received, round(dark_s / 3600, 2)))
        return cls(**dict(zip(cls.model_fields, (*place, *values), strict=True)))


class LeftOutRow(BaseModel):
    """A day of a microgrid that does not count."""

    day: Annotated[str, Shown("Day")]
    microgrid: Annotated[str, Shown("Microgrid")]
    why: Annotated[str, Shown("Why")]
