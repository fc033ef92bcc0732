"""``adapter learn``: what the messages of foreign meters seem to be, and the TOML to start from."""
