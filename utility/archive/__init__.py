"""Months of readings in Parquet files, out of the database; ``utility.readings.store.archived`` reads them."""
