"""What the utility counts of settlement."""

from utility.database.metrics import Metrics


class SettlementMetrics:
    """The metrics of settled days."""

    def __init__(self, metrics: Metrics) -> None:
        self.residuals_beyond = metrics.counted(
            "settlement_residual_microgrids", "Microgrids whose members and boundary differ by more than the bound."
        )
        self.settlement_provisional = metrics.counted(
            "settlement_provisional", "Settled days of microgrids that wait for readings or their deadline."
        )
        self.settled_versions = metrics.counter("settled_versions", "New versions of meters' settled days.")
