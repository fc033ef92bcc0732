"""``commonwatt research``: releases for researchers."""
