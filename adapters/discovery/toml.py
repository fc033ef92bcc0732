"""The TOML of what was found, and its way into the adapter's file."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from tempfile import NamedTemporaryFile
from textwrap import indent

from adapters.commands.command import commands_of
from adapters.discovery.configs import LONGEST
from adapters.discovery.plan import Device, Quantity
from adapters.mapping.presets import known_presets
from adapters.mapping.readers import readers_of
from commonwatt.config.adapter import AdapterSettings
from commonwatt.config.files import load_settings, toml_table
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.words import printable
from commonwatt.runtime.files import replace_file


def snippet(devices: Iterable[Device], settings: AdapterSettings) -> Iterator[str]:
    """Yield rules and meters as TOML; each command is a comment, and a meter that a person must decide on."""
    taken = {*known_presets(), *(rule.preset for rule in settings.rule)}
    ids = count(max((meter.id for meter in settings.meter), default=0) + 1)
    for meters, level, commands in devices:
        alike = Counter(one.direction for one in meters)
        for meter in (one for one in meters if not one.configured):
            name = re.sub(r"[^a-z0-9]+", "-", meter.entity.title.lower()).strip("-") or "own"
            names = (f"{name[:26]}-{n}" if n else name[:32] for n in count())
            preset = next(each for each in names if each not in taken)
            taken.add(preset)
            yield f"# {printable(meter.entity.title)}\n{_rule(meter, preset)}\n"
            if level is not None:
                yield f"# {printable(level.entity.title)}: needs the meter's capacity_wh\n{_rule(level, preset)}\n"
            level = None
            yield _meter(meter, {"id": next(ids), "preset": preset}, is_alike=alike[meter.direction] > 1)
        for title, hint, table in commands:
            yield f"# {printable(title)}: {printable(hint)}\n"
            yield indent(toml_table("[[command]]", {"preset": "its meter's preset"} | table), "# ") + "\n"


def add_to(path: Path, text: str) -> None:
    """Add TOML at the end of an adapter's file."""
    before, status = path.read_bytes(), path.stat()
    content = before + (b"\n" if before.endswith(b"\n") else b"\n\n") + text.encode()
    with NamedTemporaryFile(dir=path.parent, suffix=".toml") as whole:
        whole.write(content)
        whole.flush()
        try:
            settings = load_settings(Path(whole.name), "adapter", AdapterSettings)
            readers_of(settings), commands_of(settings)
        except ConfigError as error:
            raise ConfigError(f"{path} is as it was: {error}".replace(whole.name, str(path))) from None
    replace_file(path.resolve(), content, mode=status.st_mode & 0o777, owner=(status.st_uid, status.st_gid))


def _meter(meter: Quantity, table: dict[str, object], *, is_alike: bool) -> str:
    is_total = meter.kind == "register" and meter.entity.texts["state_class"] == "total"
    doubts = ["state_class total may fall: keep it if it never does\n"] if is_total else []
    doubts += [] if meter.direction else ["fill in the direction: incoming or outgoing\n"]
    doubts += ["one of several alike: keep it if it contains none of the others\n"] if is_alike else []
    table["source"] = printable(meter.entity.device_name)[:LONGEST]
    table |= {"direction": meter.direction} if meter.direction != "incoming" else {}
    remarks = indent("".join(["its id in the town file\n", *doubts]), "# ")
    return remarks + indent(toml_table("[[meter]]", table), "# " if doubts else "") + "\n"


def _rule(quantity: Quantity, preset: str) -> str:
    texts, (path, scale) = quantity.entity.texts, quantity.place
    table: dict[str, object] = {"preset": preset, "topic": texts["state_topic"]}
    table |= {"path": path} if path else {"format": "plain"}
    table |= {"kind": quantity.kind, "unit": texts["unit_of_measurement"]}
    table |= {"scale": f"{scale:f}"} if scale != 1 else {}
    table |= {"sign": "positive"} if quantity.kind == "power" else {}
    if (online := quantity.entity.online) is not None:
        table |= {"restart_topic": online[0], "restart_payload": online[1]}
    return toml_table("[[rule]]", table)
