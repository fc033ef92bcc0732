"""The file ``clique.json``: with whom a controller, or the utility, exchanges beats and messages, and their keys (R5).

The office writes it at the registration of microgrids; a file of its own, since older gateways refuse new keys in
``registry.json``. No command can change it.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from commonwatt.config.files import check_model
from commonwatt.config.settings import MicrogridName, Settings
from commonwatt.model.units import MicrogridId
from commonwatt.network.addresses import Address
from commonwatt.protocol.clique_datagrams import Party
from commonwatt.runtime.files import read_object, write_private

CLIQUE_FILE = "clique.json"

Key = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # a secret of two, hexadecimal


class Other(Settings):
    """A controller, or the utility, as another one of its group sees it."""

    name: MicrogridName  # its name; ``utility``: the utility
    rank: Annotated[int, Field(ge=0, lt=2**16)]  # its number; the utility's is 0
    address: Address  # where its datagrams are received
    # Further addresses of the utility, of which one answers at a time. Absent if it has one: older gateways refuse it.
    further: tuple[Address, ...] = ()
    key: Key  # the secret of this group that the two share


class Group(Settings):
    """A group of at most three controllers: a clique, or those who may manage one microgrid."""

    members: tuple[MicrogridName, ...]  # its controllers, in its order, the file's owner among them
    # Who may manage each of its microgrids, the first one first.
    orders: dict[MicrogridName, tuple[MicrogridName, ...]]
    # All with whom the file's owner exchanges datagrams. At a controller: the other members and the utility; at the
    # utility: the members.
    others: tuple[Other, ...]


class CliqueFile(Settings):
    """The content of the file."""

    own: MicrogridName  # whose file it is: a controller, or ``utility``
    rank: Annotated[int, Field(ge=0, lt=2**16)]  # its number; the utility's is 0
    groups: tuple[Group, ...]  # its groups

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
