"""An issued bill that is not the one its run made: nothing of it is shown, printed or exported."""

from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import AccountNumber


class AlteredBillError(StoreError):
    """The database was changed after a run of bills was issued.

    Attributes:
        run: The run's number.
        month: Its local month.
        account: The account; ``None``: the run as a whole.
        what: What differs, in words.
    """

    def __init__(self, run: int, month: str, account: AccountNumber | None, what: str) -> None:
        super().__init__(run, month, account, what)
        self.run, self.month, self.account, self.what = run, month, account, what

    def __str__(self) -> str:
        of = "" if self.account is None else f", account {self.account}"
        return (
            f"issued run {self.run} of {self.month}{of}: {self.what}. The database was changed after the run was "
            "issued; nothing of it is shown. Restore a backup: the printed check code tells which one is right"
        )
