"""The schema of release 0.3, the earliest whose databases this release opens; none is made any more."""

revision = "0026"
down_revision = None
