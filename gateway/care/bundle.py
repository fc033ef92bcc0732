"""Takes what the utility placed for this controller: fetches its bundle, and leaves it for root's unit to unpack."""

import asyncio
import base64
import json

from commonwatt.care.code import unseal
from commonwatt.care.connection import CareConnection, CareRefused, CareUnreachable
from commonwatt.care.installing import read_state
from commonwatt.care.placed import FOLDER, ORDER, PATH, PURPOSE, RESULT
from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.certificates import Signer
from commonwatt.identity.chains import chain_of
from commonwatt.identity.devices import digest
from commonwatt.identity.renewing import signed_content
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import ControllerCommand
from commonwatt.runtime.files import replace_file
from gateway.loop.machine import THREADS

LOOKS, LOOK_S = 120, 5.0  # most looks whether it was fetched and unpacked, and real seconds between two


async def unpacked(settings: GatewaySettings, command: ControllerCommand) -> dict[str, str]:
    """Return what became of the bundle that a command names, as the keys of its outcome."""
    waits_for = ""
    for _ in range(LOOKS):
        try:
            found = await THREADS.run(_look, settings, command)
        except CareUnreachable as error:
            waits_for = f"the utility's care listener can't be reached: {error}"
        except (CareRefused, ConfigError, OSError, KeyError, ValueError) as error:
            return {"result": "refused", "reason": str(error)[:200]}
        else:
            if found is not None:
                return found
            waits_for = "it is fetched, but nothing unpacks it there: the unit unpack-commonwatt does not run"
        await asyncio.sleep(LOOK_S)
    return {"result": "refused", "reason": waits_for[:200]}


def _look(settings: GatewaySettings, command: ControllerCommand) -> dict[str, str] | None:
    """Return the result, or ``None`` while root's unit has what is fetched here now, if it was not before."""
    folder = settings.store.absolute().parent / FOLDER
    result = read_state(folder, RESULT) or {}
    if result.get("id") == command.id:
        return {key: str(result[key])[:200] for key in ("result", "reason") if key in result}
    if not (folder / ORDER).exists() or json.loads((folder / ORDER).read_bytes())["id"] != command.id:
        bundle = base64.b64encode(_fetched(settings, command.sha256 or "")).decode()
        folder.mkdir(mode=0o700, exist_ok=True)
        # Root's unit begins when it sees this file.
        replace_file(folder / ORDER, json.dumps({"id": command.id, "bundle": bundle}).encode())
    return None


def _fetched(settings: GatewaySettings, sha256: str) -> bytes:
    """Fetch the bundle; root's unit checks its signature, by a copy of the authority that no service can change."""
    if settings.care is None or settings.head_end_ca is None or settings.certificate is None:
        raise ConfigError("this controller is cared for by bundles: its settings have no care")
    pair = settings.certificate.read_bytes()
    own, name = Signer.load(pair, pair), settings.controller
    signature = own.signature(PURPOSE, signed_content(name, sha256)).hex()
    care = CareConnection(settings.care, settings.head_end_ca, settings.head_end_revoked)
    asked = {"name": name, "request": sha256, "certificate": chain_of(pair), "signature": signature}
    answer = care.post(f"/{PATH}", {**asked})
    content = unseal(own.key, base64.b64decode(str(answer["sealed"]), validate=True))
    if digest(content) != sha256:
        raise ConfigError("the utility answered by another bundle than it named")
    return content
