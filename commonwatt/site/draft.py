"""The site file as the setup pages change it: the street, its broker, its homes and the devices in them.

A home has one meter of ours for each direction of its grid meter. Its sun and its battery belong to the outgoing one,
as a house's do in a town; what finds that taken, and a load, has a meter of its own.
"""

import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

from commonwatt.config.adapter import AdapterDevice
from commonwatt.config.files import check_model, parse_toml, read_text, toml_text
from commonwatt.identity.devices import load_tokens
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.network.addresses import host_fault, is_loopback
from commonwatt.runtime.files import replace_file, write_private
from commonwatt.runtime.service import only_one
from commonwatt.site.places import FILE, SiteFile, load_site, part_files

HEAD = f"# {FILE}: the office's site file. The setup pages write it anew: remarks of yours would be lost.\n\n"
ROLES: Final = ("grid", "sun", "battery", "load")
PORT = 1883  # of a broker whose address has none
PASSWORD = "source.password"  # noqa: S105 - the file with the password at the devices' broker
LONGEST = 64  # most characters of a name
_FIRST_METER = 1_000_001
_FIRST_ACCOUNT = 50_001  # those of houses that are counted, not listed, begin at 1
_COUNTS = {"sun": "generation", "battery": "level", "load": "register"}
_TYPES = {"grid": {"through", "register"}, "sun": {"generation"}, "battery": {"stored"}, "load": {"register"}}
_BATTERY = ("battery_capacity_mwh", "shares", "capacity_wh", "minimum_percent")  # keys of a meter with a battery
_OWN = frozenset(AdapterDevice.model_fields)


@dataclass(frozen=True, kw_only=True)
class PlacedDevice:
    """A foreign device in a home."""

    key: str  # preset, source and channel of its table
    title: str  # its name for people
    home: str  # the home's name
    role: str  # one of ``ROLES``
    meters: tuple[int, ...]  # our meters that have its values
    account: int  # of its home; 0: none
    capacity_wh: int | None = None  # of a battery
    minimum_percent: int | None = None  # of a battery: below it, it gives nothing
    told: tuple[str, ...] = ()  # what it may be told: ``share``, ``reduce``


@dataclass(eq=False)
class _HomeMeter:
    """A meter of ours with its two tables, while it is changed."""

    town: dict[str, Any]  # its [[meter]] table
    adapter: dict[str, Any]  # its [[microgrid.adapter.meter]] table, without the keys of devices
    devices: list[dict[str, Any]] = field(default_factory=list)  # its devices' keys; the grid meter is the first

    def has(self, role: str) -> bool:
        """Return whether one of its devices has this role."""
        return any(_role_of(device) == role for device in self.devices)

    def tables(self) -> dict[str, Any]:
        """Return its [[microgrid.adapter.meter]] table."""
        first, *also = sorted(self.devices, key=lambda device: ROLES.index(_role_of(device)))
        return self.adapter | first | ({"also": also} if also else {})


