"""A message of a foreign meter, as it arrived."""

from typing import NamedTuple

from adapters.energy.spread import EpochMilliseconds


class Arrived(NamedTuple):
    """A message of a foreign meter.

    Attributes:
        topic: Its topic.
        payload: Its payload.
        retained: Whether it is an old message that the broker kept.
        at: When it arrived.
        qos: Its quality of service.
        number: Its packet id.
        connection: The connection it came by.
        session: The broker's session it came by; 0 is the one before the adapter's start.
        dup: Whether the broker may have sent it before (flag DUP).
    """

    topic: str
    payload: bytes
    retained: bool
    at: EpochMilliseconds
    qos: int = 0
    number: int = 0
    connection: int = 0
    session: int = 0
    dup: bool = False
