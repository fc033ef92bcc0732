"""The office's folder: every file of a town, made from its site file; a second time adds what is missing."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commonwatt.clique.cliques import write_clique_files
from commonwatt.clique.revocation import write_revoked_list
from commonwatt.config.files import check_named_files, place_of, toml_table
from commonwatt.identity.authority import FOLDER, KEY_FILE, Authority, Issued
from commonwatt.identity.certificates import Purpose
from commonwatt.identity.devices import DeviceRole, load_tokens, save_tokens
from commonwatt.identity.enrolment import all_devices
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.files import write_private
from commonwatt.runtime.service import only_one
from commonwatt.site.bundle import OF_CARE
from commonwatt.site.places import (
    ADAPTER_TOKENS,
    FILE,
    HEADER,
    MADE_THERE,
    SECOND,
    TOWN_FILE,
    PartFile,
    SiteFile,
    beats_of,
    certificates,
    load_site,
    part_files,
)
from commonwatt.town.town import Function, Meter, Town

RENEWED_S = 30 * 86_400  # seconds before its end from which a certificate is renewed


def make_site(folder: Path, now: EpochSeconds, *, fill: bool = False) -> tuple[Town, int]:
    """Make what is missing of a town's files in ``folder`` from its site file.

    Existing tokens, ids and certificates stay, but a broker whose addresses changed gets a new certificate, and so does
    what expires soon. Settings files and the town file are written anew.

    Args:
        fill: Whether to register the town in the utility's database, too, which is then on this machine.

    Returns:
        The town, and the number of new certificates.

    Raises:
        ConfigError: The site file is wrong, changes a registered meter, or would replace a file of a person.
    """
    site, town = load_site(folder / FILE)
    parts = list(part_files(site, town))
    for part in parts:
        part.check(folder / FILE)
        _refuse_foreign(folder, part)
        if part.part == "adapter":
            _check_meters(folder / FILE, part, town)
    database = next(str(part.keys["database"]) for part in parts if part.part == UTILITY) if fill else None
    _register_text(site.town_text(), folder, database, two_head_ends=site.site.second is not None)
    with only_one(folder / FOLDER, "another enrolment"):
        made = (folder / FOLDER / KEY_FILE).exists()
        authority = Authority.load(folder) if made else Authority.create(folder, site.town.name, now)
        issued = _certify(authority, site, town, now)
        beats = beats_of(site, town)
        write_clique_files(town, folder, beats, [beats[SECOND]] if SECOND in beats else [])
        write_revoked_list(folder, now)
    write_private(folder / TOWN_FILE, site.town_text())
    for part in parts:
        write_private(folder / part.name, part.text)
        if part.part == "adapter":
            ids = [str(meter["id"]) for meter in part.keys.get("meter", ()) if "token" not in meter]
            # A microgrid without meters has no file of tokens yet.
            tokens = load_tokens(folder / part.folder / "meter-tokens.json") if ids else {}
            save_tokens(folder / part.folder / ADAPTER_TOKENS, {meter: tokens[meter] for meter in ids})
        later = MADE_THERE if site.site.care is not None and part.folder in town.microgrids else ()
        check_named_files(folder / part.name, part.part, later)
    # A utility that runs out of this folder needs no bundle for what the authority makes.
    for name in OF_CARE if site.site.care is not None and "site" in site.utility else ():
        if not (link := folder / UTILITY / name).is_symlink():
            link.unlink(missing_ok=True)
            link.symlink_to(f"../{FOLDER}/{name}")
    return town, len(issued)


def _certify(authority: Authority, site: SiteFile, town: Town, now: EpochSeconds) -> list[Issued]:
    """Issue the certificates that are missing or expire soon; with care not of controllers that never had a bundle."""
    wanted, devices = certificates(site, town), all_devices(authority.out).values()
    revoked = {device.identity for device in devices if device.revoked}
    # A meter's is exchanged with the meter.
    without = revoked | {device.identity for device in devices if device.role is DeviceRole.METER}
    if site.site.care is None:
        return authority.issue_missing(wanted, now) + authority.renew(now, RENEWED_S, without)
    brokers = {one.name: one.addresses for one in wanted if one.kind is Purpose.BROKER}
    places = {name: brokers[name] for name in town.microgrids if name not in revoked}
    made = {entry.file for entry in authority.issued}
    there = [one for one in wanted if one.file in made or one.file.partition("/")[0] not in town.microgrids]
    issued = authority.issue_missing(there, now) + authority.renew(now, RENEWED_S, without)
    return issued + authority.enrol(places, now)


def certify(folder: Path, place: str, now: EpochSeconds) -> None:
    """Issue the certificates of a controller of a town with care that are missing, for a bundle that a person carries.

    Raises:
        ConfigError: There is no authority.
    """
    site, town = load_site(folder / FILE)
    if site.site.care is None:
        return  # `site init` has issued them all.
    with only_one(folder / FOLDER, "another enrolment"):
        wanted = [one for one in certificates(site, town) if one.file.startswith(f"{place}/")]
        Authority.load(folder).issue_missing(wanted, now)


def register(town: Path, out: Path, database: str | Path | None = None, *, two_head_ends: bool = False) -> None:
    """Enrol every device of a town file in the folder ``out``, by the utility's own command.

    Args:
        database: SQLAlchemy URL of a database to fill, or the utility's file that names it; ``None``: none.
        two_head_ends: Whether to make the folder of a second head-end, too.

    Raises:
        ConfigError: The command failed.
    """
    command = [sys.executable, "-m", "commonwatt", "utility", "register", "--town", str(town), "--out", str(out)]
    if database is not None:
        command += ["--config" if isinstance(database, Path) else "--database", str(database)]
    command += ["--two-head-ends"] if two_head_ends else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"the town could not be registered: {done.stderr.strip()}")


def _register_text(text: str, folder: Path, database: str | None, *, two_head_ends: bool) -> None:
    """Register a town's text; the town file in ``folder`` is only replaced after this was accepted."""
    with tempfile.TemporaryDirectory() as name:
        path, config = Path(name) / TOWN_FILE, None
        path.write_text(text, encoding="utf-8")
        if database is not None:
            from commonwatt.config.database_url import absolute_database  # A controller has no SQLAlchemy.

            # In a file: the URL may have a password.
            config = path.with_name("utility.toml")
            (folder / UTILITY).mkdir(exist_ok=True)
            at = absolute_database(database, (folder / UTILITY).resolve())
            config.write_text(toml_table(f"[{UTILITY}]", {"database": at}), encoding="utf-8")
        register(path, folder, config, two_head_ends=two_head_ends)


