"""Labels of controllers at the office: one-time codes, a sheet to print, and what the utility needs of the codes.

Codes stand in the authority's folder (``codes.json``). The utility gets ``joins.json``, without codes: with it the
utility checks who has a code, and passes on a bundle that it can't read. The file joins no controller. ``site
pack utility`` packs these bundles anew.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Literal

from pydantic import Field

from commonwatt.care.code import Code, CodeSecrets, Invitation, encrypt
from commonwatt.config.files import check_model
from commonwatt.config.settings import Settings
from commonwatt.identity.authority import CA_FILE, ENROLMENT_FILE, FOLDER, Authority
from commonwatt.identity.devices import digest, load_tokens
from commonwatt.identity.enrolment import all_devices
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import moment
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import read_object, write_private
from commonwatt.runtime.service import only_one
from commonwatt.site.bundle import JOINS_FILE, pack, signed
from commonwatt.site.places import FILE, MADE_THERE, SiteFile, broker_of, cares_of, load_site
from commonwatt.town.town import Town

SHEET = "labels.html"  # the sheet, in the office's folder
VALID_S = 30 * 86_400  # seconds for which a code is valid
_CODES = "codes.json"

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Labels</title><style>
@page {{ size: A4; margin: 12mm }} body {{ font: 10pt sans-serif; color: #000; background: #fff }}
section {{ border: 1px dashed #000; padding: 4mm; margin-bottom: 4mm; break-inside: avoid; overflow: hidden }}
svg {{ float: right }} h2 {{ margin: 0 }} .words {{ font: bold 13pt monospace }} td, th {{ text-align: left }}
table, .small {{ font-size: 7pt; overflow-wrap: anywhere }}
</style><p>These labels are keys: who has one can join in the controller's place. Give each to its installer alone.</p>
{}</html>
"""
_LABEL = """<section>{qr}<h2>{place}</h2><p>{kind} of {town}. Utility: {utility}. Valid until {until}.</p>
<p>sudo commonwatt join</p><p class="words">{words}</p><p class="small">Authority: {fingerprint}
<br>For commonwatt-join.txt on the boot partition: {text}</p>{meters}</section>
"""
_METERS = "<table><tr><th>meter</th><th>token</th><th>broker</th></tr>{}</table>"


class _Label(Settings):
    """A controller's last code."""

    code: str  # its bytes, hexadecimal
    ends: EpochSeconds  # when it ends, epoch seconds


class _Codes(Settings):
    """The last code of each controller."""

    format: Literal[1] = 1  # the file's format
    codes: Mapping[str, _Label] = Field({})  # by controller


def make_labels(folder: Path, places: Sequence[str], now: EpochSeconds) -> list[str]:
    """Make new codes for some controllers, or for all that never had one; write the sheet and the utility's file.

    Returns:
        The controllers with a new code.

    Raises:
        ConfigError: The town has no care, a controller is unknown or revoked, or a file of it is missing.
    """
    site, town = load_site(folder / FILE)
    if site.site.care is None or not (folder / FOLDER / ENROLMENT_FILE).exists():
        raise ConfigError(f"{folder / FILE}: first put care = 8444 into [site], and run: commonwatt site init")
    with only_one(folder / FOLDER, "another enrolment"):
        codes = _read(folder)
        revoked = _revoked(folder)
        wanted = places or [name for name in town.microgrids if name not in {*codes.codes, *revoked}]
        for place in wanted:
            if place not in town.microgrids:
                raise ConfigError(f"{folder / FILE}: has no microgrid {place}")
            if place in revoked:
                raise ConfigError(f"{place} was revoked ({revoked[place]}); first: commonwatt enroll readmit {place}")
        fingerprint = _fingerprint(folder)
        new = {place: _Label(code=Code.new(fingerprint).content.hex(), ends=now + VALID_S) for place in wanted}
        _keep(folder, _Codes(codes={**codes.codes, **new}), now)
        write_private(folder / SHEET, _sheet(folder, site, town, now))
        return list(wanted)


