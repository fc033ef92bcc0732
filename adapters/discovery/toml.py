"""The TOML of what was found, and its way into the adapter's file."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from tempfile import NamedTemporaryFile

from adapters.discovery.plan import Command, Device, Quantity
from adapters.mapping.presets import known_presets
from adapters.mapping.readers import readers_of
from commonwatt.config.adapter import AdapterMeter, AdapterSettings
from commonwatt.config.files import load_settings, toml_table
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.files import replace_file

HAVE_COMMANDS = "command" in AdapterMeter.model_fields  # while the settings have none, commands are comments


def snippet(devices: Iterable[Device], settings: AdapterSettings) -> Iterator[str]:
    """Yield rules and meters as TOML; a meter or command that a person must decide on is a comment."""
    taken = {*known_presets(), *(rule.preset for rule in settings.rule)}
    numbers = count(max((meter.id for meter in settings.meter), default=0) + 1)
    for device in devices:
        switches = [one for one in device.commands if one.table["kind"] == "reduce"]
        incoming = [one for one in device.meters if one.direction != "outgoing"]
        attached = switches[0] if len(switches) == len(incoming) == 1 else None
        for quantity in device.meters:
            name = re.sub(r"[^a-z0-9]+", "-", quantity.entity.title.lower())[:27].strip("-") or "own"
            preset = next(each for n in count() if (each := f"{name}-{n}" if n else name) not in taken)
            taken.add(preset)
            level = device.level if quantity is device.meters[0] else None
            yield from _meter(quantity, level, attached if quantity in incoming else None, preset, next(numbers))
        for command in device.commands:
            if command is not attached:
                yield f"# {printable(command.title)}: fill in {printable(command.hint)}"
                yield from (*_table("[[meter.command]]", command.table, "# "), "")


def add_to(path: Path, text: str) -> None:
    """Add TOML at the end of an adapter's file.

    Raises:
        ConfigError: The whole is wrong; the file is as it was.
    """
    before, status = path.read_bytes(), path.stat()
    content = before + (b"\n" if before.endswith(b"\n") else b"\n\n") + text.encode()
    with NamedTemporaryFile(dir=path.parent, suffix=".toml") as whole:
        whole.write(content)
        whole.flush()
        try:
            readers_of(load_settings(Path(whole.name), "adapter", AdapterSettings))
        except ConfigError as error:
            raise ConfigError(f"{path} is as it was: {error}".replace(whole.name, str(path))) from None
    replace_file(path.resolve(), content, mode=status.st_mode & 0o777, owner=(status.st_uid, status.st_gid))


def printable(text: str) -> str:
    """Escape what would end a line or steer a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _meter(
    quantity: Quantity, level: Quantity | None, command: Command | None, preset: str, number: int
) -> Iterator[str]:
    yield f"# {printable(quantity.entity.title)}"
    yield from (*_rule(quantity, preset), "")
    if level is not None:
        yield f"# {printable(level.entity.title)}: read with capacity_wh of the meter"
        yield from (*_rule(level, preset), "")
    table: dict[str, object] = {"id": number, "preset": preset, "source": printable(quantity.entity.device_name)}
    table |= {"direction": quantity.direction} if quantity.direction != "incoming" else {}
    doubts = [*quantity.doubts, *([] if quantity.direction else ["fill in the direction: incoming or outgoing"])]
    mark = "# " if doubts else ""
    yield from ("# its id in the town file", *map("# {}".format, doubts), *_table("[[meter]]", table, mark))
    yield from () if command is None else _table("[[meter.command]]", command.table, mark if HAVE_COMMANDS else "# ")
    yield ""


def _rule(quantity: Quantity, preset: str) -> Iterator[str]:
    texts, place = quantity.entity.texts, quantity.place
    table: dict[str, object] = {"preset": preset, "topic": texts["state_topic"]}
    table |= {"path": place.path} if place.path else {"format": "plain"}
    table |= {"kind": quantity.kind, "unit": texts["unit_of_measurement"]}
    table |= {"scale": f"{place.scale:f}"} if place.scale != 1 else {}
    table |= {"sign": "positive"} if quantity.kind == "power" else {}
    if quantity.restart is not None:
        table |= {"restart_topic": quantity.restart[0], "restart_payload": quantity.restart[1]}
    return _table("[[rule]]", table)


def _table(header: str, table: Mapping[str, object], mark: str = "") -> Iterator[str]:
    return (f"{mark}{line}" for line in toml_table(header, table).splitlines())
