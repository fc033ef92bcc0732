"""Signs the check code of each month's bills, once; a second one that differs is refused, and the loudest alarm (U2).

Pattern: C2SP's tlog-witness. Key and memory are one private file beside the gateway's store, replaced durably before
each signature: a controller that loses its memory has lost its key too, and can sign no second list by it.
"""

import json
import secrets
from pathlib import Path
from typing import Any

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId
from commonwatt.protocol.controller_commands import witnessed_text
from commonwatt.runtime.files import read_object, write_private

MOST_OTHERS = 20  # second codes of a month that are kept for people
_REMEDY = "keep the file, and call the office"
SHOWN_MONTHS = 3  # newest months that are shown


class Witness:
    """The controller's witness; its file is in the folder, or is made there at the first signature."""

    def __init__(self, folder: Path, controller: ControllerId) -> None:
        self._path, self._controller = folder / f"witness-{controller}.json", controller

    def sign(self, month: str, code: str, replaces: str | None) -> dict[str, str]:
        """Return what to answer: the signature of a month's check code (``signed``), or why there is none.

        A code that replaces the one signed before, as a cancelled run's is replaced, is signed too; any other second
        one is refused, and kept. It blocks on the disk.

        Args:
            replaces: The code of the cancelled run that it takes the place of; ``None``: of none.

        Raises:
            ConfigError: The file can't be read: nothing is signed, since what was signed is not known.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # 10 MB, once a month

        kept = self._read()
        codes = kept["signed"].setdefault(month, [])
        if code not in codes[-1:]:
            if codes and (replaces != codes[-1] or code in codes):
                others = kept["others"].setdefault(month, [])
                if code not in others:
                    others[:] = [*others, code][-MOST_OTHERS:]
                    write_private(self._path, json.dumps(kept))
                return {"result": "refused", "reason": f"another list of {month} was signed here: {codes[-1]}"}
            codes.append(code)
            write_private(self._path, json.dumps(kept))
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(kept["seed"]))
        signature = key.sign(witnessed_text(self._controller, month, code, replaces))
        return {"signed": (key.public_key().public_bytes_raw() + signature).hex()}

    def view(self) -> dict[str, Any]:
        """Return for the status the codes of the newest months, the second lists, and why neither can be read."""
        try:
            kept = self._read()
        except ConfigError as error:
            return {"codes": {}, "others": {}, "unreadable": str(error)}
        newest = sorted(kept["signed"], reverse=True)[:SHOWN_MONTHS]
        return {
            "codes": {month: kept["signed"][month][-1] for month in newest},
            "others": {month: [kept["signed"][month][-1], *codes] for month, codes in kept["others"].items()},
            "unreadable": "",
        }

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {"seed": secrets.token_hex(32), "signed": {}, "others": {}}
        kept: dict[str, Any] = read_object(self._path, "what this controller has signed", _REMEDY)
        if sorted(kept) != ["others", "seed", "signed"] or len(str(kept["seed"])) != 64:
            raise ConfigError(f"{self._path}: not what this controller has signed; {_REMEDY}")
        return kept