def end_label(folder: Path, place: str, now: EpochSeconds) -> None:
    """End a controller's code; the utility refuses it once it has its next bundle.

    Raises:
        ConfigError: The controller has no code.
    """
    site, town = load_site(folder / FILE)
    with only_one(folder / FOLDER, "another enrolment"):
        codes = _read(folder)
        if place not in codes.codes:
            raise ConfigError(f"{place}: has no label; there are {', '.join(list(codes.codes)[:10]) or 'none'}")
        ended = codes.codes[place].model_copy(update={"ends": now})
        _keep(folder, _Codes(codes={**codes.codes, place: ended}), now)
        write_private(folder / SHEET, _sheet(folder, site, town, now))


def refresh_joins(folder: Path, now: EpochSeconds) -> None:
    """Pack the bundles of open codes anew, for the utility's next bundle; end those of controllers that left."""
    if not (folder / FOLDER / _CODES).exists():
        return
    with only_one(folder / FOLDER, "another enrolment"):
        _keep(folder, _read(folder), now)


def _read(folder: Path) -> _Codes:
    path = folder / FOLDER / _CODES
    if not path.exists():
        return _Codes()
    return check_model(path, _Codes, read_object(path, "a file of codes", "delete it; then make new labels"))


def _revoked(folder: Path) -> dict[str, str]:
    return {device.identity: device.revoked for device in all_devices(folder).values() if device.revoked}


def _keep(folder: Path, codes: _Codes, now: EpochSeconds) -> None:
    """Write the codes, and what the utility needs of them; the code of a controller that left, or is revoked, ends."""
    authority, fingerprint, joins, kept = Authority.load(folder), _fingerprint(folder), {}, {}
    present = load_site(folder / FILE)[1].microgrids.keys() - _revoked(folder).keys()
    for place, last in codes.codes.items():
        ends = last.ends if place in present else min(last.ends, now)
        kept[place] = label = last.model_copy(update={"ends": ends})
        own = CodeSecrets.of(Code(bytes.fromhex(label.code)), fingerprint)
        is_open = label.ends > now
        content = signed(pack(folder, place, now, MADE_THERE), authority) if is_open else b""
        bundle = base64.b64encode(encrypt(own.bundle_key, content)).decode() if is_open else ""
        public_key = own.signer.public_key().public_bytes_raw().hex()
        joins[own.lookup] = {"place": place, "public_key": public_key, "ends": label.ends, "bundle": bundle}
    write_private(folder / FOLDER / _CODES, _Codes(codes=kept).model_dump_json(indent=1) + "\n")
    write_private(folder / FOLDER / JOINS_FILE, json.dumps(joins, indent=1) + "\n")


def _fingerprint(folder: Path) -> str:
    return digest((folder / FOLDER / CA_FILE).read_bytes())


def _sheet(folder: Path, site: SiteFile, town: Town, now: EpochSeconds) -> str:
    """Return the sheet with a label of each open code."""
    import segno  # The office has it; controllers don't.

    fingerprint, utility, labels = _fingerprint(folder), tuple(cares_of(site)), []
    for place, label in _read(folder).codes.items():
        if label.ends <= now or place not in town.microgrids:
            continue
        code = Code(bytes.fromhex(label.code))
        text = Invitation(code=code, addresses=utility, fingerprint=fingerprint).text
        broker = "{}:{}".format(*broker_of(site, town, place))
        path = folder / place / "meter-tokens.json"  # a microgrid without meters has none yet
        tokens = load_tokens(path) if path.exists() else {}
        rows = [f"<tr><td>{escape(meter)}<td>{escape(token)}<td>{broker}</tr>" for meter, token in tokens.items()]
        made = _LABEL.format(
            text=escape(text),
            qr=segno.make(text, micro=False, error="m").svg_inline(scale=3),
            place=place,
            kind=f"{town.microgrids[place].kind} microgrid",
            town=escape(site.town.name),
            utility=escape(", ".join(utility)),
            until=moment(label.ends)[:10],
            words=code.words,
            fingerprint=fingerprint,
            meters=_METERS.format("".join(rows)),
        )
        labels.append(made)
    return _PAGE.format("".join(labels))