def _check_meters(path: Path, part: PartFile, town: Town) -> None:
    """Check that the town has the meters of an adapter's file, and that both say the same of them."""
    known = {m.id: m for m in town.meters if m.microgrid == part.folder and m.function is Function.ADAPTED}
    for n, meter in enumerate(part.keys.get("meter", ())):
        if meter["id"] not in known:
            raise ConfigError(
                f"{place_of(path, *part.stated, 'meter', n, 'id')}: {part.folder} has no meter {meter['id']} behind an "
                f'adapter; add [[meter]] with microgrid = "{part.folder}", id = {meter["id"]}, adapter = true'
            )
        for key, fault in _differences(meter, known[meter["id"]]):
            raise ConfigError(f"{place_of(path, *part.stated, 'meter', n, key)}: {fault}")


def _differences(meter: Mapping[str, Any], registered: Meter) -> Iterator[tuple[str, str]]:
    """Yield each key of an adapter's meter for which the gateway refuses records, or sees no battery; and why."""
    town = f"[[meter]] {registered.id} of the town"
    for key, found, known in (
        ("account", meter.get("account", 0), registered.account),
        ("direction", meter.get("direction", "incoming"), str(registered.direction)),
    ):
        if found != known:
            yield key, f"is {found}, but {town} has {known}; leave it out here"
    if (capacity := meter.get("capacity_wh")) is None:
        return
    if registered.battery is None or registered.battery.capacity != capacity * 1000:
        wanted = f'battery_capacity_mwh = {capacity * 1000}, and "stored" among its record_types'
        yield "capacity_wh", f"{town} has {'no' if registered.battery is None else 'another'} battery; give it {wanted}"
    elif RecordType.STORED not in registered.record_types:
        yield "capacity_wh", f'{town} has a battery; add "stored" to its record_types'


def _refuse_foreign(folder: Path, part: PartFile) -> None:
    path = folder / part.name
    if path.exists() and not path.read_text(encoding="utf-8").startswith(HEADER):
        raise ConfigError(
            f"{path}: was not written by `commonwatt site init`, and would be replaced; put its own keys into "
            f"{folder / FILE} (see docs/reference/settings.md) and delete it"
        )
