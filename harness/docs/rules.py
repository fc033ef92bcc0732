"""The rules of Prometheus that are made from the alarms that the utility and the gateways raise by themselves."""

from collections.abc import Mapping

from gateway.alarms import KINDS as OF_GATEWAYS
from harness.docs.marked import DOCS
from utility.alarms.kinds import KINDS as OF_UTILITY

RULES = DOCS.parent / "grafana" / "prometheus" / "rules.yml"
MARK = (
    "  # The rules below are made by `make docs`: the alarms that the utility and the gateways raise by themselves.\n"
)
URL = '{{ or $externalLabels.commonwatt_utility "http://127.0.0.1:8080" }}'

_LEFT_OUT = ("controller", "head_end", "reason", "task", "repository", "check", "state")
_LABELS = dict.fromkeys(_LEFT_OUT, "…")


def rules_file() -> str:
    """Return ``grafana/prometheus/rules.yml``: its text up to the mark, and the rules made from the alarms."""
    head, _, _ = RULES.read_text(encoding="utf-8").partition(MARK)
    utility = {name: (kind.severity.value, kind.summary.format(**_LABELS)) for name, kind in OF_UTILITY.items()}
    gateways = {name: (kind.severity, kind.title) for name, kind in OF_GATEWAYS.items() if not kind.is_heard}
    rules = [
        _rule("Utility", "utility", severity, "0s", "", utility, "Alarms that wait for a person: {{ $value }}.")
        for severity in ("critical", "warning")
    ] + [
        # Conditions of a gateway stand at once: what passes by itself in these minutes needs no person.
        _rule("Gateway", "gateway", severity, wait, "{{ $labels.place }}: ", gateways, "Its page shows the figures.")
        for severity, wait in (("critical", "5m"), ("warning", "10m"))
    ]
    return head + MARK + "  - name: commonwatt-alarms\n    rules:\n" + "\n".join(rules)


def _rule(
    title: str, part: str, severity: str, wait: str, where: str, kinds: Mapping[str, tuple[str, str]], text: str
) -> str:
    words = [(name, summary) for name, (each, summary) in sorted(kinds.items()) if each == severity]
    chosen = [f'{{{{- else if eq $labels.alarm "{name}" }}}}{where}{summary}' for name, summary in words]
    chosen[0] = chosen[0].replace("{{- else if", "{{ if")
    return "\n".join(
        (
            f"      - alert: Commonwatt{title}{severity.capitalize()}",
            f'        expr: commonwatt_{part}_alarms{{severity="{severity}"}} > 0',
            f"        for: {wait}",
            f"        labels: {{severity: {severity}}}",
            "        annotations:",
            "          summary: >-",
            *(f"            {each}" for each in chosen),
            "            {{- end }}",
            f'          description: "{text} The console lists each alarm."',
            f"          runbook_url: '{URL}/runbooks#commonwatt{{{{ $labels.alarm | toLower }}}}'",
            "",
        )
    )
