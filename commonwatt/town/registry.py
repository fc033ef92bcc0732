"""A controller's files from the office: registry.json (T8), revoked-controllers.json.

``commonwatt utility register`` writes the registry, the gateway reads it. Ids stand as decimal text, since many readers
keep only 53 bits of a JSON number.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from commonwatt.config.files import check_model
from commonwatt.config.settings import MicrogridName, Settings
from commonwatt.model.exceptions import ConfigError, ProtocolError
from commonwatt.model.records import RecordType
from commonwatt.model.units import MilliwattHours
from commonwatt.protocol.json_messages import Id64
from commonwatt.protocol.meter_messages import RevokedList
from commonwatt.runtime.files import read_object, write_private
from commonwatt.town.town import Direction, Function, Microgrid


class RegisteredMeter(Settings):
    """One meter of a microgrid."""

    id: Id64  # its id
    location: str  # its place, one name for all meters of a place
    function: Function  # the kind of place or device behind it
    direction: Direction  # the one direction it measures
    account: Annotated[int, Field(ge=0, lt=2**16)]  # the account of its energy; 0: none
    record_types: Annotated[tuple[RecordType, ...], Field(min_length=1)]  # its record types, ascending
    service_amps: Annotated[int, Field(ge=1)]  # the service it measures
    # Its battery's capacity, milliwatt-hours; ``None``: no battery.
    battery_capacity_mwh: Annotated[MilliwattHours, Field(gt=0, le=2**53)] | None = None
    address: str  # its static address
    shares: bool = True  # whether its battery shares by command; else it only receives
    replaced: bool = False  # whether another meter has come in its place; its late records are still accepted


class RegisteredController(Settings):
    """The controller of a microgrid."""

    number: Annotated[int, Field(ge=1)]  # its number, from 1
    address: str  # its static address


class Registry(Settings):
    """A microgrid, its controller and its meters."""

    microgrid: MicrogridName  # its name
    controller: RegisteredController  # its controller
    meters: tuple[RegisteredMeter, ...]  # its meters, those of the boundary and of other makers included


def registry_of(microgrid: Microgrid) -> Registry:
    """Return the registry for the gateway of ``microgrid``."""
    replaced = {meter.replaces for meter in microgrid.meters}
    meters = []
    for meter in microgrid.meters:
        other = {
            "battery_capacity_mwh": None if meter.battery is None else meter.battery.capacity,
            "replaced": meter.id in replaced,
        }
        meters.append(RegisteredMeter.model_validate(meter, from_attributes=True).model_copy(update=other))
    controller = RegisteredController(number=microgrid.number, address=microgrid.address)
    return Registry(microgrid=microgrid.id, controller=controller, meters=tuple(meters))


def save_registry(path: Path, registry: Registry) -> None:
    """Write ``registry.json``, replacing it whole."""
    # Without defaults: a gateway of an earlier release refuses a key that it does not know.
    write_private(path, registry.model_dump_json(indent=1, exclude_defaults=True) + "\n")


def load_registry(path: Path) -> Registry:
    """Read ``registry.json``.

    Raises:
        ConfigError: It is missing or not what ``save_registry`` writes; names the key.
    """
    content = read_object(path, "a registry", "make one with: commonwatt utility register")
    registry = check_model(path, Registry, content)
    if len({meter.id for meter in registry.meters}) != len(registry.meters):
        raise ConfigError(f"{path}: a meter is there twice; make it anew with: commonwatt utility register")
    return registry


REVOKED_FILE = "revoked-controllers.json"


class SignedList(Settings):
    """The content of the file."""

    text: str  # the list, as ``RevokedList`` writes it
    signature: Annotated[str, Field(pattern="^([0-9a-f]{2}){8,80}$")]  # the authority's, hexadecimal

    def read(self) -> RevokedList:
        """Return the list; its signature is checked by meters.

        Raises:
            ProtocolError: The text is of another form.
        """
        return RevokedList.read(self.text)


def load_signed_list(path: Path) -> SignedList | None:
    """Read the file; ``None``: there is none.

    Raises:
        ConfigError: It is not what the office writes.
    """
    if not path.exists():
        return None
    found = check_model(path, SignedList, read_object(path, "a list of revoked controllers", "copy it again"))
    try:
        found.read()
    except ProtocolError as error:
        raise ConfigError(f"{path}: {error}") from error
    return found
