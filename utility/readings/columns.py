"""What a request to a gateway is, for API, terminal and page."""

from typing import Literal

from pydantic import BaseModel

from utility.webkit.columns import Time


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
