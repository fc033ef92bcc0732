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
FULL_S = 120  # real seconds for which a value, or a number, counts that an adapter, started anew, does not know yet
MOST_CARDS, MOST_NUMBERS = 200, 50  # most cards, and numbers without a preset, of an answer
_VALUES = ("power_w", "level_percent", "total_kwh")

_Heard = dict[str, tuple[float, dict[str, Any]]]  # by key when each was heard, and what; the newest first


class LatelyHeard:
    """The devices that an adapter heard lately: after each change of its file it starts anew, and has heard nothing."""

    def __init__(self) -> None:
        self._sources: list[object] = []
        self._begun = 0.0  # when the adapter began to listen: its first answer is empty
        self._last: _Heard = {}  # the cards
        self._numbers: _Heard = {}  # the numbers without a preset

    def joined(self, found: dict[str, Any], now_s: float) -> dict[str, Any]:
        """Return an adapter's answer with the devices heard shortly before; without ``cards`` it did not answer."""
        if not found.get("cards"):
            self._begun = now_s
        if "cards" in found:
            sources = [one.get("address") for one in found.get("sources", ()) if isinstance(one, dict)]
            if sources != self._sources:
                self._last, self._numbers, self._sources = {}, {}, sources
            cards = [card for card in found["cards"][:MOST_CARDS] if isinstance(card, dict)]
            said = {str(card.get("key")): card for card in cards if isinstance(card.get("age_s"), int | None)}
            # Until its channel is known again, a device has channel 0.
            away = {f"{key.rpartition(' ')[0]} 0" for key in self._last.keys() - said.keys()} - self._last.keys()
            heard = {key: self._filled(key, card, now_s) for key, card in said.items() if key not in away}
            # A device whose channel is known now had channel 0 before.
            known = {*heard, *(f"{key.rpartition(' ')[0]} 0" for key in heard)}
            self._last = heard | {key: one for key, one in self._last.items() if key not in known}
            new = {str(one.get("key")): (now_s, one) for one in found.get("unknown", ()) if isinstance(one, dict)}
            earlier = {key: one for key, one in self._numbers.items() if key not in new and one[0] < self._begun}
            self._numbers = new | earlier
        last = [(key, one) for key, one in self._last.items() if now_s - one[0] <= KEPT_S]
        self._last = dict(last[:MOST_CARDS])
        numbers = [(key, one) for key, one in self._numbers.items() if now_s - one[0] <= FULL_S]
        self._numbers = dict(numbers[:MOST_NUMBERS])
        kept = [
            card | {"age_s": (card.get("age_s") or 0) + round(now_s - at)} if at < now_s else card
            for at, card in self._last.values()
        ]
        if "cards" not in found and kept:
            found = {}
        unknown = [one for _, one in self._numbers.values()]
        return {"sources": [], "left_out": 0} | found | {"cards": kept, "unknown": unknown}

    def _filled(self, key: str, card: dict[str, Any], now_s: float) -> tuple[float, dict[str, Any]]:
        """Return when a card was heard, and it; one without a value that was there lately is the earlier one."""
        at, earlier = self._last.get(key, (now_s, card))
        said = {name: card[name] for name in _VALUES if card.get(name) is not None}
        lacks = any(earlier.get(name) is not None and name not in said for name in _VALUES)
        return (at, earlier | said) if lacks and now_s - at <= FULL_S else (now_s, card)


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
