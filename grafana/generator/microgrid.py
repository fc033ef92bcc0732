"""The dashboard *microgrid*: the meters and batteries of one microgrid."""

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
            "Last message to the utility",
            "Time since the gateway's last message. Red: it is silent; check its power, line and process.",
            Query('max(commonwatt_utility_gateway_last_seen_seconds{controller="$microgrid"})'),
            look=HEARD_BEFORE,
        ),
        stat(
            "Devices connected",
            "Devices connected to the microgrid's broker, the gateway included, and devices registered there.",
            *_DEVICES,
        ),
        stat(
            "Records a minute",
            "Records stored by the gateway within five minutes. If none, check broker, meters and the gateway's disk.",
            Query(f"sum(rate(commonwatt_gateway_records_total{{{_HERE}}}[5m])) * 60"),
            look=Look(),
        ),
        stat(
            "Batteries giving",
            "Batteries with the command to share now, because another battery is below its minimum.",
            Query(_GIVING),
        ),
        stat(
            "Batteries below",
            "Batteries below their minimum. If no battery gives, all are low, and they buy from the town.",
            Query(_BELOW),
        ),
        stat(
            "Rejected, 24 h",
            "Records rejected. List them with their reasons: commonwatt gateway dead-letters.",
            Query(f"sum(increase(commonwatt_gateway_rejected_records_total{{{_HERE}}}[24h]))"),
            look=Look(decimals=0, steps=((1, ORANGE),)),
        ),
        stat(
            "Waiting",
            "Parts, events and dead letters that the utility has not acknowledged.",
            Query(f"sum(commonwatt_gateway_backlog{{{_HERE}}})"),
        ),
        stat(
            "Oldest waiting",
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
            "It should be steady. If one type shrinks, some meters are gone; in a gap, the broker or the gateway was "
            "down.",
            Query(
                f"sum by (type) (rate(commonwatt_gateway_records_total{{{_HERE}}}[$__rate_interval])) * 60", "{{type}}"
            ),
            stacked=True,
        ),
        graph(
            "Puts a minute, by result",
            "busy: the gateway's disk is full. early: a clock is wrong. not_registered: copy the new registry to it.",
            Query(
                f"sum by (result) (rate(commonwatt_gateway_puts_total{{{_HERE}}}[$__rate_interval])) * 60 > 0",
                "{{result}}",
            ),
            stacked=True,
        ),
        graph(
            "Devices connected",
            "Devices connected to the microgrid's broker. If it stays below the number registered, visit the meters.",
            *_DEVICES,
            look=COUNT,
        ),
    ],
)

_SHARING = Section(
    "Sharing",
    [
        graph(
            "Batteries giving, and batteries below their minimum",
            "Batteries above their minimum give to those below within about a minute. Below for hours with none "
            "giving: all are low.",
            Query(_GIVING, "giving"),
            Query(_BELOW, "below their minimum"),
            look=COUNT,
        ),
        graph(
            "Commands a minute, by command",
            "Commands from the gateway to its meters. get collects from meters that only send on request.",
            Query(
                f"sum by (command) (rate(commonwatt_gateway_commands_total{{{_HERE}}}[$__rate_interval])) * 60",
                "{{command}}",
            ),
        ),
        graph(
            "Answers a minute, by result",
            "done is good. expired: a clock is wrong. fenced: another manager commands.",
            Query(
                f"sum by (result) (rate(commonwatt_gateway_outcomes_total{{{_HERE}}}[$__rate_interval])) * 60",
                "{{result}}",
            ),
        ),
    ],
)

_TROUBLE = Section(
    "Rejected and refused",
    [
        graph(
            "Records rejected within an hour, by reason",
            "Each is kept as a dead letter. docs/bad-input.md explains the reasons.",
            Query(_within_an_hour("reason", "gateway_rejected_records"), "{{reason}}"),
            look=COUNT,
        ),
        graph(
            "Connections refused and cut within an hour",
            "By the microgrid's broker. token, identity: wrong credentials. expired: renew the certificate.",
            Query(_within_an_hour("reason", "broker_refused_connects"), "refused: {{reason}}"),
            Query(_within_an_hour("reason", "broker_cut_connections"), "cut: {{reason}}"),
            look=COUNT,
        ),
        graph(
            "Unreadable messages within an hour, by source",
            "A device sends malformed messages. Their first kilobyte is kept: commonwatt gateway dead-letters.",
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
            "Readings not yet acknowledged by the gateway. They grow while the gateway or the broker is down.",
            Query(f"commonwatt_meters_readings_held{{{_HERE}}}", "waiting"),
            look=COUNT,
        ),
        graph(
            "Lag",
            "Delay of the meters behind the town's clock. If it grows, the machine is too slow for the speed.",
            Query(f"commonwatt_meters_lag_seconds{{{_HERE}}}", "behind"),
            look=Look("s", high=60),
        ),
        graph(
            "Meters",
            "Meters connected, and meters whose battery has the command to share.",
            Query(f"commonwatt_meters_connected{{{_HERE}}}", "connected"),
            Query(f"commonwatt_meters_sharing{{{_HERE}}}", "sharing"),
            look=COUNT,
        ),
    ],
)

MICROGRID = Dashboard(
    "microgrid",
    "Commonwatt microgrid",
    "The meters and batteries of one microgrid. No figure here is of a single household.",
    [_NOW, _METERS, _SHARING, _TROUBLE, _EMULATED],
    [choice("microgrid", "Microgrid", "commonwatt_gateway_commits_total, place")],
)
