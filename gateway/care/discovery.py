"""What the adapter of foreign meters on this machine hears, for the utility: asked by HTTP, and cut until it fits."""

import json
from http.client import HTTPException
from typing import Any

from commonwatt.doctor.running import ask_service
from commonwatt.protocol.controller_commands import MAX_REPORT_BYTES
from commonwatt.protocol.reports import compressed, report_of

NO_ADAPTER = "this controller has no adapter of foreign meters: its gateway has no setting adapter"


def ask_adapter(address: str | None) -> str:
    """Return what was discovered as a report; without an answer, its ``fault``. It may take seconds."""
    if address is None:
        return _packed({"cards": [], "fault": NO_ADAPTER})
    try:
        code, body = ask_service(address, None, {}, "GET", "/discovered")
        found = json.loads(body)
        if code != 200 or not isinstance(found, dict) or not isinstance(found.get("cards"), list):
            raise ValueError(f"another program answers there: {code}")
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        return _packed({"cards": [], "fault": f"the adapter at {address} does not answer: {error}"[:300]})
    return _packed(found)


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
