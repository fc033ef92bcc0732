"""Cliques of controllers: who forms one, who may manage a microgrid, and the file clique.json with its keys.

Cliques of controllers, and the order in which controllers may manage a microgrid (P 3, docs/controllers.md).
A clique is fixed when its microgrids are registered. An addition changes no clique: added microgrids form cliques among
themselves. One or two that wait for a third have the last two members of the last clique as backups.

Which brokers a meter has: those of the controllers that may manage its microgrid, then its collectors (A1, R13).
A *collector* takes the records of meters of another microgrid, so that no LTE line carries too much. It never manages
that microgrid.

The list of cliques and one secret lie in the office's folder. Every key is made from the secret, so that nothing is
stored twice, and writing the files again changes no key.

The file ``clique.json``: with whom a controller, or the utility, exchanges beats and messages, and their keys (R5).
The office writes it at the registration of microgrids; a file of its own, since older gateways refuse new keys in
``registry.json``. No command can change it.
"""

import hmac
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from commonwatt.clique.messages import Party
from commonwatt.config.files import check_model
from commonwatt.config.settings import MicrogridName, Settings
from commonwatt.identity.devices import Device, load_devices
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId, MeterId, MicrogridId
from commonwatt.network.addresses import Address
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.files import read_object, write_private
from commonwatt.town.town import Town

SIZE = 3  # members of a clique

CliqueMembers = tuple[ControllerId, ...]


def formed(cliques: Sequence[CliqueMembers], kinds: Mapping[MicrogridId, str]) -> tuple[CliqueMembers, ...]:
    """Return the cliques after microgrids were registered: those that were there, then those of the new ones.

    Args:
        kinds: The kind of each registered microgrid, in the order of their numbers.
    """
    placed = {member for clique in cliques for member in clique}
    new = [name for name in kinds if name not in placed]
    # The apartments join the residential microgrids that are left over.
    new = [n for n in new if kinds[n] == "residential"] + [n for n in new if kinds[n] == "apartment"]
    full = len(new) - len(new) % SIZE
    return (*cliques, *(tuple(new[at : at + SIZE]) for at in range(0, full, SIZE)))


def orders(cliques: Sequence[CliqueMembers], kinds: Mapping[MicrogridId, str]) -> dict[MicrogridId, CliqueMembers]:
    """Return the controllers that may manage each microgrid, the first one first: its own, then its backups."""
    found = {member: _from(clique, member) for clique in cliques for member in clique}
    waiting = [name for name, kind in kinds.items() if name not in found and kind != "public"]
    backups = cliques[-1][-2:] if cliques else ()
    for name in waiting:
        found[name] = (name, *(backups or _from(waiting, name)[1:]))
    residential = [name for name, kind in kinds.items() if kind == "residential"]
    return {name: found.get(name, (name, *residential[:-3:-1])) for name in kinds}


def exchanges(orders: Mapping[MicrogridId, CliqueMembers]) -> tuple[CliqueMembers, ...]:
    """Return the groups of at most three controllers that beat each other: cliques, and those who back one microgrid.

    The members of a group are in the order of its first microgrid.
    """
    groups: dict[frozenset[ControllerId], CliqueMembers] = {}
    for order in orders.values():
        if len(order) > 1:
            groups.setdefault(frozenset(order), order)
    return tuple(groups.values())


def _from(members: Sequence[ControllerId], first: ControllerId) -> CliqueMembers:
    """Return the members as a ring that begins with one of them."""
    at = members.index(first)
    return (*members[at:], *members[:at])


MOST = 8  # brokers of a meter


def installed(
    order: Sequence[ControllerId], collectors: Sequence[ControllerId], meter: MeterId
) -> tuple[ControllerId, ...]:
    """Return the brokers of a meter, home first. Meters with consecutive ids have other collectors.

    Args:
        order: The controllers that may manage its microgrid, its own first.
    """
    others = [name for name in collectors if name not in order]
    first = meter % len(others) if others else 0
    return (*order, *others[first:], *others[:first])[:MOST]


LEAST = 4  # meters of each microgrid, at least


