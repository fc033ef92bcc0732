"""A month's way to its file or back, in a process that kills itself by SIGKILL at the Nth call of a function.

``python -m harness.real.killed_archive URL FOLDER FIRST_QUARTER NOW N``; it prints how many calls there were, if it is
not killed. A month in a file is restored, another one goes to its file.
"""

import os
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet  # noqa: F401 # its import is no work of the archive
from pyarrow import pandas_compat  # noqa: F401 # the same

from commonwatt.model.exceptions import StoreError
from utility.archive.store.archive import Archive
from utility.archive.store.months import month_at
from utility.database.database import open_database


def main() -> None:
    """Count every call from here on, also of the libraries."""
    url, folder, first, now, last = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    calls = 0

    def count(_: object, event: str, __: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)

    with closing(open_database(url, create=False)) as database:
        archive = Archive(database, folder, now)
        with database.reads.begin() as connection:
            month = month_at(connection, first)
        sys.setprofile(count)
        try:
            if month is not None and month.state == "archived":
                archive.restore(first)
            else:
                archive.write_month(first)
        except StoreError as error:
            print(error, file=sys.stderr)
        sys.setprofile(None)
    print(calls)


if __name__ == "__main__":
    main()
