"""``adapter discover``: what devices announce to Home Assistant, as TOML; registers of devices that do not."""
