"""Sparkplug B 3.0: the messages of an edge node and its devices as samples, read by what their births said.

What births say is kept in memory: after a start of the adapter, aliases are unknown until the next birth.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from adapters.energy.counter import EpochMilliseconds
from adapters.mapping.payloads import MAX_BYTES, PayloadSample
from adapters.mapping.values import UnreadableError

NAMESPACE = "spBv1.0"  # the first level of topics
KINDS = frozenset(("NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH"))  # the third level of topics that are read
REBIRTH_MS = 60_000  # least milliseconds between two requests for the births of a node
_SCHEMA = Path(__file__).with_name("sparkplug_b.textproto")
_MOST_METRICS = 5_000
_SEQUENCE = 256
_BOOLEAN = 11
_SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}  # of the data types Int8 to Int64


@cache
def _schema() -> Any:
    """Return the class of a payload, and of the error if bytes are none."""
    # Here, as protobuf is an extra.
    from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format

    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_SCHEMA.read_text(encoding="utf-8"), descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Payload")), message.DecodeError


def check_node(topic: str) -> None:
    """Check a topic of a rule, and that its messages can be read."""
    levels = topic.split("/")
    if not 4 <= len(levels) <= 5 or levels[::2][:2] != [NAMESPACE, "+"] or topic.count("+") > 1 or "#" in topic:
        raise ValueError(f"is not {NAMESPACE}/GROUP/+/NODE or {NAMESPACE}/GROUP/+/NODE/DEVICE")
    try:
        _schema()
    except ImportError:
        raise ValueError("Sparkplug needs protobuf: pip install 'commonwatt[sparkplug]'") from None


class Node:
    """An edge node with its devices; the empty name is the node's own."""

    def __init__(self) -> None:
        self.wanted: set[tuple[str, str]] = set()  # device and name of the metrics that rules read
        self.asks = False  # whether births may be requested
        self._misses = False
        self._asked: EpochMilliseconds = 0
        self._born: set[str] = set()
        self._aliases: dict[int, tuple[str, str]] = {}
        self._types: dict[tuple[str, str], int] = {}
        self._sequence: int | None = None
        self._session: str | None = None

    def take(self, kind: str, device: str, payload: bytes) -> Sequence[PayloadSample] | None:
        """Return the samples of a message, in order of time; ``None``: the device died, or the node and all of them.

        Raises:
            UnreadableError: It is no Sparkplug B, or has aliases that no birth explained.
        """
        message = _parsed(payload)
        session = next((_text(metric, 0) for metric in message.metrics if metric.name == "bdSeq"), None)
        if kind == "NDEATH" and None not in (session, self._session) and session != self._session:
            return ()  # the will of an earlier connection
        due, self._sequence = self._sequence, message.seq % _SEQUENCE
        if kind in ("NBIRTH", "NDEATH"):
            self._born, self._aliases, self._misses, self._session = set(), {}, False, session
            self._sequence = None if kind == "NDEATH" else self._sequence
        elif due is not None and self._sequence not in (due, (due + 1) % _SEQUENCE):
            self._misses = True
            if self.asks:  # Aliases may have changed meanwhile.
                self._born, self._aliases = set(), {}
        if kind in ("DBIRTH", "DDEATH"):
            self._born.discard(device)
            self._aliases = {alias: key for alias, key in self._aliases.items() if key[0] != device}
        if kind.endswith("DEATH"):
            return None
        if kind.endswith("BIRTH"):
            self._born.add(device)
            for metric in message.metrics:
                if (key := (device, metric.name)) in self.wanted:
                    self._types[key] = metric.datatype
                    self._aliases |= {metric.alias: key} if metric.HasField("alias") else {}
        found = self._samples(device, message)
        if device not in self._born and not all(metric.name for metric in message.metrics):
            self._misses = True
            if not found:
                raise UnreadableError("aliases that no birth certificate has explained")
        return found

    def request(self, now: EpochMilliseconds) -> bytes | None:
        """Return the command that requests births, if messages or births are missing; at most once in a minute."""
        if not (self.asks and self._misses) or 0 <= now - self._asked < REBIRTH_MS:
            return None
        self._asked = now
        message = _schema()[0](timestamp=now)
        message.metrics.add(name="Node Control/Rebirth", timestamp=now, datatype=_BOOLEAN, boolean_value=True)
        return bytes(message.SerializeToString())

    def _samples(self, device: str, message: Any) -> Sequence[PayloadSample]:
        # A metric that comes again at the same time begins a further sample.
        found, again = dict[tuple[int, int], PayloadSample](), Counter[tuple[int, str]]()
        for metric in message.metrics:
            key = (device, metric.name) if metric.name else self._aliases.get(metric.alias, ("", ""))
            if key in self.wanted and key[0] == device and not metric.is_null:
                time = metric.timestamp or message.timestamp
                again[time, key[1]] += 1
                sample = found.setdefault((time, again[time, key[1]]), PayloadSample({}))
                sample.is_late = metric.is_historical
                sample.by_path |= {"time": str(time)} if time else {}
                sample.by_path[key[1]] = _text(metric, metric.datatype or self._types.get(key, 0))
        return [found[key] for key in sorted(found)]


def _parsed(payload: bytes) -> Any:
    if len(payload) > MAX_BYTES:
        raise UnreadableError(f"{len(payload)} bytes, more than {MAX_BYTES}")
    payload_class, error = _schema()
    try:
        message = payload_class.FromString(payload)
        texts = [(metric.name, metric.string_value) for metric in message.metrics]
    except (error, UnicodeDecodeError):
        raise UnreadableError("not Sparkplug B: no protobuf of its schema") from None
    if len(texts) > _MOST_METRICS:
        raise UnreadableError(f"{len(texts)} metrics, more than {_MOST_METRICS}")
    return message


def _text(metric: Any, datatype: int) -> str:
    """Return the value of a metric as text; empty: it has none that is a number."""
    field = metric.WhichOneof("value")
    value = "" if field is None else getattr(metric, field)
    if type(value) is int and (bits := _SIGNED_BITS.get(datatype)):
        value &= (1 << bits) - 1
        value -= value >> bits - 1 << bits
    # Nine digits tell each 4-byte float from its neighbours.
    return f"{value:.9g}" if field == "float_value" else str(value)
