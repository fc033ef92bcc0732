"""The file ``revoked-controllers.json``: the authority's list of revoked controllers, which meters are sent (R5)."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from commonwatt.config.files import check_model
from commonwatt.config.settings import Settings
from commonwatt.model.exceptions import ConfigError, ProtocolError
from commonwatt.protocol.revoked_list import RevokedList
from commonwatt.runtime.files import read_object

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
