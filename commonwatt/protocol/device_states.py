"""What is known of a foreign device's commanded state, for outcomes, status pages and people (docs/adapters.md)."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from commonwatt.protocol.json_messages import MessagePart, Moment


class Stage(StrEnum):
    """How far a device obeys."""

    UNKNOWN = "unknown"  # its state was not read yet
    OFF = "off"  # nothing is asked of it, and it does nothing
    ASKED = "asked"  # it was told, and has not shown that it obeys
    OBEYS = "obeys"  # it shows the state that was asked
    UNCONFIRMED = "unconfirmed"  # it was told, and can't show whether it obeys
    DISOBEYS = "disobeys"  # it was told three times, and shows another state


Failsafe = Literal["will", "watchdog", "none"]


class DeviceState(MessagePart):
    """One commanded state of a foreign device."""

    stage: Stage  # how far it obeys
    since: Moment  # since when, epoch seconds
    failsafe: Failsafe  # what ends the state if the adapter is gone
    # Most seconds until it has ended then; absent: nothing ends it.
    failsafe_s: Annotated[int, Field(ge=0, le=3600)] | None = None
    # Of a device that disobeys: what it should do, and what it shows; for people.
    finding: Annotated[str, Field(max_length=200)] | None = None
