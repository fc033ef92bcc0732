"""Which messages of foreign meters are committed though their broker may send them again (MQTT 3.1.1 and 5).

A broker sends a message of QoS 1 or 2 again, with its packet id and the flag DUP, until it has the acknowledgement. A
crash or a lost connection between commit and acknowledgement would count the message twice. So the adapter remembers
packet id and checksum of the messages that it handled last, and stores them with what it made of these messages.

- With DUP, the packet id and the checksum of a remembered message: it is that message, and changes nothing.
- Without DUP, or with another checksum: the broker has the acknowledgement, and uses the packet id for another message.
- With DUP and not remembered: it was never committed.
- A broker without our session has forgotten what it sent, and begins again with its packet ids.
"""

import struct
import zlib
from collections import OrderedDict

from adapters.arrived import Arrived

# Most messages that a broker of MQTT 5 may send before an acknowledgement; with 3.1.1 it is the broker's own limit.
MOST_IN_FLIGHT = 320
_REMEMBERED = 2 * MOST_IN_FLIGHT  # most remembered messages; with 6 bytes each they fit into a page of the store

_ENTRY = struct.Struct("<HI")


class Handled:
    """The messages handled last whose acknowledgement the broker may not have.

    Args:
        stored: What ``pack`` returned before the start; of the broker's present session, until it says otherwise.
    """

    def __init__(self, stored: bytes = b"") -> None:
        self._session = 0
        self._checksums: OrderedDict[int, int] = OrderedDict(_ENTRY.iter_unpack(stored))

    def begin(self, session: int) -> None:
        """Forget what an earlier session of the broker sent."""
        if session > self._session:
            self._session = session
            self._checksums.clear()

    def take(self, message: Arrived) -> bool:
        """Remember a message; return whether it was handled before."""
        self.begin(message.session)
        if not message.qos or message.session < self._session:
            return False
        checksum = zlib.crc32(message.payload, zlib.crc32(f"{message.topic}\0".encode()))
        before = self._checksums.pop(message.number, None)
        self._checksums[message.number] = checksum
        if len(self._checksums) > _REMEMBERED:
            self._checksums.popitem(last=False)
        return message.dup and before == checksum

    def pack(self) -> bytes:
        """Return the remembered messages for the store."""
        return b"".join(_ENTRY.pack(*entry) for entry in self._checksums.items())
