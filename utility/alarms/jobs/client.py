"""A client of Alertmanager's API, version 2: each question has a deadline and a bounded answer."""

import time
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection

from commonwatt.model.exceptions import CommonwattError, ConfigError, text_of
from commonwatt.network.addresses import split_address
from commonwatt.network.tls import ClientTls

WITHIN_S = 3.0  # real seconds within which an answer must be there
MAX_BYTES = 8 * 1024 * 1024  # most bytes of an answer: 802 silent gateways have about 1 MB

_PIECE = 65_536


class AlertmanagerError(CommonwattError):
    """Alertmanager does not answer, or refuses; a retry may help."""


@dataclass(eq=False)
class Alertmanager:
    """Questions to one Alertmanager, each on a connection of its own."""

    address: str  # HOST:PORT
    tls: ClientTls | None  # how it is verified; ``None``: plain HTTP

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
        """Return the answer to a request.

        Raises:
            AlertmanagerError: There is no good answer.
        """
        deadline = time.monotonic() + WITHIN_S
        headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
        try:
            with closing(self._connection()) as connection:
                connection.request(method, f"/api/v2/{path}", body, headers)
                with connection.getresponse() as response:
                    return _read(response, connection, deadline)
        except (OSError, HTTPException, ConfigError) as error:
            raise AlertmanagerError(f"Alertmanager at {self.address}: {text_of(error)}") from error

    def _connection(self) -> HTTPConnection:
        host, port = split_address(self.address)
        if self.tls is None:
            return HTTPConnection(host, port, timeout=WITHIN_S)
        return HTTPSConnection(host, port, timeout=WITHIN_S, context=self.tls.context())


def _read(response: HTTPResponse, connection: HTTPConnection, deadline: float) -> bytes:
    content = bytearray()
    # One byte at a time would pass every timeout of a socket.
    while piece := response.read1(_PIECE):
        content += piece
        left_s = deadline - time.monotonic()
        if len(content) > MAX_BYTES:
            raise HTTPException(f"answers more than {MAX_BYTES} bytes")
        if left_s <= 0:
            raise TimeoutError(f"answers for longer than {WITHIN_S:g} s")
        if connection.sock is not None:
            connection.sock.settimeout(left_s)
    if response.status != 200:
        why = bytes(content[:200]).decode(errors="replace").strip()
        raise HTTPException(f"answers {response.status} {response.reason}: {why}")
    return bytes(content)
