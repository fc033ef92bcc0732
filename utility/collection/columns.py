"""What an order of brokers is, for API and terminal."""

from typing import Annotated

from pydantic import BaseModel

from utility.webkit.columns import Shown, Time, Written


class Given(BaseModel):
    """An order that a meter was given."""

    version: Annotated[int, Shown("Version")]
    since: Annotated[Time, Shown("Since", Written.MOMENT)]
    brokers: Annotated[list[str], Shown("Brokers")]  # the first one first; empty: as installed
    person: Annotated[str, Shown("By")]  # empty: the service
    pinned: bool  # whether it stays until a person changes it
    why: Annotated[str, Shown("Why")]


class CollectedMeter(BaseModel):
    """Which controller collects the data of a meter, and why."""

    meter: Annotated[str, Shown("Meter")]
    microgrid: Annotated[str, Shown("Microgrid")]
    installed: list[str]  # its brokers, home first
    order: Annotated[list[str], Shown("Brokers")]  # in their present order; the first three are in use
    pinned: bool  # whether a person has set the order
    collector: Annotated[str, Shown("Collected by")]  # the first one in use that is heard
    load: Annotated[int, Shown("Meters on that line")]
    why: Annotated[str, Shown("Why")]
    history: list[Given]  # the orders that it was given, the newest first
