"""Rows of requests, refills, dead letters and lines, for API, terminal and page."""

from typing import Annotated, Literal

from pydantic import BaseModel

from utility.webkit.columns import Shown, Time, Written


class Request(BaseModel):
    """A request to a gateway that failed or has no answer yet."""

    kind: Literal["command", "readings"]  # ``readings``: missing ones
    microgrid: str  # whose gateway is asked
    what: str  # what is asked for, for people
    since: Time  # when a command was given; of readings, the start of the oldest quarter-hour
    asked: int  # how often readings were asked for at most; of a command 1
    state: str  # ``open``, ``expired``, ``failed``
    reason: str  # why it failed; empty: it did not, or no reason is known
    expires: Time  # when it is given up, or was


class Refilling(BaseModel):
    """How far a controller's store of a microgrid is in refilling a database that was lost."""

    microgrid: Annotated[str, Shown("Microgrid", link="/console/microgrids/{microgrid}")]
    kind: Annotated[str, Shown("Kind")]  # residential, apartment or public
    controller: Annotated[str, Shown("Controller")]  # whose store has the data
    # ``counting``: marks what it sends again; ``waiting``: for public microgrids; ``not heard``: its controller is not
    state: Annotated[str, Shown("State", Written.STATE, badges={"refilled": "good", "not heard": "bad"})]
    sent: Annotated[int | None, Shown("Blocks so far", Written.NUMBER)] = None  # parts of blocks that were stored again
    parts: Annotated[int | None, Shown("Of", Written.NUMBER)] = None  # all of them; ``None``: not counted yet
    percent: Annotated[int | None, Shown("Percent", Written.NUMBER)] = None  # of them so far
    per_hour: Annotated[int | None, Shown("Blocks an hour", Written.NUMBER)] = None  # by the last hour
    # When it ended, or is expected to at this rate; ``None``: not known.
    end: Annotated[Time | None, Shown("Ended, or expected to end", Written.MOMENT)] = None
    since: Time | None = None  # since when its gateway knows of the new database
    heard: Annotated[Time | None, Shown("Heard", Written.MOMENT)] = None  # its last heartbeat; ``None``: none came


class DeadLetterRow(BaseModel):
    """What was rejected, whole or truncated. ``told``: its content, for people; ``content``: its bytes."""

    no: Annotated[int, Shown("Number")]
    time: Annotated[int, Shown("Time", Written.MOMENT)]
    sender: Annotated[str, Shown("Sender")]
    meter: Annotated[str, Shown("Meter")]
    source: str
    log: int
    generation: int
    id: str
    reason: int
    reason_text: Annotated[str, Shown("Reason")]
    state: Annotated[str | None, Shown("State")]
    decided: str | None
    told: Annotated[str, Shown("Content")]
    content: str


class LteLine(BaseModel):
    """The month's use of a controller's LTE line, bytes; ``None``: its gateway reported none."""

    microgrid: Annotated[str, Shown("Microgrid")]
    level: Annotated[str, Shown("Level")]
    used_up: Annotated[int | None, Shown("Sent", Written.BYTES)]
    used_down: Annotated[int | None, Shown("Received", Written.BYTES)]
    expected_up: Annotated[int | None, Shown("Expected to be sent", Written.BYTES)]
    expected_down: Annotated[int | None, Shown("Expected to be received", Written.BYTES)]
    allowance: Annotated[int | None, Shown("Allowance", Written.BYTES)]
    time: int | None
