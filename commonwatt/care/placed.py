"""What was placed for a controller elsewhere: its new bundle, by its gateway to root's unit (docs/security.md).

The utility seals it to the key of the controller's certificate. The gateway leaves it in the folder ``upgrade`` beside
its store, and root's unit ``unpack-commonwatt`` leaves the result there. The services' user can write that folder.
"""

import base64
import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from commonwatt.care.connection import MAX_ANSWER_BYTES
from commonwatt.care.installing import read_plain
from commonwatt.model.exceptions import CommonwattError
from commonwatt.model.text import printable
from commonwatt.runtime.files import replace_file

if TYPE_CHECKING:
    from commonwatt.site.machine import Machine

PATH = "bundle"  # of the request at the care listener
PURPOSE = "own bundle"  # of the signature of a controller that asks for its bundle
FOLDER, ORDER, RESULT = "upgrade", "unpack.json", "unpacked.json"  # `id` and `bundle`; `id`, `result` and `reason`


def take(machine: "Machine", unpack: Callable[[Path], None]) -> None:
    """Unpack the bundles that gateways of a machine have fetched; each result is for its gateway.

    Args:
        unpack: Unpacks the bundle in a file.
    """
    for place in sorted(path.parts[-3] for path in machine.state.glob(f"*/{FOLDER}/{ORDER}")):
        with ExitStack() as held:
            owner, folder = machine.owner(), machine.state
            for name in (place, FOLDER):
                folder = held.enter_context(machine.folder(folder / name, owner))
            file = Path(held.enter_context(tempfile.TemporaryDirectory())) / "bundle"
            result = {"id": "", "result": "done"}
            try:
                order = json.loads(read_plain(folder / ORDER, MAX_ANSWER_BYTES))
                result["id"] = str(order["id"])[:64]
                file.write_bytes(base64.b64decode(order["bundle"], validate=True))
                unpack(file)
            except (CommonwattError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
                why = printable(str(error).removeprefix(f"{file}: "))[:200]
                result |= {"result": "refused", "reason": why}
            replace_file(folder / RESULT, json.dumps(result).encode(), owner=owner)
            (folder / ORDER).unlink()
