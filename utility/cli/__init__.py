"""The commands of ``commonwatt utility``."""
