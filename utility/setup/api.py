"""The setup's actions by the API, from forms and by ``commonwatt do``: they write the site file of the street."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from fastapi import HTTPException
from pydantic import BeforeValidator, Field

from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import is_loopback
from commonwatt.protocol.topics import MICROGRID_PATTERN
from commonwatt.site.devices_broker import adapter_login, own_broker
from commonwatt.street.backup import KEY_FILE, NOW_FILE, set_passphrase
from utility.access.people import Right
from utility.access.store.audit_log import record
from utility.discovery import decisions as discovery
from utility.setup.cards import name_of
from utility.setup.decisions import STREET, card_of, changing_site, ignore
from utility.webkit.actions import Act, Actions
from utility.webkit.requests import RequestBody
from utility.webkit.services import Api

ACTIONS = Actions()
router = ACTIONS.json
_PAGE = "/console/setup"
_OF = "microgrid={asked.microgrid}"
_RIGHT = Right.SET_UP_STREET


_Kwh = Annotated[Decimal, BeforeValidator(lambda given: str(given).strip().replace(",", "."))]
_Currency = Annotated[str, BeforeValidator(lambda given: str(given).upper())]


class Described(RequestBody):
    """What the street is called, and how its residents read."""

    name: str = Field(max_length=60, description="The street's name.")
    timezone: str = Field(max_length=64, description="Its time zone, such as `Europe/Berlin`.")
    currency: _Currency = Field("EUR", pattern="^[A-Z]{3}$", description="The currency of its residents, ISO 4217.")
    language: Literal["en", "de", "es"] = Field("en", description="The language of its residents.")


class OfMicrogrid(RequestBody):
    """What concerns one microgrid."""

    microgrid: str = Field(STREET, pattern=f"^{MICROGRID_PATTERN}$", description="It, whose controller has an adapter.")


class BrokerChosen(OfMicrogrid):
    """The broker to which devices publish."""

    address: str = Field(max_length=260, description="Its host and port.")
    user: str = Field("", max_length=200, description="The name at its login; empty: there is no login.")
    password: str = Field("", max_length=200, description="The password.")


class Ignoring(OfMicrogrid):
    """A number without a preset that is not shown any more."""

    card: str = Field(max_length=600, description="The key of its card, of the newest discovery.")


class Placing(Ignoring):
    """A discovered device with what a person says of it."""

    home: str = Field("", max_length=40, description="The home's name.")
    role: Literal["", "grid", "sun", "battery", "load"] = Field("", description="What it measures.")
    capacity_kwh: _Kwh | None = Field(None, ge=0.1, le=100_000, description="A battery's capacity.")
    minimum_percent: int = Field(50, ge=0, le=100, description="What a battery keeps at least.")
    share: bool = Field(False, description="Whether its battery may be told to give to neighbours.")
    reduce: bool = Field(False, description="Whether it may be told to use less.")
    unit: Literal["", "wh", "kwh", "pulses"] = Field("", description="What a number without a preset counts.")


class Removing(OfMicrogrid):
    """A placed device that is removed."""

    device: str = Field(max_length=600, description="The key of the placed device.")


class Exchanging(Removing, Ignoring):
    """A placed device and the one that takes its place."""


class Renaming(OfMicrogrid):
    """A home and its new name."""

    home: str = Field(max_length=40, description="The home's name.")
    name: str = Field(min_length=1, max_length=40, description="The new name.")


class Sharing(OfMicrogrid):
    """Whether the street's batteries share."""

    on: bool = Field(description="Whether they do.")


class Looking(OfMicrogrid):
    """The page that shows what is found."""

    step: Literal["broker", "devices", "sharing"] = Field("devices", description="The page that follows.")


class Passphrase(RequestBody):
    """The passphrase of backups, typed twice."""

    passphrase: str = Field(max_length=200, description="It encrypts backups from now on.")
    again: str = Field(max_length=200, description="The same again.")


def site_of(api: Api) -> Path:
    """Return the office's folder of the street.

    Raises:
        HTTPException: This utility is of a town that the office sets up.
    """
    folder = api.settings.site
    if folder is None:
        raise HTTPException(404, "this town is set up by its office, not by pages")
    return folder


def _change(act: Act, action: str, subject: str, after: object = None) -> Any:
    return changing_site(act.database, site_of(act.api), act.actor, act.now, action, subject, after)


@ACTIONS.add("/setup/you", _RIGHT, back=f"{_PAGE}/broker", refused=422)
def describe(act: Act, asked: Described) -> str:
    """Name the street, and say its time zone, currency and language."""
    if asked.timezone not in available_timezones():
        raise ConfigError("timezone: choose one of the list, such as Europe/Berlin")
    with _change(act, "setup.describe", asked.name, asked.model_dump()) as draft:
        draft.describe(**asked.model_dump())
    return f"{asked.name} is saved."


@ACTIONS.add("/setup/broker", _RIGHT, back=f"{_PAGE}/broker?{_OF}", refused=422)
def use_broker(act: Act, asked: BrokerChosen) -> str:
    """Use a broker that is there."""
    with _change(act, "setup.broker", asked.address, {"microgrid": asked.microgrid, "user": asked.user}) as draft:
        draft.use_broker(**asked.model_dump())
    return "The broker is saved. Whether it answers stands below within half a minute."


