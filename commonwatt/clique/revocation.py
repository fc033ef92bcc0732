"""The office's list of revoked controllers for meters, and its check (R5).

The list stands beside each ``clique.json``, and changes when a controller is revoked or readmitted. Its number is the
time of the change, so that it rises also after the office's folder was restored from an older copy.
"""

from collections.abc import Callable
from pathlib import Path

from commonwatt.clique.cliques import CLIQUE_FILE, load_cliques
from commonwatt.identity.authority import FOLDER, KEY_FILE, Authority
from commonwatt.identity.certificates import check_signed
from commonwatt.identity.devices import DeviceRole, load_devices
from commonwatt.identity.enrolment import DEVICES_FILE
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.meter_messages import MAX_LISTED, PURPOSE, RevokedList
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.files import write_private
from commonwatt.town.registry import REVOKED_FILE, SignedList, load_signed_list

SignatureCheck = Callable[[str, str], bool]  # whether a signature, hexadecimal, is the authority's, of a text


def write_revoked_list(out: Path, now: EpochSeconds) -> list[Path]:
    """Write the list beside the file of each clique where it is not yet, within ``alone``; return the written files.

    Args:
        out: The office's folder.
        now: The number of a list that changes.

    Raises:
        ConfigError: A file can't be read, or more controllers are revoked than a list has.
    """
    if not (out / FOLDER / KEY_FILE).exists():
        return []
    ranks, path = _revoked(out), out / FOLDER / REVOKED_FILE
    signed = load_signed_list(path)
    last = RevokedList() if signed is None else signed.read()
    if ranks != last.ranks:
        text = RevokedList(max(last.number + 1, now), ranks).text
        signature = Authority.load(out).signature(PURPOSE, text.encode())
        signed = SignedList(text=text, signature=signature.hex())
        write_private(path, _content(signed))
    if signed is None:
        return []
    copies = {file.with_name(REVOKED_FILE) for file in out.glob(f"*/{CLIQUE_FILE}")}
    wanted = sorted(copy for copy in copies if copy.parent.name not in {UTILITY, *ranks})
    stale = [copy for copy in wanted if not copy.exists() or copy.read_text() != _content(signed)]
    for copy in stale:
        write_private(copy, _content(signed))
    return stale


def _content(signed: SignedList) -> str:
    return signed.model_dump_json(indent=1) + "\n"


def _revoked(out: Path) -> dict[ControllerId, int]:
    """Return the ranks of the revoked controllers; one without a clique commands meters of one broker alone."""
    path = out / "head-end" / DEVICES_FILE
    devices = load_devices(path) if path.exists() else {}
    gone = sorted(name for name, device in devices.items() if device.revoked and device.role is DeviceRole.GATEWAY)
    if len(gone) > MAX_LISTED:
        raise ConfigError(f"{path}: {len(gone)} controllers are revoked; the list for meters has at most {MAX_LISTED}")
    return {name: load_cliques(file).rank for name in gone if (file := out / name / CLIQUE_FILE).exists()}


def check_of(authority: Path | None) -> SignatureCheck | None:
    """Return the check of signatures by an authority's certificate; ``None``: without one there is none.

    Raises:
        ConfigError: The file can't be read.
    """
    if authority is None:
        return None
    try:
        certificate = authority.read_bytes()
    except OSError as error:
        raise ConfigError(f"{authority}: {error.strerror}") from error

    def check(text: str, signature: str) -> bool:
        try:
            check_signed(certificate, PURPOSE, text.encode(), bytes.fromhex(signature))
        except (ConfigError, ValueError):
            return False
        return True

    return check
