"""The town's supply: what is bought at the plant, and how a shortage is shared."""
