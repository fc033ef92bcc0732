"""The command ``commonwatt``, and ``python -m commonwatt``."""

import gc
import sys


def main() -> None:
    """Load and run the command line. Ctrl-C prints no traceback, even while modules load."""
    gc.disable()  # While modules load, it would take a tenth of a start's time, and find nothing.
    try:
        from commonwatt.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
