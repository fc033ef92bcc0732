"""The command ``commonwatt``, and ``python -m commonwatt``."""

import sys


def main() -> None:
    """Load and run the command line. Ctrl-C prints no traceback, even while modules load."""
    try:
        from commonwatt.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
