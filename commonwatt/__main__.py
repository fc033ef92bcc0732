"""``python -m commonwatt`` is the command ``commonwatt``."""

from commonwatt.cli import main

main()
