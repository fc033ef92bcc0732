"""Presets: the rules and the commands for known makers' devices, from data files and from an adapter's own file."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from commonwatt.config.adapter import AdapterRule, AdapterSettings
from commonwatt.config.adapter_commands import AdapterCommand
from commonwatt.config.files import check_model
from commonwatt.model.exceptions import SettingError

OWN_PRESET = "preset %s: the rules and commands of this file count, not Commonwatt's of the same name"
_FOLDER = Path(__file__).parents[1] / "presets"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The rules for one maker's messages, and the commands for its devices."""

    name: str  # its name in ``preset`` of a meter
    title: str  # makers and devices
    source: str  # what a meter's ``source`` is, and its ``channel`` if it has one
    sources: tuple[str, ...]  # where the shape of the messages is documented
    notes: str  # what a person who sets up such a meter must know
    rules: tuple[AdapterRule, ...]  # the rules, in their order of preference for each record type
    commands: tuple[AdapterCommand, ...]  # the commands, one of a kind


@cache
def known_presets() -> dict[str, Preset]:
    """Return Commonwatt's presets by name."""
    return {path.stem: _load(path) for path in sorted(_FOLDER.glob("*.toml"))}


def replaced_by(settings: AdapterSettings) -> list[str]:
    """Return the file's presets that count in place of Commonwatt's: one of a later release must not change a file."""
    return sorted(known_presets().keys() & {rule.preset for rule in settings.rule})


def presets_of(settings: AdapterSettings) -> dict[str, tuple[AdapterRule, ...]]:
    """Return the rules of every preset, including the presets in the adapter's own file."""
    found = {name: preset.rules for name, preset in known_presets().items()}
    found |= {rule.preset: () for rule in settings.rule}
    for rule in settings.rule:
        found[rule.preset] = (*found[rule.preset], rule)
    for n, meter in enumerate(settings.meter):
        if meter.preset not in found:
            why = f"no preset {meter.preset!r}; there are: {', '.join(sorted(found))}"
            raise SettingError(("meter", n, "preset"), f"[[meter]] {meter.id}: {why}")
    return found


def _load(path: Path) -> Preset:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    every = {"preset": path.stem} | content.get("every_rule", {})
    rules = tuple(check_model(path, AdapterRule, every | rule) for rule in content["rule"])
    commands = content.get("command", [])
    return Preset(
        name=path.stem,
        title=content["title"],
        source=content["source"],
        sources=tuple(content["sources"]),
        notes=content["notes"],
        rules=rules,
        commands=tuple(check_model(path, AdapterCommand, {"preset": path.stem} | command) for command in commands),
    )
