"""The schema's history, applied by ``utility.store.database`` at each start."""
