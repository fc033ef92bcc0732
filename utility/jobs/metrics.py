"""What the utility counts of its jobs."""

import math
from collections.abc import Iterable

from utility.database.metrics import Metrics


class JobMetrics:
    """The metrics of jobs, by job."""

    def __init__(self, metrics: Metrics) -> None:
        self.failures = metrics.counter("job_failures", "Failed runs of a job, by job.", "task")
        due, failed = "job_periods_overdue", "job_periods_failed"
        tried = "Due periods of a job that were tried, are not done and are not running now, by job."
        self.periods_overdue = metrics.gauge(due, "Due periods of a job that are not done, by job.", "task")
        self.periods_failed = metrics.gauge(failed, tried, "task")
        late = "By how much a job is late, by job: 0 while it is in time or paused."
        self.late = metrics.gauge("job_late_seconds", late, "task")
        self.paused = metrics.gauge("job_paused", "1 while a person has paused a job, by job.", "task")
        self.seconds = metrics.gauge("job_last_run_seconds", "Real time of a job's last finished run, by job.", "task")

    def watched(self) -> dict[tuple[str, str], int]:
        """Return the failures by job (``utility.alarms.conditions``)."""
        samples = (sample for family in self.failures.collect() for sample in family.samples)
        return {("job_failures", sample.labels["task"]): int(sample.value) for sample in samples}

    def expect(self, names: Iterable[str]) -> None:
        """Show jobs from the start; their counts of periods are NaN until the first count."""
        for name in names:
            self.failures.labels(name)
            for gauge in (self.periods_overdue, self.periods_failed, self.late, self.paused, self.seconds):
                gauge.labels(name).set(math.nan)
