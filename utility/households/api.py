"""The API of a resident's own account: its day, its battery, its sharing weight. Times are ISO 8601, UTC."""

from datetime import date
from typing import Annotated

from fastapi import HTTPException
from pydantic import BaseModel, Field

from commonwatt.model.calendar import local_day, midnight, require_near
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, quarter_of
from utility.access.people import Actor, Right
from utility.access.store.audit_log import By
from utility.control.store import set_weight
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.households.course import LineSum
from utility.households.store import AccountHome, day_around, day_of, home_of, stored_now
from utility.registry.accounts import LEAST, MOST, Account, weight_at
from utility.webkit.actions import Act, Actions
from utility.webkit.columns import Time
from utility.webkit.requests import RequestBody, changing
from utility.webkit.rights import ReadsOwnHome
from utility.webkit.services import RequestApi

_NOT_LINKED = "your name is not linked with an account yet; ask the utility's administrator"


class WeightDated(BaseModel):
    """A sharing weight from a time on."""

    start: Time = Field(description="From when it holds, until the next one.")
    weight: int = Field(description="The weight.")


class WeightsAnswer(BaseModel):
    """The sharing weights of the own account."""

    account: int = Field(description="The account.")
    weight: int = Field(description="The weight in force.")
    dated: list[WeightDated] = Field(description="All that were set, oldest first.")


class WeightAsked(RequestBody):
    """A sharing weight to be set."""

    weight: Annotated[int, Field(ge=LEAST, le=MOST, description="The weight.")]
    start: date = Field(description="The local day from whose begin it holds, tomorrow at the earliest.")


class HomeAnswer(BaseModel):
    """The present local day of the own account; energies are milliwatt-hours of the same quarter-hours.

    ``None``: no reading or no meter.
    """

    account: int = Field(description="The account.")
    until: Time | None = Field(description="The end of the newest quarter-hour with a reading.")
    solar: int | None = Field(description="Generated.")
    used: int | None = Field(description="Used, of quarter-hours with all readings.")
    taken: int | None = Field(description="From the town and the microgrid.")
    given: int | None = Field(description="To the town and the microgrid.")
    level: int | None = Field(description="Level of the own batteries.")
    level_time: Time | None = Field(description="Of when the level is.")
    minimum_percent: list[int | None] = Field(description="The minimum of each own battery, as its meter reports it.")
    weight: int = Field(description="The sharing weight in force.")


def own_account(actor: Actor) -> AccountNumber:
    """Return the number of a resident's own account."""
    if actor.account is None:
        raise HTTPException(404, _NOT_LINKED)
    return actor.account


def own_home(database: Database, actor: Actor) -> AccountHome:
    """Return the home of a resident's own account."""
    home = home_of(database, own_account(actor))
    if home is None:
        raise HTTPException(404, _NOT_LINKED)
    return home


ACTIONS = Actions()
router = ACTIONS.json


@router.get("/home")
def home(api: RequestApi, actor: ReadsOwnHome) -> HomeAnswer:
    """Return the present day of the own account."""
    its, now, zone = own_home(api.database, actor), int(api.clock.now()), api.zone.read()
    stored = stored_now(api.database, its, now, zone, shared=False)
    today = day_of(api.database, its, *day_around(now, zone)) if stored is None else stored.today
    level = None if stored is None else stored.level
    return HomeAnswer(
        account=its.account.number,
        until=today.until,
        solar=_energy(today.sums.solar),
        used=_energy(today.sums.used),
        taken=_energy(today.sums.taken),
        given=_energy(today.sums.given),
        level=None if level is None else level.energy,
        level_time=None if level is None else level.time,
        minimum_percent=[] if stored is None else [one.minimum for one in stored.batteries],
        weight=int(weight_at(its.account, quarter_of(now))),
    )


@router.get("/home/weights")
def weights(api: RequestApi, actor: ReadsOwnHome) -> WeightsAnswer:
    """Return the sharing weights of the own account."""
    return _weights(own_home(api.database, actor).account, int(api.clock.now()))


@ACTIONS.add(
    "/home/weight",
    Right.READ_OWN_HOME,
    back="/console/settings",
    said="Your sharing weight is {asked.weight} from {asked.start} on.",
    refused=422,
)
def weight(act: Act, asked: WeightAsked) -> WeightsAnswer:
    """Set the sharing weight of the own account from a local day on; later ones that were set are dropped."""
    require_near("start", asked.start, local_day(act.now, act.api.zone.read()), -1, 366)
    with changing(act.api, act.request, act.actor) as by:
        after = _change_weight(by, own_home(act.database, act.actor), asked.weight, asked.start)
        return _weights(after, by.now)


def _change_weight(by: By, home: AccountHome, weight: int, start: date) -> Account:
    if all(one.is_shared for one in home.batteries(quarter_of(by.now))):
        raise ConfigError("your account has no battery of its own now, so it has no weight")
    try:
        first = midnight(start, zone_of(by.connection))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{start}: no weight can begin on this day") from error
    before, after = set_weight(by.connection, home.account.number, weight, first, by.actor.name, by.now)
    by.record("weight.set", f"account {after.number}", _stated(before), _stated(after))
    return after


def _weights(account: Account, now: EpochSeconds) -> WeightsAnswer:
    dated = [WeightDated(start=one.start * QUARTER_S, weight=int(one.value)) for one in account.weights]
    return WeightsAnswer(account=account.number, weight=int(weight_at(account, quarter_of(now))), dated=dated)


def _stated(account: Account) -> list[list[object]]:
    return [[dated.start * QUARTER_S, str(dated.value)] for dated in account.weights]


def _energy(figure: LineSum | None) -> int | None:
    return None if figure is None else figure.energy
