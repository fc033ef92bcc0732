"""What the audit log records, in words."""

from collections.abc import Mapping

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
    "run.make": "made a draft of bills",
    "run.check": "checked a run of bills",
    "run.issue": "issued bills",
    "spared.ask": "asked that a place is not cut, or may be again",
    "spared.decide": "decided whether a place is not cut",
    "weight.set": "set a sharing weight",
    "release.approve": "approved a release",
    "agreement.add": "added an agreement",
    "agreement.reader": "changed who reads under an agreement",
}
"""What a person did, by its name in the audit log."""


def action_words(action: str) -> str:
    """Return an action in words; an unknown one, such as of an older version, by its name."""
    return ACTIONS.get(action, action.replace(".", " ").replace("_", " "))
