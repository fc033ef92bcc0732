"""What corrections and findings are, for API, terminal and pages."""

from typing import Annotated

from pydantic import BaseModel, Field

from utility.webkit.columns import Shown, Time, Written

_MICROGRID = Shown("Microgrid")
_BADGES = {"approved": "good", "edited": "good"}


class CorrectionLine(BaseModel):
    """Corrections of quarter-hours in a row, of one meter, type, method and state."""

    key: str = Field(description="Names them as they are now, for a decision.")
    microgrid: Annotated[str, _MICROGRID]
    meter: Annotated[str, Shown("Meter", link="/console/quarantine/corrections/{key}")]
    type: Annotated[str, Shown("Type")]
    start: Annotated[Time, Shown("From", Written.MOMENT)]
    until: Annotated[Time, Shown("Until", Written.MOMENT)]
    method: Annotated[str, Shown("Method")]
    state: Annotated[str, Shown("State", Written.STATE, badges=_BADGES)]
    minutes: Annotated[float, Shown("Minutes")]
    energy_mwh: Annotated[int, Shown("Energy", Written.ENERGY)]


class Summary(CorrectionLine):
    """The same with the corrections' numbers."""

    numbers: list[int]


class Finding(BaseModel):
    """An open finding of the daily checks."""

    no: Annotated[int, Shown("Number", Written.TEXT)]
    microgrid: Annotated[str, _MICROGRID]
    meter: Annotated[str, Shown("Meter", link="/console/quarantine/corrections/edit?meter={meter}", role="clerk")]
    type: Annotated[int, Shown("Type", Written.RECORD_TYPE)] = Field(description="The record type's number.")
    start: Annotated[Time, Shown("From", Written.MOMENT)]
    until: Annotated[Time, Shown("Until", Written.MOMENT)]
    check: Annotated[str, Shown("Check")]
    figure: Annotated[int, Shown("Figure")]
    threshold: Annotated[int, Shown("Threshold")]
