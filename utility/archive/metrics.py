"""What the utility counts of the archive."""

from utility.archive.store.months import bytes_filed, filed_until, troubles
from utility.database.metrics import Count

COUNTS = (
    Count("archive_bytes", "Bytes of the files with months of readings.", bytes_filed),
    Count(
        "archive_until_timestamp_seconds",
        "End of the newest month in a file, UTC epoch seconds; 0: there is none.",
        filed_until,
    ),
    Count(
        "archive_damaged_files",
        "Files of the archive that are missing, or have a block that can't be read.",
        lambda connection: len(troubles(connection)),
    ),
)