class SiteDraft:
    """A site file that is changed: each change is refused with words for a person, ``save`` writes all."""

    def __init__(self, folder: Path) -> None:
        """Read the site file of the office's folder.

        Raises:
            ConfigError: It is missing or no site file, such as one that a person writes just now.
        """
        self._path = folder / FILE
        self._read = read_text(self._path)
        self._site = parse_toml(str(self._path), self._read)
        check_model(self._path, SiteFile, self._site)
        self.gone: list[int] = []  # our meters without a device, since some were removed
        self._passwords: dict[Path, str] = {}
        self._open: dict[str, list[_HomeMeter]] = {}  # the homes' meters by microgrid, which ``save`` writes back
        self._others: dict[str, list[dict[str, Any]]] = {}  # the adapters' tables of other meters

    @property
    def town(self) -> Mapping[str, Any]:
        """The keys of [town]: ``name``, ``timezone``, and once they are chosen ``language`` and ``currency``."""
        found: Mapping[str, Any] = self._site.get("town", {})
        return found

    @property
    def microgrids(self) -> list[str]:
        """The microgrids whose controller has an adapter."""
        return [table["id"] for table in self._site["microgrid"] if "adapter" in table]

    def source(self, microgrid: str) -> Mapping[str, Any] | None:
        """Return the broker of a microgrid's devices: ``address``, ``user``; ``None``: none is chosen yet."""
        found = self._adapter(microgrid).get("source") or []
        return found if isinstance(found, dict) else next(iter(found), None)

    def devices(self, microgrid: str) -> list[PlacedDevice]:
        """Return the devices of a microgrid that are placed, in their order."""
        found: dict[tuple[str, str], PlacedDevice] = {}
        for meter in self._meters(microgrid):
            for device in meter.devices:
                role, key = _role_of(device), _key_of(device)
                before = found.get((role, key))
                battery = meter.adapter if role == "battery" else {}
                found[role, key] = PlacedDevice(
                    key=key,
                    title=device.get("name") or device.get("source") or device["preset"],
                    home=meter.town["location"],
                    role=role,
                    meters=(*(before.meters if before else ()), meter.town["id"]),
                    account=meter.town["account"],
                    capacity_wh=battery.get("capacity_wh"),
                    minimum_percent=battery.get("minimum_percent"),
                    told=tuple(device.get("obeys", ())),
                )
        return list(found.values())

    def device(self, microgrid: str, key: str) -> PlacedDevice:
        """Return a placed device.

        Raises:
            ConfigError: There is none.
        """
        if (found := next((one for one in self.devices(microgrid) if one.key == key), None)) is None:
            raise ConfigError("device: it is not placed any more; look again")
        return found

    def homes(self, microgrid: str) -> dict[str, list[PlacedDevice]]:
        """Return the homes by name with their devices, in order, and the next one, which is empty."""
        found: dict[str, list[PlacedDevice]] = {meter.town["location"]: [] for meter in self._meters(microgrid)}
        for device in self.devices(microgrid):
            found[device.home].append(device)
        return found | {next(name for n in count(len(found) + 1) if (name := f"Home {n}") not in found): []}

    def is_sharing(self, microgrid: str) -> bool:
        """Return whether the batteries share."""
        return any(meter.town.get("shares", True) for meter in self._sharers(microgrid))

    def describe(self, *, name: str, timezone: str, currency: str | None = None, language: str | None = None) -> None:
        """Set what the street is called, where it is, and how its residents read and count."""
        if fault := _fault(name):
            raise ConfigError(f"The name {fault}")
        chosen = {key: value for key, value in (("currency", currency), ("language", language)) if value}
        self._site.setdefault("town", {}).update(name=name.strip(), timezone=timezone, **chosen)

    def use_broker(self, microgrid: str, *, address: str, user: str = "", password: str = "") -> None:
        """Set the broker on which the devices publish; an empty password keeps the one that is there."""
        address = address.strip().removeprefix("mqtt://").rstrip("/")
        host, colon, port = address.rpartition(":")
        if not (colon and port.isdecimal()) or (":" in host and not host.startswith("[")):
            host, port = address, str(PORT)
        host = host.strip("[]")
        if not 0 < int(port) < 65536:
            raise ConfigError("The broker's port is a number up to 65535; mostly 1883")
        if fault := host_fault(host):
            raise ConfigError(f"The broker's address {fault}; such as 192.168.1.20")
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        plain = {} if is_loopback(address) else {"plain_text": True}
        before = self.source(microgrid) or {}
        # Two streets on one broker would end each other's connections.
        name = before.get("client_id") or f"commonwatt-{secrets.token_hex(4)}"
        source: dict[str, Any] = {"address": address, "client_id": name} | plain
        if user.strip():
            kept = before.get("password") if before.get("user") == user.strip() else None
            if not password and kept is None:
                raise ConfigError("A user name needs its password")
            source |= {"user": user.strip(), "password": PASSWORD}
        if password:
            if not user.strip():
                raise ConfigError("A password needs its user name")
            self._passwords[self._path.parent / microgrid / PASSWORD] = password
        self._adapter(microgrid)["source"] = [source]

    def place(
        self,
        microgrid: str,
        card: Mapping[str, Any],
        *,
        home: str,
        role: str,
        capacity_wh: int | None = None,
        minimum_percent: int = 50,
        told: tuple[str, ...] = (),
    ) -> None:
        """Place a discovered device (docs/protocol.md) in a home; a battery that is there is changed.

        Raises:
            ConfigError: It is placed already, does not measure what the role needs, or may not be told that.
        """
        if fault := _fault(home):
            raise ConfigError(f"home: choose the home of the device; its name {fault}")
        home, key = home.strip(), _key_of(card["meter"])
        same = [one for one in self.devices(microgrid) if one.key == key]
        is_there = role == "battery" and any((one.role, one.home) == (role, home) for one in same)
        if there := next((one for one in same if (one.role == role and not is_there) or one.home != home), None):
            raise ConfigError(f"“{there.title}” is in {there.home} already; remove it there first")
        _check(card, role, capacity_wh, told)
        device = dict(card["meter"]) | {"name": str(card["name"])[:LONGEST]}
        device |= {"counts": _COUNTS[role]} if role in _COUNTS else {}
        device |= {"obeys": list(told)} if told else {}
        own = [meter for meter in self._meters(microgrid) if meter.town["location"] == home]
        if role == "grid":
            if any(meter.has("grid") for meter in own):
                raise ConfigError(f"{home} has a grid meter already; remove that one first, or exchange it")
            if card["incoming"]:
                self._add(microgrid, home, "incoming", device, card["incoming"])
            if card["outgoing"]:
                self._join(microgrid, home, dict(device), card["outgoing"])
        elif role == "load":
            self._add(microgrid, home, "incoming", device, ["register"])
        else:
            # Its total counts up, whichever way our meter measures.
            device |= {"reads": "incoming" if card["incoming"] else "outgoing"} if role == "sun" else {}
            device |= {"watts": watts_of(capacity_wh)} if capacity_wh is not None and told else {}
            shares = bool(told) and self.is_sharing(microgrid)
            if is_there:
                meter, before = next(one for one in self._of(microgrid, key) if _role_of(one[1]) == role)
                for name in {"obeys", "watts"} & before.keys():
                    del before[name]
                before |= device
            else:
                meter = self._join(microgrid, home, device, sorted(_TYPES[role]))
            if role == "battery" and capacity_wh is not None:
                meter.adapter |= {"capacity_wh": capacity_wh, "minimum_percent": minimum_percent}
                meter.town |= {"battery_capacity_mwh": capacity_wh * 1000, "shares": shares}
        self._add_rules(microgrid, card)

    def exchange(self, microgrid: str, key: str, card: Mapping[str, Any], now: EpochSeconds) -> PlacedDevice:
        """Put a new device in the place of one, and return that: registers begin anew from now, home and role stay."""
        before, new = self.device(microgrid, key), _key_of(card["meter"])
        if new != key and any(one.key == new for one in self.devices(microgrid)):
            raise ConfigError("The new device is placed already; remove it there first")
        for meter, device in self._of(microgrid, key):
            role = _role_of(device)
            _check(card, role, meter.adapter.get("capacity_wh"), tuple(device.get("obeys", ())))
            if role == "grid" and not card[meter.town["direction"]]:
                raise ConfigError("The new device does not measure both directions, as the old one does")
            exchanged = datetime.fromtimestamp(now, UTC)
            device |= dict(card["meter"]) | {"name": str(card["name"])[:LONGEST], "exchanged": exchanged}
        self._add_rules(microgrid, card)
        return before

    def remove(self, microgrid: str, key: str) -> PlacedDevice:
        """Take a device out of its home, and return it. Readings of our meters that are ``gone`` with it stay."""
        before = self.device(microgrid, key)
        for meter, device in self._of(microgrid, key):
            meter.devices.remove(device)
            role = _role_of(device)
            meter.town["record_types"] = sorted(set(meter.town["record_types"]) - _TYPES[role])
            for name in _BATTERY if role == "battery" else ():
                meter.town.pop(name, None)
                meter.adapter.pop(name, None)
            if not meter.devices:
                self.gone.append(meter.town["id"])
                self._site["meter"].remove(meter.town)
                self._meters(microgrid).remove(meter)
        return before

    def rename(self, microgrid: str, home: str, name: str) -> None:
        """Give a home another name."""
        if fault := _fault(name):
            raise ConfigError(f"The name {fault}")
        every = self._meters(microgrid)
        names = {meter.town["location"] for meter in every}
        if home not in names:
            raise ConfigError("There is no such home any more; look again")
        if name.strip() in names - {home}:
            raise ConfigError(f"Another home is called {name.strip()} already")
        for meter in every:
            if meter.town["location"] == home:
                meter.town["location"] = name.strip()

    def share(self, microgrid: str, *, on: bool) -> None:
        """Let the batteries that may be told to share do so, or none."""
        sharers = self._sharers(microgrid)
        if on and not sharers:
            raise ConfigError("No battery may be told to share yet: place one under Devices, and tick what it may do")
        for meter in sharers:
            meter.town["shares"] = on

    def save(self) -> None:
        """Check the whole file as `site init` does, and write it in one step.

        Raises:
            ConfigError: It would be wrong, or another person changed it meanwhile.
        """
        for microgrid, meters in self._open.items():
            self._adapter(microgrid)["meter"] = [*self._others[microgrid], *(meter.tables() for meter in meters)]
        text = HEAD + toml_text(self._site)
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / FILE
            path.write_text(text, encoding="utf-8")
            try:
                site, town = load_site(path)
                for part in part_files(site, town):
                    part.check(path)
            except ConfigError as error:
                # A fault of the mapping names its meter behind the place in the file.
                raise ConfigError(str(error).rpartition("[[meter]] ")[2].replace(f"{path}: ", "")) from error
        with only_one(self._path, "another page"):
            if read_text(self._path) != self._read:
                raise ConfigError("Another person changed it meanwhile; look again")
            for file, password in self._passwords.items():
                file.parent.mkdir(mode=0o700, exist_ok=True)
                write_private(file, password + "\n")
            replace_file(self._path, text.encode())
        self._read = text

    def _adapter(self, microgrid: str) -> dict[str, Any]:
        table = next((one for one in self._site["microgrid"] if one["id"] == microgrid and "adapter" in one), None)
        if table is None:
            raise ConfigError(f"{microgrid} is no microgrid with an adapter")
        found: dict[str, Any] = table["adapter"]
        return found

    def _meters(self, microgrid: str) -> list[_HomeMeter]:
        """Return the homes' meters behind the adapter, which are changed in place; others are left as they are."""
        if microgrid not in self._open:
            tables = {table["id"]: table for table in self._adapter(microgrid).get("meter", ())}
            self._open[microgrid] = [
                _HomeMeter(
                    town=town,
                    adapter={key: one for key, one in table.items() if key not in {*_OWN, "also"}},
                    devices=[{key: one for key, one in table.items() if key in _OWN}, *table.get("also", ())],
                )
                for town in self._site.get("meter", ())
                if town["microgrid"] == microgrid
                and {"location", "direction", "account", "record_types"} <= town.keys()
                and (table := tables.pop(town["id"], None))
            ]
            self._others[microgrid] = list(tables.values())
        return self._open[microgrid]

    def _of(self, microgrid: str, key: str) -> list[tuple[_HomeMeter, dict[str, Any]]]:
        """Return a device in each of its meters."""
        return [(m, device) for m in self._meters(microgrid) for device in m.devices if _key_of(device) == key]

    def _sharers(self, microgrid: str) -> list[_HomeMeter]:
        return [m for m in self._meters(microgrid) if any("share" in device.get("obeys", ()) for device in m.devices)]

    def _join(self, microgrid: str, home: str, device: dict[str, Any], types: Iterable[str]) -> _HomeMeter:
        """Give a device to its home's outgoing meter, or to a new one if that has one of this role."""
        role = _role_of(device)
        for meter in self._meters(microgrid):
            is_out = meter.town["direction"] == "outgoing"
            if meter.town["location"] == home and is_out and not meter.has(role):
                meter.devices.append(device)
                meter.town["record_types"] = sorted({*meter.town["record_types"], *types})
                return meter
        return self._add(microgrid, home, "outgoing", device, types)

    def _add(
        self, microgrid: str, home: str, direction: str, device: dict[str, Any], types: Iterable[str]
    ) -> _HomeMeter:
        """Add a meter of a home; its account is the home's."""
        meters = self._site.setdefault("meter", [])
        accounts = {(t["microgrid"], t.get("location")): t["account"] for t in meters if t.get("account")}
        town = {
            "microgrid": microgrid,
            "id": 1 + max([_FIRST_METER - 1, *self._ids(microgrid)]),
            "direction": direction,
            "location": home,
            "account": accounts.get((microgrid, home), 1 + max([_FIRST_ACCOUNT - 1, *accounts.values()])),
            "record_types": sorted(types),
            "adapter": True,
        }
        meters.append(town)
        made = _HomeMeter(town=town, adapter={"id": town["id"]}, devices=[device])
        self._meters(microgrid).append(made)
        return made

    def _ids(self, microgrid: str) -> Iterator[int]:
        """Yield all ids that meters have or had: readings stay under the id of a meter that is gone."""
        yield from (table["id"] for table in self._site.get("meter", ()))
        tokens = self._path.parent / microgrid / "meter-tokens.json"
        yield from map(int, load_tokens(tokens) if tokens.exists() else ())

    def _add_rules(self, microgrid: str, card: Mapping[str, Any]) -> None:
        """Set the rules and commands of a device without a preset of ours, in place of what it announced before."""
        for name, tables in (("rule", card["rules"]), ("command", card.get("commands", ()))):
            if tables:
                presets = {table["preset"] for table in tables}
                others = [each for each in self._adapter(microgrid).get(name, []) if each["preset"] not in presets]
                self._adapter(microgrid)[name] = [*others, *map(dict, tables)]


