"""What the core of an adapter commits to its store."""

from dataclasses import dataclass
from typing import TypeAlias

from adapters.energy.channel import Channel
from adapters.handled import Handled
from commonwatt.device import changes as device
from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType

Key: TypeAlias = tuple[MeterId, RecordType]  # a channel: one record type of one meter


@dataclass(frozen=True, slots=True)
class ChannelChange:
    """A channel's new state; the last one of a commit counts."""

    key: Key
    channel: Channel


@dataclass(frozen=True, slots=True)
class HandledChange:
    """The messages that a broker may send again, with all of this commit."""

    source: str  # the name of the source whose broker sent them
    handled: Handled


Change: TypeAlias = device.Change | ChannelChange | HandledChange  # a change that an adapter commits to its store
