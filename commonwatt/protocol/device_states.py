"""What an adapter says of a foreign device, in outcomes and heartbeats, for pages and people (docs/adapters.md)."""

from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from commonwatt.protocol.json_messages import MessagePart, Moment, Natural


class Stage(StrEnum):
    """How far a device obeys."""

    UNKNOWN = "unknown"  # its state was not read yet
    OFF = "off"  # nothing is asked of it, and it does nothing
    ASKED = "asked"  # it was told, and has not shown that it obeys
    OBEYS = "obeys"  # it shows the state that was asked
    UNCONFIRMED = "unconfirmed"  # it was told, and can't show whether it obeys
    DISOBEYS = "disobeys"  # it was told three times, and shows another state


Failsafe = Literal["will", "watchdog", "none"]
_FAILSAFES = get_args(Failsafe)


class DeviceState(MessagePart):
    """One commanded state of a foreign device."""

    # How far it obeys; one of a later version is ``unknown``.
    stage: Annotated[Stage, BeforeValidator(lambda given: given if given in set(Stage) else Stage.UNKNOWN)]
    since: Moment  # since when, epoch seconds
    # What ends the state if the adapter is gone; of a later version: nothing that is known.
    failsafe: Annotated[Failsafe, BeforeValidator(lambda given: given if given in _FAILSAFES else "none")]
    # Most seconds until it has ended then; absent: nothing ends it.
    failsafe_s: Annotated[int, Field(ge=0, le=3600)] | None = None
    # Of a device that disobeys: what it should do, and what it shows; for people.
    finding: Annotated[str, Field(max_length=200)] | None = None

    @property
    def is_unsafe(self) -> bool:
        """Whether nothing ends it if the adapter is gone."""
        return self.failsafe == "none"


class ForeignDevice(MessagePart):
    """A foreign device as its adapter knows it."""

    name: Annotated[str, Field(max_length=64)]  # its name in topics
    preset: Annotated[str, Field(max_length=32)]  # the preset that reads its messages
    heard: Moment | None = None  # when its last message came; absent: none since its start
    # What it can be told, by kind of state (``commands.Kind``; a later version may have others).
    states: Annotated[dict[str, DeviceState], Field(max_length=6)] = Field(default_factory=dict)
    # How many of its values were not used since the adapter's start, and the last of them, by reason.
    ignored: Annotated[dict[str, tuple[Natural, Annotated[str, Field(max_length=80)]]], Field(max_length=12)] = Field(
        default_factory=dict
    )
