"""A meter's answers to commands: outcomes, also for a command that can't be read."""

import json
from typing import TypedDict, get_args

from commonwatt.device.changes import MeterState
from commonwatt.device.commands.desired_states import DONE, Verdict
from commonwatt.device.records.delivery import Delivery
from commonwatt.device.records.log import MeterLog
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.commands import LogIds, Name
from commonwatt.protocol.meter_messages import Level


class Found(TypedDict, total=False):
    """What only some outcomes have."""

    sent: dict[str, int]  # records put for ``get``, by type
    acknowledged: bool | None  # whether the gateway asked about acknowledged; ``None``: not known


def collected(delivery: Delivery) -> tuple[Verdict, dict[str, int]]:
    """Return the verdict on a ``get`` of records, and the records that were put by type."""
    put = delivery.log.batch()
    if put is None:
        return DONE, {}
    verdict = Verdict("partial", "more follows") if put.last_id < delivery.wanted else DONE
    return verdict, {str(int(kind)): count for kind, count in put.counts().items()}


def level(state: MeterState, at: EpochSeconds | None) -> bytes:
    """Return the live level of a meter's battery, measured at ``at``; ``None``: in its last slot."""
    assert state.level is not None
    return Level(state=state.bits, time=at or state.last_slot, level=state.level).pack()


def unread(payload: bytes, why: str) -> tuple[str, str, Verdict] | None:
    """Return id, name and verdict of a command that can't be read; ``None``: no answer is possible."""
    named = _name_of(payload)
    if named is None:
        return None
    is_known = not named[1] or named[1] in get_args(Name)
    return *named, Verdict("refused" if is_known else "unsupported", why[:256])


def _name_of(payload: bytes) -> tuple[str, str] | None:
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    name = content.get("id") if isinstance(content, dict) else None
    # A lone surrogate is valid JSON, but can't be encoded in an answer.
    if not isinstance(name, str) or len(name) > 64 or not name.isascii():
        return None
    cmd = content.get("cmd")
    return name, cmd[:32] if isinstance(cmd, str) and cmd.isascii() else ""


def ids_of(log: MeterLog) -> LogIds:
    """Return the ids that a log has, for an outcome."""
    # 64-bit ids are text in JSON, and so in the model that checks it.
    return LogIds.model_validate({"generation": log.generation, "first": str(log.first_id), "next": str(log.next_id)})
