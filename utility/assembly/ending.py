"""Ends what was made with an API token, in every room."""

import json
from contextlib import suppress

from commonwatt.model.exceptions import ConfigError
from utility.access.actor import Actor
from utility.access.store import audit_log
from utility.alarms.decisions import alarms_of
from utility.control.decisions import cancel_change
from utility.webkit.services import Api


def end_made(api: Api, actor: Actor, token: int) -> int:
    """End what was made with a token and still holds; return how much.

    These are planned changes of gateways, silences and acknowledgements. What it sent, decided or proposed stays.
    """
    now, wanted = int(api.clock.now()), audit_log.Wanted(token=token)
    ended = 0
    # However many: a thief could bury what matters under others.
    for entry in audit_log.all_entries(api.database, wanted):
        subject, after = entry["subject"], json.loads(entry["after"] or "null")
        with suppress(ConfigError):  # It holds no more, or was ended by another person.
            match entry["action"]:
                case "command.plan":
                    cancel_change(api.database, actor, int(subject.removeprefix("change ")), now)
                case "alarm.silence":
                    alarms_of(api).end_silence(actor, after["no"])
                case "alarm.acknowledge":
                    alarms_of(api).withdraw(actor, after["no"])
                case _:
                    continue
            ended += 1
    return ended
