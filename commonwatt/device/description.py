"""The fields of a registry entry that a meter's core needs; ``commonwatt.town.town.Meter`` has them."""

from typing import Protocol

from commonwatt.model.ids import MeterId
from commonwatt.model.records import RecordType
from commonwatt.protocol.commands import Kind
from commonwatt.town.town import Battery


class Description(Protocol):
    """A meter."""

    @property
    def id(self) -> MeterId:
        """Its 64-bit id."""

    @property
    def microgrid(self) -> str:
        """The microgrid it belongs to."""

    @property
    def account(self) -> int:
        """The account in its records; 0: none."""

    @property
    def record_types(self) -> tuple[RecordType, ...]:
        """Its record types, ascending."""

    @property
    def battery(self) -> Battery | None:
        """The battery whose sharing it controls; ``None``: no battery."""

    @property
    def commandable(self) -> frozenset[Kind]:
        """The kinds of states that commands can set."""

    @property
    def push(self) -> bool:
        """Whether it sends without a request (M4); otherwise it sends only on ``get``."""
