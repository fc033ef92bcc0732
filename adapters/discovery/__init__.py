"""``adapter discover``: what devices announce to Home Assistant, as TOML; ``adapter learn`` for devices that do not."""
