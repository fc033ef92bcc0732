"""An edge node of Sparkplug B whose payloads another library encodes, from a schema of its own (betterproto2)."""

from dataclasses import dataclass
from typing import Any

import betterproto2 as proto

INT16, INT64, FLOAT, DOUBLE = 2, 4, 9, 10  # data types of the specification


def _optional(number: int, kind: str, group: str | None = None) -> Any:
    return proto.field(number, kind, optional=True, group=group)


@dataclass(eq=False, repr=False)
class Metric(proto.Message):
    name: str | None = _optional(1, proto.TYPE_STRING)
    alias: int | None = _optional(2, proto.TYPE_UINT64)
    timestamp: int | None = _optional(3, proto.TYPE_UINT64)
    datatype: int | None = _optional(4, proto.TYPE_UINT32)
    is_historical: bool | None = _optional(5, proto.TYPE_BOOL)
    is_transient: bool | None = _optional(6, proto.TYPE_BOOL)
    is_null: bool | None = _optional(7, proto.TYPE_BOOL)
    int_value: int | None = _optional(10, proto.TYPE_UINT32, "value")
    long_value: int | None = _optional(11, proto.TYPE_UINT64, "value")
    float_value: float | None = _optional(12, proto.TYPE_FLOAT, "value")
    double_value: float | None = _optional(13, proto.TYPE_DOUBLE, "value")
    boolean_value: bool | None = _optional(14, proto.TYPE_BOOL, "value")
    string_value: str | None = _optional(15, proto.TYPE_STRING, "value")
    bytes_value: bytes | None = _optional(16, proto.TYPE_BYTES, "value")


_METRICS: Any = proto.field(2, proto.TYPE_MESSAGE, repeated=True)


@dataclass(eq=False, repr=False)
class Payload(proto.Message):
    timestamp: int | None = _optional(1, proto.TYPE_UINT64)
    metrics: list[Metric] = _METRICS
    seq: int | None = _optional(3, proto.TYPE_UINT64)
    uuid: str | None = _optional(4, proto.TYPE_STRING)
    body: bytes | None = _optional(5, proto.TYPE_BYTES)


@dataclass
class Edge:
    """An edge node that numbers its messages; each method returns topic and payload."""

    group: str = "town"
    name: str = "edge1"
    session: int = 0
    seq: int = 255

    def message(self, kind: str, device: str, at_ms: int, *metrics: Metric) -> tuple[str, bytes]:
        """Return a message; births begin the sequence again, deaths of the node have none."""
        self.seq = 0 if kind == "NBIRTH" else (self.seq + 1) % 256
        topic = f"spBv1.0/{self.group}/{kind}/{self.name}" + (f"/{device}" if device else "")
        return topic, bytes(Payload(timestamp=at_ms, metrics=list(metrics), seq=self.seq, uuid="e1"))

    def born(self, at_ms: int, *metrics: Metric) -> tuple[str, bytes]:
        """Return the birth of the node."""
        self.session += 1
        return self.message(
            "NBIRTH", "", at_ms, Metric(name="bdSeq", datatype=INT64, long_value=self.session), *metrics
        )

    def died(self, session: int | None = None) -> tuple[str, bytes]:
        """Return the will of a session, the present one or an earlier one."""
        number = self.session if session is None else session
        will = Payload(metrics=[Metric(name="bdSeq", datatype=INT64, long_value=number)])
        return f"spBv1.0/{self.group}/NDEATH/{self.name}", bytes(will)
