"""Signs the check code of each month's bills, once; a second one that differs is refused (U2).

Pattern: C2SP's tlog-witness. Key and memory are one private file beside the gateway's store, replaced durably before
each signature: a controller that loses its memory has lost its key too, and can sign no second list by it. Its
certificate's key signs the witness key: a key without this signature is not the controller's.
"""

import json
import secrets
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId
from commonwatt.protocol.controller_commands import WITNESS_PURPOSE, witness_key_text, witnessed_text
from commonwatt.runtime.files import read_object, write_private

MOST_OTHERS = 20  # second codes of a month that are kept for people
_REMEDY = "keep the file, and call the office"
SHOWN_MONTHS = 3  # newest months that are shown


_Signed = Annotated[list[str | None], Field(min_length=2, max_length=2)]  # a code, and the one that it replaces


class _Kept(BaseModel):
    """What the file keeps; a month that is there has a list."""

    model_config = ConfigDict(extra="forbid", strict=True)
    seed: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    key: str
    signed: dict[str, Annotated[list[_Signed], Field(min_length=1)]]
    others: dict[str, list[str]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.others.keys() <= self.signed.keys():
            raise ValueError("it refused a list of a month of which it signed none")
        return self


class Witness:
    """The controller's witness; its file is in the folder, or is made there at the first signature."""

    def __init__(self, folder: Path, controller: ControllerId, certificate: Path | None) -> None:
        self._path, self._controller = folder / f"witness-{controller}.json", controller
        self._certificate = certificate  # the controller's, with its key

    def sign(self, month: str, code: str, replaces: str | None) -> dict[str, str]:
        """Return what to answer: the signatures of a month's check code and of the witness key, or why there is none.

        A code that replaces the one signed before, as a cancelled run's is replaced, is signed too; any other second
        one, or the same one that would replace another, is refused, and kept. It blocks on the disk.

        Args:
            replaces: The code of the cancelled run that it takes the place of; ``None``: of none.

        Raises:
            ConfigError: The file can't be read: nothing is signed, since what was signed is not known. Or there is no
                certificate.
            OSError: A file can't be read or written.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # 10 MB, once a month

        from commonwatt.identity.certificates import Signer
        from commonwatt.identity.chains import chain_of

        if self._certificate is None:
            raise ConfigError("this controller has no certificate to sign its witness key; the office makes it one")
        kept, pair = self._read(), self._certificate.read_bytes()
        own = Signer.load(pair, pair)
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(kept["seed"]))
        public = kept["key"] = key.public_key().public_bytes_raw().hex()
        lists = kept["signed"].setdefault(month, [])
        codes = [signed for signed, _ in lists]
        if [code, replaces] not in lists[-1:]:
            if codes and (replaces != codes[-1] or code in codes):
                others = kept["others"].setdefault(month, [])
                if code not in others:
                    others[:] = [*others, code][-MOST_OTHERS:]
                    write_private(self._path, json.dumps(kept))
                return {"result": "refused", "reason": f"another list of {month} was signed here: {codes[-1]}"}
            lists.append([code, replaces])
            write_private(self._path, json.dumps(kept))
        signature = key.sign(witnessed_text(self._controller, month, code, replaces)).hex()
        bound = own.signature(WITNESS_PURPOSE, witness_key_text(self._controller, public)).hex()
        return {"signed": public + signature, "bound": bound, "certificate": chain_of(pair)}

    def view(self) -> dict[str, Any]:
        """Return for the status the key, all codes of the newest months, the second lists, and why none can be read."""
        try:
            kept = self._read()
        except ConfigError as error:
            return {"key": "", "codes": {}, "others": {}, "unreadable": str(error)}
        newest = sorted(kept["signed"], reverse=True)[:SHOWN_MONTHS]
        return {
            "key": kept["key"],
            "codes": {month: [code for code, _ in kept["signed"][month]] for month in newest},
            "others": {month: [kept["signed"][month][-1][0], *codes] for month, codes in kept["others"].items()},
            "unreadable": "",
        }

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {"seed": secrets.token_hex(32), "key": "", "signed": {}, "others": {}}
        kept = read_object(self._path, "what this controller has signed", _REMEDY)
        try:
            return vars(_Kept.model_validate(kept))
        except ValidationError as error:
            raise ConfigError(f"{self._path}: not what this controller has signed; {_REMEDY}") from error
