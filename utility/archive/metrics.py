"""What the utility counts of the archive."""

from utility.archive.store.months import bytes_filed, filed_until, troubles
from utility.database.metrics import Count

COUNTS = (
    Count(name="archive_bytes", text="Bytes of the files with months of readings.", of=bytes_filed),
    Count(
        name="archive_until_timestamp_seconds",
        text="End of the newest month in a file, UTC epoch seconds; 0: there is none.",
        of=filed_until,
    ),
    Count(
        name="archive_damaged_files",
        text="Files of the archive that are missing, or have a block that can't be read.",
        of=lambda connection: len(troubles(connection)),
    ),
)
