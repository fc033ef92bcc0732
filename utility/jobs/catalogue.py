"""The utility's jobs, a line each: what it does, its periods, and when it is late. ``table`` has their work.

A job whose work is a list of its own in the database (what is due, what is missing) looks at that list at an interval,
and makes up for nothing by its periods: the list does. A job whose result belongs to a local day or month catches up.
"""

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.exceptions import ConfigError
from utility.jobs.calendar_periods import LocalDay, LocalMonth, Seconds
from utility.jobs.plans import Plan

_DAY_S = 86_400

_FINAL_MARGIN_S = 5 * _DAY_S  # weekends and holidays around the deadline of a month's data, and the work after it


def catalogue(settings: UtilitySettings) -> tuple[Plan, ...]:
    """Return the plans of the jobs that the settings ask for, in the order in which a tick runs them."""
    # A month waits for its final data: working days, of which a week has five.
    final_s = settings.settlement.deadline_working_days * _DAY_S * 7 // 5 + _FINAL_MARGIN_S
    plans = (
        Plan(name="supply", cadence=Seconds(60), longest_s=300, late_s=900, also=("Purchase_power",),
             does="buys power for the quarter-hour by the forecast of need, and rations"),
        Plan(name="rates", cadence=Seconds(300), does="tells controllers the rates of their accounts",
             also=("Send_billing_rates",)),
        Plan(name="weights", cadence=Seconds(300), does="tells gateways the sharing weights of their accounts"),
        Plan(name="spared", cadence=Seconds(300), does="tells gateways which places must not be cut"),
        Plan(name="balance", cadence=Seconds(300),
             does="gives meters other brokers so that no LTE line carries too many of them"),
        Plan(name="rollout", cadence=Seconds(60), does="sends a release to the controllers whose turn it is"),
        Plan(name="sharing", cadence=Seconds(300), does="records who shared in the finished quarter-hours"),
        Plan(name="compact", cadence=Seconds(settings.compact_s), does="joins the parts of finished quarter-hours"),
        Plan(name="settlement", cadence=Seconds(900), does="settles the finished days that are marked as due"),
        Plan(name="gaps", cadence=Seconds(settings.gaps_s), also=("Query_data", "Recover_data"),
             does="asks gateways for missing readings of the last 180 days"),
        Plan(name="bills", cadence=LocalMonth(), catch_up=True, from_previous=True, minute=60, late_s=final_s,
             does="makes the draft of the month's bills", also=("Create_bills",)),
        Plan(name="witnesses", cadence=Seconds(300), does="asks controllers to sign the check codes of issued bills"),
        Plan(name="mail", cadence=Seconds(60), late_s=3_600, does="sends queued bills and reminders by mail"),
        Plan(name="completeness", cadence=Seconds(3_600), late_s=6 * 3_600,
             does="counts the completeness of finished days"),
        Plan(name="statistics", cadence=Seconds(3_600), late_s=6 * 3_600, also=("Compute_statistics",),
             does="takes settled days into the months' usage"),
        Plan(name="projection", cadence=LocalDay(), late_s=_DAY_S,
             does="projects the next month's energy, revenue and cost"),
        Plan(name="validation", cadence=Seconds(3_600), late_s=6 * 3_600,
             does="checks each finished day's readings once, and proposes estimates"),
        Plan(name="retention", cadence=Seconds(3_600), late_s=_DAY_S, frees_disk=True,
             does="makes the coming months' partitions, and drops what is no longer kept"),
        Plan(name="reminders", cadence=LocalDay(), minute=360, late_s=_DAY_S,
             does="makes the reminders of overdue bills that the tariff asks for"),
        Plan(name="exports", cadence=LocalMonth(), catch_up=True, from_previous=True, minute=120, late_s=final_s,
             does="writes the month's data to files", also=("Export_statistics", "Export_all_data")),
        Plan(name="backup", cadence=LocalDay(), minute=150, late_s=6 * 3_600, does="makes the backup of the night"),
    )  # fmt: skip
    left_out = {name for name, of in (("exports", settings.exports), ("backup", settings.backup)) if of.folder is None}
    if settings.office.mail.host is None:
        left_out.add("mail")
    return tuple(plan for plan in plans if plan.name not in left_out)


def plan_of(settings: UtilitySettings, name: str) -> Plan:
    """Return the plan of a job by its name, or by what the town's documents call it.

    Raises:
        ConfigError: There is no such job.
    """
    wanted = name.lower().replace("-", "_")
    plans = catalogue(settings)
    for plan in plans:
        if wanted in (plan.name, *(other.lower() for other in plan.also)):
            return plan
    raise ConfigError(f"{name}: there is no such job; there are {', '.join(plan.name for plan in plans)}")
