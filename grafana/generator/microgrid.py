"""The dashboard *microgrid*: how one neighbourhood's meters and batteries do."""

from grafana.generator.panel_kinds import (
    COUNT,
    HEARD_BEFORE,
    ORANGE,
    WAITS,
    Dashboard,
    Look,
    Query,
    Section,
    choice,
    graph,
    none_or,
    stat,
)

_HERE = 'place="$microgrid"'
_DEVICES = (
    Query(f"sum(commonwatt_broker_connections{{{_HERE}}})", "connected"),
    Query(f"sum(commonwatt_broker_devices{{{_HERE}}})", "registered"),
)
_GIVING = f'sum(commonwatt_gateway_batteries{{{_HERE},role="donor"}})'
_BELOW = f'sum(commonwatt_gateway_batteries{{{_HERE},role="receiver"}})'


def _within_an_hour(label: str, counter: str) -> str:
    return none_or(f"sum by ({label}) (increase(commonwatt_{counter}_total{{{_HERE}}}[1h]))", label)


_NOW = Section(
    "",
    [
        stat(
            "Heard by the utility",
            "How long ago. Red: silent; see its power, its line, its process.",
            Query('max(commonwatt_utility_gateway_last_seen_seconds{controller="$microgrid"})'),
            look=HEARD_BEFORE,
        ),
        stat(
            "Devices connected",
            "To the microgrid's broker, its gateway included, and how many may connect.",
            *_DEVICES,
        ),
        stat(
            "Records a minute",
            "Taken in by the gateway within five minutes. None: see the broker, the meters, the gateway's disk.",
            Query(f"sum(rate(commonwatt_gateway_records_total{{{_HERE}}}[5m])) * 60"),
            look=Look(),
        ),
        stat(
            "Batteries giving",
            "Told to share now, since another battery is below its minimum.",
            Query(_GIVING),
        ),
        stat(
            "Batteries below",
            "Below their minimum, for which others give. If none gives, all are low: they buy.",
            Query(_BELOW),
        ),
        stat(
            "Rejected, 24 h",
            "Records that could not be accepted: commonwatt gateway dead-letters says which and why.",
            Query(f"sum(increase(commonwatt_gateway_rejected_records_total{{{_HERE}}}[24h]))"),
            look=Look(decimals=0, steps=((1, ORANGE),)),
        ),
        stat(
            "Waiting",
            "Parts, events and dead letters that the utility has not acknowledged.",
            Query(f"sum(commonwatt_gateway_backlog{{{_HERE}}})"),
        ),
        stat(
            "Oldest that waits",
            "How long the oldest readings have waited at the gateway for the utility.",
            Query(f"max(commonwatt_gateway_backlog_age_seconds{{{_HERE}}})"),
            look=WAITS,
        ),
    ],
)

_METERS = Section(
    "Meters",
    [
        graph(
            "Records a minute, by type",
            "A steady band. A type that thins out: some meters are gone; a hole: the broker or the gateway was.",
            Query(
                f"sum by (type) (rate(commonwatt_gateway_records_total{{{_HERE}}}[$__rate_interval])) * 60", "{{type}}"
            ),
            stacked=True,
        ),
        graph(
            "Puts a minute, by what became of them",
            "busy: the gateway's disk is full. early: a clock is wrong. not_registered: give it the new registry.",
            Query(
                f"sum by (result) (rate(commonwatt_gateway_puts_total{{{_HERE}}}[$__rate_interval])) * 60 > 0",
                "{{result}}",
            ),
            stacked=True,
        ),
        graph(
            "Devices connected",
            "To the microgrid's broker. Below the number registered for long: visit those meters.",
            *_DEVICES,
            look=COUNT,
        ),
    ],
)

_SHARING = Section(
    "Sharing",
    [
        graph(
            "Batteries that give, and that are below their minimum",
            "Who is below is given to by those above, within about a minute. Below for hours with none giving: "
            "all are low.",
            Query(_GIVING, "giving"),
            Query(_BELOW, "below their minimum"),
            look=COUNT,
        ),
        graph(
            "Commands a minute, by command",
            "What the gateway tells its meters. get is the collection of meters that wait to be asked.",
            Query(
                f"sum by (command) (rate(commonwatt_gateway_commands_total{{{_HERE}}}[$__rate_interval])) * 60",
                "{{command}}",
            ),
        ),
        graph(
            "Answers a minute, by result",
            "done is good. expired, refused: a clock is wrong, or another manager commands.",
            Query(
                f"sum by (result) (rate(commonwatt_gateway_outcomes_total{{{_HERE}}}[$__rate_interval])) * 60",
                "{{result}}",
            ),
        ),
    ],
)

_TROUBLE = Section(
    "What was not accepted",
    [
        graph(
            "Records rejected within an hour, by reason",
            "Each is kept as a dead letter. What each reason means: docs/bad-input.md.",
            Query(_within_an_hour("reason", "gateway_rejected_records"), "{{reason}}"),
            look=COUNT,
        ),
        graph(
            "Connections refused and cut within an hour",
            "By the microgrid's broker. token, identity: a client without the right; expired: renew.",
            Query(_within_an_hour("reason", "broker_refused_connects"), "refused: {{reason}}"),
            Query(_within_an_hour("reason", "broker_cut_connections"), "cut: {{reason}}"),
            look=COUNT,
        ),
        graph(
            "Messages unreadable within an hour, by where they came in",
            "A device that sends rubbish. The first kilobyte is kept: commonwatt gateway dead-letters.",
            Query(_within_an_hour("source", "gateway_unreadable_messages"), "{{source}}"),
            look=COUNT,
        ),
    ],
)

_EMULATED = Section(
    "Emulated meters",
    [
        graph(
            "Readings at the meters",
            "Recorded and not yet acknowledged by the gateway. It climbs while the gateway or the broker is away.",
            Query(f"commonwatt_meters_readings_held{{{_HERE}}}", "held"),
            look=COUNT,
        ),
        graph(
            "Lag",
            "How far the meters are behind the town's clock. If it grows, the machine is too slow for the speed.",
            Query(f"commonwatt_meters_lag_seconds{{{_HERE}}}", "behind"),
            look=Look("s", high=60),
        ),
        graph(
            "Meters",
            "Connected, and with their battery told to share.",
            Query(f"commonwatt_meters_connected{{{_HERE}}}", "connected"),
            Query(f"commonwatt_meters_sharing{{{_HERE}}}", "sharing"),
            look=COUNT,
        ),
    ],
)

MICROGRID = Dashboard(
    "microgrid",
    "Commonwatt microgrid",
    "How the meters and batteries of one microgrid do. No figure here is of a single household.",
    [_NOW, _METERS, _SHARING, _TROUBLE, _EMULATED],
    [choice("microgrid", "Microgrid", "commonwatt_gateway_commits_total, place")],
)