def watts_of(capacity_wh: int) -> int:
    """Return the power that a battery is told to give: a fifth of its capacity in an hour, 200 to 3,000 W."""
    return max(200, min(3000, capacity_wh // 500 * 100))


def _key_of(device: Mapping[str, Any]) -> str:
    """Return what tells a device from others: preset, source and channel."""
    return f"{device['preset']} {device.get('source', '')} {device.get('channel', '0')}"


def _role_of(device: Mapping[str, Any]) -> str:
    counts = device.get("counts", "all")
    return next((role for role, words in _COUNTS.items() if words == counts), "grid")


def _fault(name: str) -> str:
    """Return what is wrong with a name, for people; empty: nothing."""
    if not name.strip():
        return "is empty"
    return "" if name.isprintable() and len(name) <= LONGEST else f"is too long: at most {LONGEST} letters, in one line"


def _check(card: Mapping[str, Any], role: str, capacity_wh: int | None, told: tuple[str, ...]) -> None:
    """Refuse a role that a device can't have, and what it may not be told."""
    if role not in ROLES:
        raise ConfigError("role: choose what it measures")
    measured = {*card["incoming"], *card["outgoing"]}
    if role in ("grid", "sun") and "through" not in measured and (role == "grid" or "generation" not in measured):
        raise ConfigError("It publishes neither energy nor power that we can read: it can't be a meter")
    if role == "load" and "register" not in card["incoming"]:
        raise ConfigError("It publishes no total of its energy: it can't be a load here")
    if role == "battery":
        if card["level_percent"] is None:
            raise ConfigError("It shows no level: it can't be a battery; does it publish its charge in percent?")
        if capacity_wh is None or not 100 <= capacity_wh <= 100_000_000:
            raise ConfigError("capacity_kwh: a battery needs its capacity; it stands on its label")
    for kind, needed in (("share", "battery"), ("reduce", "load")):
        offered = card.get(kind)
        if kind in told and role != needed:
            raise ConfigError(f"Only a {needed} may be told that")
        if kind in told and (offered is None or offered["ends"] == "none"):
            raise ConfigError("Nothing ends it if this computer dies, so it is not told that")
