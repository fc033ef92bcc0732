"""Descriptions of messages, for the story of a failed world."""

import json
from collections.abc import Callable

from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ProtocolError
from commonwatt.protocol.batches import unpack_batch, unpack_batch_ack
from commonwatt.protocol.meter_messages import unpack_level, unpack_put, unpack_put_ack
from commonwatt.protocol.topics import ACKS, BATCHES, COMMANDS, EVENTS, LEVELS, OUTCOMES, RECORDS, STATUS


def wording(message: Publish) -> str:
    """Return a one-line description of a message."""
    *_, leaf = message.topic.split("/")
    to_meter = len(message.topic.split("/")) == 5
    try:
        said = _put_ack(message.payload) if leaf == ACKS and to_meter else _SAYING[leaf](message.payload)
    except (ProtocolError, ValueError, KeyError) as error:
        said = f"unreadable, {error}"
    return f"{message.topic.removeprefix('cw1/')}: {said}"


def _put(payload: bytes) -> str:
    put = unpack_put(payload)
    return f"{len(put.records)} records, ids {put.first_id} to {put.last_id} of generation {put.generation}"


def _put_ack(payload: bytes) -> str:
    ack = unpack_put_ack(payload)
    rejected = f", rejected {[(i, why.name) for i, why in ack.rejected]}" if ack.rejected else ""
    log = ack.log.name.lower()
    return (
        f"{ack.status.name} for {log} ids {ack.first_id} to {ack.last_id} of generation {ack.generation}{rejected},"
        f" at {ack.time} (trust {ack.trust.name})"
    )


def _level(payload: bytes) -> str:
    level = unpack_level(payload)
    return f"level {level.level} at {level.time}"


def _batch(payload: bytes) -> str:
    batch = unpack_batch(payload)
    quarters = sorted({key[2] for key in batch.keys})
    held = f"{len(batch.keys)} blocks, {len(batch.events)} events, {len(batch.dead_letters)} dead letters"
    return f"batch {batch.sequence:x}: {held}, quarters {quarters[:1]} to {quarters[-1:]} {batch.flags!s}"


def _batch_ack(payload: bytes) -> str:
    ack = unpack_batch_ack(payload)
    return f"{ack.status.name} for batch {ack.sequence:x}, by store {ack.utility_store:x}"


def _fields(*names: str) -> Callable[[bytes], str]:
    def said(payload: bytes) -> str:
        content = json.loads(payload)
        return " ".join(f"{name}={content[name]}" for name in names if content.get(name) is not None)

    return said


_COMMAND = ("cmd", "what", "mode", "state", "issuer", "epoch", "seq", "until", "for_s", "at", "id")
_SAYING: dict[str, Callable[[bytes], str]] = {
    RECORDS: _put,
    EVENTS: _put,
    LEVELS: _level,
    BATCHES: _batch,
    ACKS: _batch_ack,
    COMMANDS: _fields(*_COMMAND),
    OUTCOMES: _fields("cmd", "result", "reason", "epoch", "bits", "id"),
    STATUS: _fields("backlog_parts", "backlog_events", "backlog_letters", "aggregation"),
}