def warm_meters(batteries: Mapping[MeterId, bool]) -> tuple[MeterId, ...]:
    """Return those with a battery, and so many more that there are ``LEAST``, in the order of their ids.

    Args:
        batteries: Whether each meter of a microgrid has a battery, without those of its boundary.
    """
    with_battery = sorted(meter for meter, has in batteries.items() if has)
    others = sorted(meter for meter, has in batteries.items() if not has)
    return (*with_battery, *others[: max(0, LEAST - len(with_battery))])


CLIQUE_FILE = "clique.json"

Key = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # a secret of two, hexadecimal


class CliquePeer(Settings):
    """A controller, or the utility, as another one of its group sees it."""

    name: MicrogridName  # its name; ``utility``: the utility
    rank: Annotated[int, Field(ge=0, lt=2**16)]  # its number; the utility's is 0
    address: Address  # where its datagrams are received
    # Further addresses of the utility, of which one answers at a time. Absent if it has one: older gateways refuse it.
    further: tuple[Address, ...] = ()
    key: Key  # the secret of this group that the two share


class Clique(Settings):
    """A group of at most three controllers: a clique, or those who may manage one microgrid."""

    members: tuple[MicrogridName, ...]  # its controllers, in its order, the file's owner among them
    # Who may manage each of its microgrids, the first one first.
    orders: dict[MicrogridName, tuple[MicrogridName, ...]]
    # All with whom the file's owner exchanges datagrams. At a controller: the other members and the utility; at the
    # utility: the members.
    others: tuple[CliquePeer, ...]


class CliqueFile(Settings):
    """The content of the file."""

    own: MicrogridName  # whose file it is: a controller, or ``utility``
    rank: Annotated[int, Field(ge=0, lt=2**16)]  # its number; the utility's is 0
    groups: tuple[Clique, ...]  # its groups

    @property
    def microgrids(self) -> list[MicrogridId]:
        """The microgrids that a controller may manage, by name."""
        orders = (item for group in self.groups for item in group.orders.items())
        return sorted({name for name, order in orders if self.own in order})


def save_cliques(path: Path, file: CliqueFile) -> None:
    """Write the file, replacing it whole; only this user can read it."""
    write_private(path, file.model_dump_json(indent=1, exclude_defaults=True) + "\n")


def load_cliques(path: Path) -> CliqueFile:
    """Read the file.

    Raises:
        ConfigError: It is missing or not what ``save_cliques`` writes; names the key.
    """
    content = read_object(path, "a file of cliques", "make it at the office with: commonwatt site init")
    return check_model(path, CliqueFile, content)


def beside(path: Path, microgrid: MicrogridId) -> Path:
    """Return the file that a controller has of another microgrid beside its own one, such as ``registry-r002.json``."""
    return path.with_name(f"{path.stem}-{microgrid}{path.suffix}")


def parties(file: CliqueFile) -> list[Party]:
    """Return the others of all groups."""
    return [
        Party(
            group=at,
            name=other.name,
            rank=other.rank,
            address=other.address,
            further=other.further,
            key=bytes.fromhex(other.key),
            microgrids=tuple(group.orders),
        )
        for at, group in enumerate(file.groups)
        for other in group.others
    ]


BEATS_PORT = 8885  # the default port of the datagrams of controllers and the utility

_LIST, _SECRET, _CONTROLLERS = "cliques.json", "clique-secret", "head-end/devices.json"


def orders_of(town: Town, out: Path) -> dict[MicrogridId, CliqueMembers]:
    """Return who may manage each microgrid, its own controller first; new microgrids form cliques, which are kept.

    Args:
        out: The office's folder.

    Raises:
        ConfigError: The list of cliques can't be read.
    """
    kinds = {name: microgrid.kind for name, microgrid in town.microgrids.items()}
    path = out / _LIST
    known = _read(path)
    cliques = formed(known, kinds)
    if len(cliques) > len(known):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, json.dumps(cliques, indent=1) + "\n")
    return orders(cliques, kinds)


