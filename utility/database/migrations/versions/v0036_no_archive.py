"""Months of readings in files are gone: their table is dropped, once no month is in a file alone."""

import sqlalchemy as sa
from alembic import op

from commonwatt.model.exceptions import ConfigError

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    """Take the table out.

    Raises:
        ConfigError: A month is in a file alone.
    """
    filed = "SELECT path FROM archived_month WHERE state IN ('leaving', 'archived') ORDER BY first_quarter"
    if paths := op.get_bind().execute(sa.text(filed)).scalars().all():
        raise ConfigError(
            f"{len(paths)} months of readings are in files, the first is {paths[0]}: this release reads no such file. "
            "With the release that wrote them, run `utility archive restore` for each month, then upgrade"
        )
    op.drop_table("archived_month")
