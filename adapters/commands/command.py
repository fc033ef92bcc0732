"""A command of one foreign device, of its preset or its file: what is published, and what shows obedience."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from adapters.mapping.payloads import MAX_BYTES
from adapters.mapping.presets import known_presets, replaced_by
from adapters.mapping.readers import without_dots
from adapters.mapping.values import UnreadableError, at_path, json_of, number, split_path
from commonwatt.config.adapter import AdapterMeter, AdapterSettings
from commonwatt.config.adapter_commands import AdapterCommand, CommandKind, Confirm, Shown, fill, places_of
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import SettingError
from commonwatt.model.ids import MeterId
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.commands import Kind

KINDS: dict[CommandKind, Kind] = {
    "share": Kind.SHARING,
    "reduce": Kind.REDUCING,
    "isolate": Kind.ISOLATED,
    "limit_import": Kind.IMPORT_LIMIT,
}
"""The kind of desired state of each command."""

REDUCED_PERCENT = 80  # the share of its load that a place uses while it reduces
_WORDS = 60  # characters of a shown state that are kept


class Wish(NamedTuple):
    """What a device should do."""

    on: bool = False
    until: EpochSeconds = 0  # the end of the state
    limit_w: int | None = None  # most watts from the town, of ``limit_import``


class Shows(NamedTuple):
    """What a device shows of its state."""

    on: bool | None  # whether that is on; ``None``: neither on nor off
    words: str  # the state, for people


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceCommand:
    """One command of one device."""

    meter: MeterId  # our id of its meter
    kind: Kind  # the state that it sets
    settings: AdapterCommand  # how
    source: AdapterMeter  # the settings of its meter
    at: str  # the name of the source on whose broker it is

    @property
    def is_refused(self) -> bool:
        """Whether it is never sent: nothing would end it without the adapter, and no person accepted that."""
        return self.kind is Kind.SHARING and self.settings.failsafe == "none" and not self.source.accept_unsafe

    @property
    def device(self) -> tuple[str, str]:
        """The source and the name of the device; commands of one device wait for each other."""
        return self.at, self.source.source or str(self.meter)

    @property
    def shown_on(self) -> str | None:
        """The topic on which the device shows its state; ``None``: it does not."""
        return None if self.settings.confirm is None else self._topic(self.settings.confirm.topic)

    @property
    def keepalive(self) -> str | None:
        """The topic without whose messages the device stops to publish; ``None``: it does not stop."""
        return None if self.settings.keepalive is None else self._topic(self.settings.keepalive)

    @property
    def shows_off(self) -> bool:
        """Whether it shows that the state has ended: a power may have other reasons, a switch waits to close."""
        confirm = self.settings.confirm
        return confirm is not None and confirm.by == "state" and not self.is_boundary

    @property
    def is_boundary(self) -> bool:
        """Whether it is a switch or a limit at a boundary, which nothing but a permit closes or lifts."""
        return self.kind in (Kind.ISOLATED, Kind.IMPORT_LIMIT)

    def message(self, wish: Wish, now: float, level_percent: int | None) -> Publish:
        """Return the message that tells the device a state."""
        values = self._values(wish) | {
            "level": self.source.minimum_percent if level_percent is None else level_percent,
            "seconds": max(0, int(wish.until - now)),
            "until": wish.until,
        }
        payload = fill(self.settings.on if wish.on else self.settings.off, values)
        return Publish(self._topic(self.settings.topic), payload.encode(), self.settings.qos, via=self.at)

    def shows(self, payload: bytes, wish: Wish) -> Shows | None:
        """Return the state that a message shows; ``None``: it shows none."""
        confirm = self.settings.confirm
        assert confirm is not None
        if len(payload) > MAX_BYTES:
            return None
        found: object = payload.decode(errors="replace").strip()
        if confirm.path:
            found = at_path(json_of(payload), split_path(fill(confirm.path, self._values(wish))))
        if isinstance(found, bool):
            found = str(found).lower()
        if not isinstance(found, str) or not found:
            return None
        return Shows(self._is_on(confirm, found, wish), found[:_WORDS])

    def _is_on(self, confirm: Confirm, found: str, wish: Wish) -> bool | None:
        if confirm.by == "power":
            least = Decimal(self.source.watts or 0) * confirm.percent / 100
            power = number(found)
            return (power if confirm.sign == "positive" else -power) >= least
        assert confirm.on is not None
        if self._equals(confirm.on, found, wish):
            return True
        return False if confirm.off is None or self._equals(confirm.off, found, wish) else None

    def _equals(self, wanted: Shown, found: str, wish: Wish) -> bool:
        try:
            if isinstance(wanted, tuple):
                return wanted[0] <= number(found) <= wanted[1]
            wanted = fill(wanted, self._values(wish))
            return found == wanted or number(found) == number(wanted)
        except UnreadableError:
            return False

    def _values(self, wish: Wish) -> dict[str, str | int]:
        watts = self.source.watts if wish.limit_w is None else wish.limit_w
        percent = self.source.minimum_percent if self.kind is Kind.SHARING else REDUCED_PERCENT
        named: dict[str, str | int] = {"device": self.source.source, "channel": self.source.channel}
        return named | {"watts": watts or 0, "percent": percent}

    def _topic(self, topic: str) -> str:
        return without_dots(topic.replace("{device}", self.source.source).replace("{channel}", self.source.channel))


def commands_of(settings: AdapterSettings) -> tuple[DeviceCommand, ...]:
    """Return the commands of every meter."""
    known = {name: preset for name, preset in known_presets().items() if name not in replaced_by(settings)}
    presets = {name: list(preset.commands) for name, preset in known.items()}
    for n, command in enumerate(settings.command):
        if command.preset in known:
            why = "Commonwatt has one of this name; name yours otherwise"
            raise SettingError(("command", n, "preset"), f"[[command]] of preset {command.preset}: {why}")
        if any(command.kind == other.kind for other in presets.get(command.preset, ())):
            raise SettingError(("command", n, "kind"), f"[[command]] {command.kind} of {command.preset} is there twice")
        presets.setdefault(command.preset, []).append(command)
    found: dict[tuple[Publish, Kind], DeviceCommand] = {}
    for n, meter in enumerate(settings.meter):
        for one in _of_meter(n, meter, settings.source_of(meter), presets.get(meter.preset, [])):
            ends = one.message(Wish(), 0, None)
            if other := found.get((ends, one.kind)):
                why = f"meter {other.meter} obeys the same command at {ends.topic}; let one of them"
                raise SettingError(("meter", n, "obeys"), f"[[meter]] {meter.id}: {why}")
            found[ends, one.kind] = one
    return tuple(found.values())


def _of_meter(n: int, meter: AdapterMeter, at: str, known: list[AdapterCommand]) -> Iterator[DeviceCommand]:
    for kind in meter.obeys:
        found = next((command for command in known if command.kind == kind), None)
        if found is None:
            have = f"it has {', '.join(command.kind for command in known)}" if known else "it has none"
            why = f"preset {meter.preset} has no command {kind}; {have}; leave it out, or write a [[command]]"
            raise SettingError(("meter", n, "obeys"), f"[[meter]] {meter.id}: {why}")
        by_power = found.confirm is not None and found.confirm.by == "power"
        if meter.watts is None and kind != "limit_import" and (by_power or "watts" in places_of(found.on)):
            why = f"{kind} of preset {meter.preset} needs watts, the power that it is told to give"
            raise SettingError(("meter", n, "watts"), f"[[meter]] {meter.id}: {why}")
        yield DeviceCommand(meter=meter.id, kind=KINDS[kind], settings=found, source=meter, at=at)
