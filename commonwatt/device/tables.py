"""The tables of a device store (docs/stores.md)."""

SCHEMA = 1  # version of the tables; a file of a newer one is refused

# Tables that files of earlier releases do not have; earlier releases ignore them.
ADDED = {
    "epoch_raise": """
CREATE TABLE IF NOT EXISTS epoch_raise (
    meter INTEGER PRIMARY KEY, own_s REAL NOT NULL, raises TEXT NOT NULL, token TEXT NOT NULL
)
""",
    "broker_order": "CREATE TABLE IF NOT EXISTS broker_order (meter INTEGER PRIMARY KEY, names TEXT NOT NULL)",
    "revoked_list": "CREATE TABLE IF NOT EXISTS revoked_list (meter INTEGER PRIMARY KEY, list TEXT NOT NULL)",
}

TABLES = """
CREATE TABLE meter (
    meter INTEGER PRIMARY KEY, generation INTEGER NOT NULL, next_history INTEGER NOT NULL, next_event INTEGER NOT NULL,
    frozen_history INTEGER NOT NULL, frozen_event INTEGER NOT NULL, bits INTEGER NOT NULL, stopped INTEGER NOT NULL,
    changed_at INTEGER NOT NULL, last_slot INTEGER NOT NULL, level INTEGER, made INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL, gaps INTEGER NOT NULL, offset_s INTEGER NOT NULL, trust INTEGER NOT NULL,
    remainders TEXT NOT NULL
);
CREATE TABLE orders (meter INTEGER PRIMARY KEY, counter INTEGER NOT NULL, rank INTEGER NOT NULL, held TEXT NOT NULL);
CREATE TABLE record (
    meter INTEGER NOT NULL, log INTEGER NOT NULL, first_id INTEGER NOT NULL, last_id INTEGER NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (meter, log, first_id)
) WITHOUT ROWID;
"""
