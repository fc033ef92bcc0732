"""A controller's requests to the utility's care listener, by HTTPS; they block: call them in a thread."""

import json
import ssl
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from commonwatt.model.exceptions import CommonwattError
from commonwatt.model.text import printable
from commonwatt.network.addresses import split_address
from commonwatt.network.tls import ClientTls

PORT = 8444  # of a utility's care listener
MAX_REQUEST_BYTES = 64 * 1024  # most bytes of a request's body
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # most bytes of an answer: a bundle, sealed
PIECE_BYTES = 64 * 1024  # most bytes of a piece of a file
_WITHIN_S = 30.0  # real seconds of silence after which an address counts as unreachable
_REFUSED = 403


class CareUnreachable(CommonwattError):  # noqa: N818 - it is no error of the program: a later try may reach it
    """No address of the utility answered as a care listener does."""


class CareRefused(CommonwattError):  # noqa: N818 - the utility's decision
    """The utility refused a request; the text is its reason."""


@dataclass(frozen=True)
class CareConnection:
    """The way to the utility's care listener; each request makes a connection of its own."""

    addresses: tuple[str, ...]  # HOST:PORT of each, tried in turn
    ca: Path  # the authority that must have signed its certificate
    revoked: Path | None = None  # that authority's revocation list; ``None``: no list

    def post(self, path: str, content: dict[str, object]) -> dict[str, object]:
        """Send a JSON object to a path, and return the one that is answered.

        Raises:
            CareRefused: The utility refused it.
            CareUnreachable: No address gave an answer.
            ConfigError: The authority's file can't be used.
        """
        body = json.dumps(content).encode()
        answer = self._ask("POST", path, body, MAX_ANSWER_BYTES)
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise CareUnreachable(f"{path} was answered by no JSON: {error}") from error
        if not isinstance(found, dict):
            raise CareUnreachable(f"{path} was answered by no JSON object")
        return found

    def piece(self, path: str, begin: int) -> bytes:
        """Return up to ``PIECE_BYTES`` bytes of a file from a place on; none: it ends there.

        Raises:
            CareRefused: The utility has no such file.
            CareUnreachable: No address gave an answer.
            ConfigError: The authority's file can't be used.
        """
        return self._ask("GET", f"{path}/{begin}", None, PIECE_BYTES)

    def _ask(self, method: str, path: str, body: bytes | None, most_bytes: int) -> bytes:
        context = ClientTls(self.ca, revoked=self.revoked).context()
        faults, refused = [], None
        for address in self.addresses:
            try:
                return request(address, context, method, path, body, most_bytes)
            except CareRefused as error:
                refused = error  # The next one may have a newer bundle, or a better clock.
            except CareUnreachable as error:
                faults.append(f"{address}: {error}")
        raise refused or CareUnreachable("; ".join(faults))


def request(
    address: str, context: ssl.SSLContext, method: str, path: str, body: bytes | None = None, most_bytes: int = 65_536
) -> bytes:
    """Make one request, and return the body of its answer.

    Raises:
        CareRefused: The utility refused it.
        CareUnreachable: There was no answer, or another one than a care listener gives.
    """
    host, port = split_address(address)
    with closing(HTTPSConnection(host, port, timeout=_WITHIN_S, context=context)) as connection:
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            content = answer.read(most_bytes + 1)
        except (OSError, HTTPException) as error:
            raise CareUnreachable(str(error) or type(error).__name__) from error
    if answer.status == _REFUSED:
        raise CareRefused(_reason(content))
    if answer.status != 200 or len(content) > most_bytes:
        raise CareUnreachable(f"answered {answer.status} with {len(content)} bytes, {_reason(content)}")
    return content


def _reason(content: bytes) -> str:
    try:
        return printable(str(json.loads(content)["reason"])[:500])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "without a reason"
