"""What the endpoints and pages use of the running service."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self, TypeVar

from fastapi import Depends, Request

from commonwatt.model.calendar import local_day, month_before, month_of, require_near
from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.runtime.clock import Clock, machine_s
from utility.access.decisions import Second
from utility.access.people import Actor
from utility.access.secrets import new_secret
from utility.database.database import Database
from utility.database.health import Health
from utility.database.metrics import Metrics
from utility.database.town_zone import TownZone
from utility.outbox.changes import Refused
from utility.settings import UtilitySettings
from utility.webkit.works import Works

T = TypeVar("T")


@dataclass(frozen=True)
class Api:
    """The data and services that the endpoints use."""

    database: Database  # the database
    clock: Clock  # the service's clock; in a demonstration the town's
    metrics: Metrics  # the service's metrics
    connected: Callable[[], bool]  # returns whether the service is connected to a head-end broker
    complaint: Callable[[], str]  # returns why the last attempt to connect failed; empty while all are connected
    refused: Mapping[str, Refused]  # the last refused batch of each controller
    health: Health  # the service's alarms
    settings: UtilitySettings = field(default_factory=UtilitySettings)  # the service's settings
    # The key of programs that can read the utility's token file; without one nobody has it.
    local_key: str = field(default_factory=new_secret)
    machine_s: Callable[[], EpochSeconds] = machine_s  # returns the machine's epoch seconds, by which sessions end
    works: Works = field(default_factory=Works)  # long work that people have started
    queue_s: Callable[[], float] = lambda: 0.0  # returns the clock seconds since the queue of messages was last empty
    head_ends: Callable[[], Mapping[str, bool]] = dict  # returns whether each head-end is connected, by address
    parts: dict[object, Any] = field(default_factory=dict)  # what rooms above keep here
    zone: TownZone = field(init=False)  # the town's time zone

    def __post_init__(self) -> None:
        """Make the town's zone."""
        object.__setattr__(self, "zone", TownZone(self.database))

    def part(self, make: Callable[[Self], T]) -> T:
        """Return what a room above keeps here: what a function made of this service at its first call."""
        if make not in self.parts:
            self.parts.setdefault(make, make(self))
        made: T = self.parts[make]
        return made

    def last_month(self) -> str:
        """Return the local month before the present one."""
        return month_before(month_of(int(self.clock.now()) // QUARTER_S, self.zone.read()))

    def require_near(self, name: str, time: EpochSeconds, before: int, after: int) -> None:
        """Refuse a time that is more than so many days before or after today, as ``calendar.require_near``."""
        zone = self.zone.read()
        require_near(name, local_day(time, zone), local_day(int(self.clock.now()), zone), before, after)

    def second(self, actor: Actor) -> Second:
        """Return an actor as the second of two people."""
        return Second(actor=actor, now=int(self.clock.now()), wait_days=self.settings.second_person_wait_days)


async def api_of(request: Request) -> Api:
    """Return what a request's service gives its endpoints."""
    api: Api = request.app.state.api
    return api


RequestApi = Annotated[Api, Depends(api_of)]  # what the service that is asked gives a route
