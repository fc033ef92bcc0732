"""What the core of a meter needs of its entry in the registry; ``commonwatt.town.town.Meter`` is one."""

from typing import Protocol

from commonwatt.model.records import RecordType
from commonwatt.model.units import MeterId, MilliwattHours


class BatteryDescription(Protocol):
    """A battery behind a meter."""

    @property
    def capacity(self) -> MilliwattHours:
        """What it holds when full."""

    @property
    def minimum_percent(self) -> int:
        """Below this level its owner shares nothing."""


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
        """The account that its records name; 0: none."""

    @property
    def record_types(self) -> tuple[RecordType, ...]:
        """What it records, ascending."""

    @property
    def battery(self) -> BatteryDescription | None:
        """The battery that it tells when to share; ``None``: none."""

    @property
    def push(self) -> bool:
        """Whether it sends by itself; else only when asked (M4)."""
