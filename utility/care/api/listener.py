"""The care listener: HTTPS for controllers alone, beside the console; each path is another room's."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry

from commonwatt.care.connection import MAX_REQUEST_BYTES
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.network.http_server import HttpRequest, HttpServer, Response
from commonwatt.runtime.clock import machine_now

_KEPT_S = 86_400  # seconds for which a refused request is an alarm

log = logging.getLogger(__name__)


class CareRefusal(CommonwattError):  # noqa: N818 - a decision, no error of the program
    """A request is refused; the text is the reason, and is told to the controller."""

    def __init__(self, text: str, result: str = "refused", of: str | None = None) -> None:
        super().__init__(text)
        self.result = result  # as which it is counted
        # The name of this town that it concerns; empty: many of unknown senders; ``None``: it is no alarm.
        self.of = of


@dataclass(frozen=True, kw_only=True)
class CareRequest:
    """A request of a controller, which is not known yet: each path proves by itself who asks."""

    address: str  # the IP address it came from
    rest: tuple[str, ...] = ()  # the parts of the path after its first
    content: Mapping[str, Any]  # the JSON object in a POST's body; empty: a GET


Handler: TypeAlias = Callable[[CareRequest], dict[str, Any] | bytes]
"""Answers a request by a JSON object or by bytes, on the listener's threads; raises ``CareRefusal``."""


class CareListener:
    """The HTTPS server of the care of controllers.

    Args:
        address: Where it listens.
        certificate: Its certificate with the key (PEM); loaded again when the file is replaced.
        routes: By method and first part of the path, what answers.

    Raises:
        ConfigError: The certificate can't be used.
    """

    def __init__(self, address: str, certificate: Path, routes: Mapping[tuple[str, str], Handler]) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()  # requests by path and result
        # Time and text of the last refusal that is an alarm, by path, result and name: as many as the town has names.
        self._refusals: dict[tuple[str, str, str], tuple[float, str]] = {}
        self._routes = routes
        self._server = HttpServer(
            address,
            CollectorRegistry(),
            dict,
            None,
            pages=self._answer,
            certificate=certificate,
            most_body_bytes=MAX_REQUEST_BYTES,
        )

    def start(self) -> None:
        """Listen on a thread of its own.

        Raises:
            OSError: The address is in use; the message names it.
        """
        self._server.start()

    def stop(self) -> None:
        """Stop listening."""
        self._server.stop()

    def refusals(self, path: str) -> tuple[str, ...]:
        """Return the refusals of a path within the last day that are alarms, the newest last."""
        since = machine_now() - _KEPT_S
        found = [value for key, value in self._refusals.copy().items() if key[0] == path and value[0] > since]
        return tuple(text for _, text in sorted(found))

    def _answer(self, request: HttpRequest) -> Response:
        _, first, *rest = f"{request.path}/".split("/")[:8]
        handler = self._routes.get((request.method, first))
        if handler is None:
            return self._refused("other", "unknown", 404, "there is no such path")
        try:
            content = _content(request.body) if request.method == "POST" else {}
            answer = handler(CareRequest(address=request.address, rest=tuple(filter(None, rest)), content=content))
        except CareRefusal as error:
            log.warning("%s of %s is refused: %s", first, request.address, error)
            if error.of is not None:
                said = (machine_now(), f"{error} (from {request.address})")
                self._refusals[first, error.result, error.of] = said
            return self._refused(first, error.result, 403, str(error))
        except (ConfigError, OSError) as error:  # A file of the utility's own is damaged: the controller may ask again.
            log.error("%s of %s can't be answered: %s", first, request.address, error)
            self._refusals[first, "failed", ""] = (machine_now(), str(error))
            return self._refused(first, "failed", 503, "a file of the utility can't be used; its log says what to do")
        self.counts[first, "done"] += 1
        if isinstance(answer, bytes):
            return Response(raw=answer, content_type="application/octet-stream")
        return Response(body=json.dumps(answer), content_type="application/json")

    def _refused(self, path: str, result: str, status: int, reason: str) -> Response:
        self.counts[path, result] += 1
        return Response(status=status, body=json.dumps({"reason": reason}), content_type="application/json")


def _content(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CareRefusal(f"the body is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise CareRefusal("the body is no JSON object")
    return found
