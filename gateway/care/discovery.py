"""What the adapter of foreign meters on this machine hears, for the utility: asked by HTTP, and cut until it fits."""

import json
import time
from http.client import HTTPException
from typing import Any

from commonwatt.doctor.running import ask_service
from commonwatt.protocol.controller_commands import MAX_REPORT_BYTES
from commonwatt.protocol.reports import compressed, report_of

NO_ADAPTER = "this controller has no adapter of foreign meters: its gateway has no setting adapter"

KEPT_S = 600  # real seconds for which a device counts that an adapter, started anew, did not hear again yet
MOST_CARDS = 200  # most cards of an answer


class LatelyHeard:
    """The devices that an adapter heard lately: after each change of its file it starts anew, and has heard nothing."""

    def __init__(self) -> None:
        self._sources: list[object] = []
        self._last: dict[str, tuple[float, dict[str, Any]]] = {}  # when each was heard, and its card; the newest first

    def joined(self, found: dict[str, Any], now_s: float) -> dict[str, Any]:
        """Return an adapter's answer with the devices heard shortly before; without ``cards`` it did not answer."""
        if "cards" in found:
            sources = [one.get("address") for one in found.get("sources", ()) if isinstance(one, dict)]
            before, self._sources = self._last if sources == self._sources else {}, sources
            cards = [card for card in found["cards"][:MOST_CARDS] if isinstance(card, dict)]
            heard = {str(card.get("key")): (now_s, card) for card in cards if isinstance(card.get("age_s"), int | None)}
            # A device whose channel is known now had channel 0 before.
            known = {*heard, *(f"{key.rpartition(' ')[0]} 0" for key in heard)}
            self._last = heard | {key: one for key, one in before.items() if key not in known}
        last = [(key, one) for key, one in self._last.items() if now_s - one[0] <= KEPT_S]
        self._last = dict(last[:MOST_CARDS])
        kept = [
            card | {"age_s": (card.get("age_s") or 0) + round(now_s - at)} if at < now_s else card
            for at, card in self._last.values()
        ]
        if "cards" not in found and kept:
            found = {}
        return {"sources": [], "unknown": [], "left_out": 0} | found | {"cards": kept}


_ASKED: dict[str, LatelyHeard] = {}  # what was heard last, by the adapter's address


def ask_adapter(address: str | None) -> str:
    """Return what was discovered as a report; without an answer, its ``fault``. It may take seconds."""
    if address is None:
        return _packed({"cards": [], "fault": NO_ADAPTER})
    heard, now_s = _ASKED.setdefault(address, LatelyHeard()), time.monotonic()
    try:
        code, body = ask_service(address, None, {}, "GET", "/discovered")
        found = json.loads(body)
        if code != 200 or not isinstance(found, dict) or not isinstance(found.get("cards"), list):
            raise ValueError(f"another program answers there: {code}")
        joined = heard.joined(found, now_s)
    except (OSError, HTTPException, ValueError, TypeError, RecursionError) as error:
        joined = heard.joined({"fault": f"the adapter at {address} does not answer: {error}"[:300]}, now_s)
    return _packed(joined)


def _packed(found: dict[str, Any]) -> str:
    while len(packed := compressed(json.dumps(found))) > MAX_REPORT_BYTES:
        cards, before = found["cards"], found.get("left_out")
        left_out = len(cards) - len(cards) // 2 + (before if isinstance(before, int) else 0)
        found = {
            "cards": cards[: len(cards) // 2],
            "left_out": left_out,
            "fault": found.get("fault", "") if cards else "",
        }
    return report_of(packed)
