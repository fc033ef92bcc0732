"""The commands that a microgrid's next manager has to be sent: what the last ones set and still holds (R12; pure)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.controller_commands import Action
from utility.outbox.settings import settings_of, without

WANTED_S = 86_400  # most seconds for which such a command is sent
# What a successor is never commanded (it has no switch), and what concerns the controller that is named alone.
_NEVER = {Action.ISOLATE, Action.RATES}


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An earlier command to a microgrid."""

    message: Mapping[str, Any]  # its message
    created: EpochSeconds  # when it was given
    is_done: bool  # whether it was carried out; otherwise it is still sent by itself


def to_repeat(newest_first: Iterable[Earlier], now: EpochSeconds) -> Iterator[dict[str, Any]]:
    """Yield the messages of what is in force, the newest first; each setting comes once.

    Durations are those that are left. An end that passed, and what is still being sent, is left out.
    """
    seen: frozenset[str] = frozenset()
    for each in newest_first:
        message = without(each.message, seen)
        if message is None or message["cmd"] in _NEVER:
            continue
        if (message.get("from_time") or 0) <= now:
            seen |= settings_of(message)
        left_s = WANTED_S if message.get("for_s") is None else each.created + message["for_s"] - now
        until = message["until"] if message["cmd"] == Action.HOLD else now + min(left_s, WANTED_S)
        if not each.is_done or left_s <= 0 or until <= now:
            continue
        yield message | {"until": until} | ({} if message.get("for_s") is None else {"for_s": left_s})
