"""A message of a foreign meter, as it arrived."""

from typing import NamedTuple

from adapters.energy.spread import EpochMilliseconds


class Arrived(NamedTuple):
    """A message of a foreign meter."""

    topic: str  # its topic
    payload: bytes  # its payload
    retained: bool  # whether it is an old message that the broker kept
    at: EpochMilliseconds  # when it arrived
    qos: int = 0  # its quality of service
    number: int = 0  # its packet id
    connection: int = 0  # the connection it came by
    session: int = 0  # the broker's session it came by; 0 is the one before the adapter's start
    dup: bool = False  # whether the broker may have sent it before (flag DUP)
    source: str = ""  # the name of the source that it came from
