"""What the audit log records, in words and in rows of before and after that a person can read (pure)."""

import json
from collections.abc import Callable, Iterator, Mapping

from commonwatt.model.units import EpochSeconds

ACTIONS: Mapping[str, str] = {
    "person.invite": "invited a person",
    "person.link": "made a new link for a person",
    "person.roles": "changed a person's roles",
    "person.disable": "disabled a person",
    "person.enable": "enabled a person",
    "person.password": "set the own password",
    "person.second-factor": "changed a second factor",
    "person.recovery-code": "used a recovery code",
    "person.close": "lost the login with a damaged database",
    "session.end": "ended sessions",
    "token.make": "made a token",
    "token.revoke": "revoked a token",
    "second.refuse": "was refused as the second of two people",
    "second.seen": "has seen refused attempts",
    "machine.break-glass": "decided without the service and without a login",
    "command.send": "sent a change to gateways",
    "command.plan": "planned a change of gateways",
    "collection.pin": "set or released the brokers of a meter",
    "command.cancel": "cancelled a planned change",
    "command.put_back": "put a change back",
    "alarm.acknowledge": "acknowledged an alarm",
    "alarm.withdraw": "ended an acknowledgement",
    "alarm.silence": "silenced alarms",
    "alarm.unsilence": "ended a silence",
    "job.run": "had a job run",
    "job.pause": "paused a job",
    "job.resume": "resumed a job",
    "job.change": "changed when a job runs",
    "rollout.begin": "began a rollout of a release",
    "rollout.approve": "approved a rollout for all controllers",
    "rollout.stop": "stopped a rollout",
    "setup.describe": "described the street",
    "setup.broker": "chose the broker of devices",
    "setup.place": "placed a device in a home",
    "setup.ignore": "ignored a number of a device",
    "setup.exchange": "exchanged a device",
    "setup.remove": "removed a device",
    "setup.rename": "renamed a home",
    "setup.share": "started or stopped the sharing of the street",
    "setup.passphrase": "set the passphrase of backups",
    "setup.backup": "had a backup made",
    "device.enrol": "enrolled a device",
    "device.revoke": "revoked a device",
    "device.readmit": "readmitted a device",
    "reading.decide": "decided about quarantined readings",
    "correction.approve": "approved estimates",
    "correction.refuse": "refused estimates",
    "correction.revert": "took a decision about estimates back",
    "correction.edit": "entered a value",
    "finding.close": "closed a finding",
    "tour.order": "had a step of the tour done",
    "tariff.propose": "proposed a tariff",
    "tariff.publish": "published a tariff",
    "contact.set": "set name and address of an account",
    "contact.delete": "deleted name and address of an account",
    "move.back": "took a move back",
    "move.make": "moved an account",
    "run.make": "made a draft of bills",
    "run.check": "checked a run of bills",
    "run.issue": "issued bills",
    "ledger.import": "imported a bank's file",
    "ledger.assign": "gave a payment to an account",
    "ledger.reverse": "took an entry of the ledger back",
    "ledger.collect": "ordered direct debits",
    "ledger.refund": "ordered refunds",
    "ledger.release": "released a file of orders for the bank",
    "ledger.propose": "proposed to close a month of the ledger",
    "ledger.close": "closed a month of the ledger",
    "spared.ask": "asked that a place is not cut, or may be again",
    "spared.decide": "decided whether a place is not cut",
    "mail.run": "queued the bills of a run for mail",
    "mail.again": "queued a mail again",
    "mail.bounce": "noted that a mail came back",
    "run.cancel": "cancelled issued bills",
    "entry.enter": "entered goodwill, a fee, a credit note or the end of a run",
    "entry.approve": "approved an entry",
    "entry.withdraw": "withdrew an entry",
    "weight.set": "set a sharing weight",
    "release.approve": "approved a release",
    "release.ask": "asked for data of the research",
    "release.answer": "answered a request for data",
    "release.read": "had homes' readings read for a release",
    "release.make": "made a release",
    "release.download": "downloaded a file of a release",
    "agreement.add": "added an agreement",
}
"""What a person did, by its name in the audit log."""


def action_words(action: str) -> str:
    """Return an action in words; an unknown one, such as of an older version, by its name."""
    return ACTIONS.get(action, action.replace(".", " ").replace("_", " "))


_TIMES = frozenset({"until", "start", "opened", "paused"})  # names of values in epoch seconds
_WORDS = {"every_s": "every, seconds", "minute": "minute of the day", "mwh": "milliwatt-hours", "no": "number"}
MOST_ROWS = 100  # most rows of one entry


def rows_of(before: str | None, after: str | None, local: Callable[[EpochSeconds], str]) -> list[tuple[str, str, str]]:
    """Return what changed: name, before, after; a value that is the same is left out.

    Args:
        before: JSON, perhaps cut off; ``None``: there was nothing.
        after: The same of the value after.
        local: Returns a time as people read it.
    """
    was, now = ({name: _text(name, it, local) for name, it in _flat("", _parsed(text))} for text in (before, after))
    names = [*was, *(name for name in now if name not in was)]
    changed = [(name, was.get(name, ""), now.get(name, "")) for name in names if was.get(name) != now.get(name)]
    return [(_words(name), old, new) for name, old, new in changed[:MOST_ROWS]]


def _parsed(text: str | None) -> object:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return f"{text} (cut off)"


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for place, inner in enumerate(value, start=1):
            yield from _flat(f"{name} {place}".strip(), inner)
    elif value is not None:
        yield name, value


def _text(name: str, value: object, local: Callable[[EpochSeconds], str]) -> str:
    if isinstance(value, list):
        return ", ".join(_text(name, inner, local) for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.rpartition(".")[2] in _TIMES:
        return local(value)
    return str(value)


def _words(name: str) -> str:
    parts = (_WORDS.get(part, part.replace("_", " ")) for part in name.split("."))
    return " ".join(parts)