@ACTIONS.add("/setup/broker/own", _RIGHT, back=f"{_PAGE}/broker", refused=422)
def use_own_broker(act: Act) -> str:
    """Use a broker of our own, on this machine; its page then shows what to type into devices."""
    folder = site_of(act.api)
    _, port, _, _ = own_broker(folder, lan=not is_loopback(act.api.settings.http))
    user, password = adapter_login(folder)
    with _change(act, "setup.broker", "our own") as draft:
        draft.use_broker(STREET, address=f"127.0.0.1:{port}", user=user, password=password)
    return "Our own broker is used. Its address and login stand under Or ours."


@ACTIONS.add("/setup/look", _RIGHT, back=f"{_PAGE}/{{asked.step}}?{_OF}", refused=422)
def look(act: Act, asked: Looking) -> str:
    """Ask what is discovered; the answer is on the page within some seconds."""
    site_of(act.api)
    discovery.ask(act.database, asked.microgrid, act.now)
    return "Asked. What is found stands here within some seconds: look again."


@ACTIONS.add("/setup/devices/place", _RIGHT, back=f"{_PAGE}/devices?{_OF}", refused=422)
def place(act: Act, asked: Placing) -> str:
    """Place a discovered device in a home; a battery that is there is changed."""
    site_of(act.api)
    card = card_of(act.database, asked.microgrid, asked.card, asked.unit)
    is_battery = asked.role == "battery"
    battery = {"capacity_wh": int(1000 * (asked.capacity_kwh or 0)), "minimum_percent": asked.minimum_percent}
    may = {"share": is_battery and asked.share, "reduce": asked.role == "load" and asked.reduce}
    told = tuple(kind for kind in may if may[kind] and card[kind])
    how = {"home": asked.home, "role": asked.role, **(battery if is_battery else {})}
    after = {"microgrid": asked.microgrid, **how, "told": [card[kind]["topic"] for kind in told]}
    with _change(act, "setup.place", asked.card, after) as draft:
        draft.place(asked.microgrid, card, told=told, **how)
    return f"{name_of(card)} is placed in {asked.home}."


@ACTIONS.add("/setup/devices/ignore", _RIGHT, back=f"{_PAGE}/devices?{_OF}", refused=422)
def ignore_number(act: Act, asked: Ignoring) -> str:
    """Show a number without a preset no more."""
    site_of(act.api)
    ignore(act.database, act.actor, asked.card, act.now)
    return "It is not shown any more."


@ACTIONS.add("/setup/devices/exchange", _RIGHT, back=f"{_PAGE}/devices?{_OF}&shown=placed", refused=422)
def exchange(act: Act, asked: Exchanging) -> str:
    """Put another device in the place of one that was exchanged; the place keeps its past."""
    card = card_of(act.database, asked.microgrid, asked.card)
    after: dict[str, object] = {"microgrid": asked.microgrid, "card": asked.card}
    with _change(act, "setup.exchange", asked.device, after) as draft:
        before = draft.exchange(asked.microgrid, asked.device, card, act.now)
        after["told"] = [card[kind]["topic"] for kind in before.told]
    return f"{name_of(card)} took the place of {before.title} in {before.home}."


@ACTIONS.add("/setup/devices/remove", _RIGHT, back=f"{_PAGE}/devices?{_OF}&shown=placed", refused=422)
def remove(act: Act, asked: Removing) -> str:
    """Remove a placed device; what it measured stays."""
    after = {"microgrid": asked.microgrid}
    with _change(act, "setup.remove", asked.device, after) as draft:
        before = draft.remove(asked.microgrid, asked.device)
        after["home"] = before.home
    return f"{before.title} is removed from {before.home}."


@ACTIONS.add("/setup/homes/rename", _RIGHT, back=f"{_PAGE}/devices?{_OF}", refused=422)
def rename(act: Act, asked: Renaming) -> str:
    """Give a home another name."""
    with _change(act, "setup.rename", asked.home, {"microgrid": asked.microgrid, "name": asked.name}) as draft:
        draft.rename(asked.microgrid, asked.home, asked.name)
    return f"{asked.home} is {asked.name} now."


@ACTIONS.add("/setup/sharing", _RIGHT, back=f"{_PAGE}/sharing?{_OF}", refused=422)
def share(act: Act, asked: Sharing) -> str:
    """Start or stop the sharing of the street's batteries."""
    with _change(act, "setup.share", asked.microgrid, {"on": asked.on}) as draft:
        draft.share(asked.microgrid, on=asked.on)
    return "The street shares now." if asked.on else "The street shares no more."


@ACTIONS.add("/setup/backup/passphrase", _RIGHT, back=f"{_PAGE}/backup", refused=422)
def protect(act: Act, asked: Passphrase) -> str:
    """Set the passphrase of backups, which are then made each night."""
    folder = site_of(act.api)
    if asked.passphrase != asked.again:
        raise ConfigError("again: is another passphrase than the first one")
    with act.database.writes.begin() as connection:
        record(connection, act.actor, act.now, "setup.passphrase", "street")
        set_passphrase(folder, asked.passphrase)
    return "The passphrase is set: keep it where this computer is not. Backups are made from now on."


@ACTIONS.add("/setup/backup", _RIGHT, back=f"{_PAGE}/backup", refused=422)
def back_up(act: Act) -> str:
    """Have a backup made at once."""
    folder = site_of(act.api)
    if not (folder / KEY_FILE).exists():
        raise ConfigError("set a passphrase first")
    with act.database.writes.begin() as connection:
        record(connection, act.actor, act.now, "setup.backup", "street")
        (folder / NOW_FILE).touch()
    return "A backup is being made. It is in the list within a minute."