def _read(path: Path) -> list[CliqueMembers]:
    try:
        return [tuple(map(str, clique)) for clique in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a list of cliques ({error}); put it there from your copy") from error


def served(orders: Mapping[MicrogridId, CliqueMembers], controller: ControllerId) -> list[MicrogridId]:
    """Return the microgrids of others that a controller may manage."""
    return [name for name, order in orders.items() if controller in order and name != controller]


def write_clique_files(
    town: Town, out: Path, addresses: Mapping[ControllerId, str], further: Sequence[str] = ()
) -> list[Path]:
    """Write the file of each controller that has a clique, and the utility's; return their paths.

    A controller whose device is revoked, such as a stolen one, is in no order, and nobody has a key of it. With the
    new token of its readmission it comes back, under new keys.

    Args:
        out: The office's folder, in which the town is registered.
        addresses: Where each controller, and the utility, receives datagrams, HOST:PORT.
        further: Further addresses of the utility, of which one answers at a time.

    Raises:
        ConfigError: A file of the office's folder can't be read.
    """
    found = orders_of(town, out)
    if not exchanges(found):
        return []
    devices = _devices(out)
    gone = {name for name, device in devices.items() if device.revoked}
    found = {name: tuple(each for each in order if each not in gone) for name, order in found.items()}
    # A controller without a mate keeps its epoch, and the utility.
    parties = dict.fromkeys((*exchanges(found), *(order for order in found.values() if len(order) == 1)))
    groups = [(members, some) for members in parties for some in _told_together(members, found)]
    keys = _Keys(_secret(out / _SECRET), devices)
    written = []
    for own in (*town.microgrids, UTILITY):
        mine = [group for group in groups if own in (*group[0], UTILITY)]
        if not mine and not (out / own / CLIQUE_FILE).exists():
            continue
        file = CliqueFile(
            own=own,
            rank=_rank(town, own),
            groups=tuple(_group(town, own, members, some, keys, addresses, further) for members, some in mine),
        )
        path = out / own / CLIQUE_FILE
        save_cliques(path, file)
        written.append(path)
    return written


def _told_together(
    members: CliqueMembers, found: Mapping[MicrogridId, CliqueMembers]
) -> list[dict[MicrogridId, CliqueMembers]]:
    """Return the microgrids that these controllers may manage, so many together as a beat has bits for."""
    mine = [(name, order) for name, order in found.items() if set(order) == set(members)]
    return [dict(mine[at : at + SIZE]) for at in range(0, len(mine), SIZE)]


def _group(
    town: Town,
    own: ControllerId,
    members: CliqueMembers,
    orders: Mapping[MicrogridId, CliqueMembers],
    keys: "_Keys",
    addresses: Mapping[ControllerId, str],
    further: Sequence[str],
) -> Clique:
    others: Sequence[ControllerId] = [name for name in (*members, UTILITY) if name != own]
    return Clique(
        members=members,
        orders=orders,
        others=tuple(
            CliquePeer(
                name=name,
                rank=_rank(town, name),
                address=addresses[name],
                further=tuple(further) if name == UTILITY else (),
                key=keys.of(tuple(orders), members, (own, name)),
            )
            for name in others
        ),
    )


def _devices(out: Path) -> dict[str, Device]:
    """Return the controllers as the head-end's broker knows them."""
    path = out / _CONTROLLERS
    return load_devices(path) if path.exists() else {}


def _rank(town: Town, name: ControllerId) -> int:
    return 0 if name == UTILITY else town.microgrids[name].number


class _Keys:
    """The keys of all pairs; a controller that gets another token, such as one that was stolen, gets other keys."""

    def __init__(self, secret: bytes, devices: Mapping[str, Device]) -> None:
        self._secret, self._devices = secret, devices

    def of(self, microgrids: CliqueMembers, members: CliqueMembers, pair: Iterable[ControllerId]) -> str:
        """Return the key of two in a group."""
        tokens = (self._devices[name].token_sha256 for name in sorted(pair) if name in self._devices)
        of = "/".join((*microgrids, "", *sorted(members), "", *sorted(pair), "", *tokens))
        return hmac.digest(self._secret, of.encode(), "sha256").hex()


def _secret(path: Path) -> bytes:
    """Return the secret of all keys, made when it is missing."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, secrets.token_hex(32) + "\n")
    try:
        return bytes.fromhex(path.read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a secret ({error}); put it there from your copy") from error
