"""The command ``commonwatt``, and ``python -m commonwatt``."""

import sys


def main() -> None:
    """Load the command line, which takes a moment, and run it; Ctrl-C is no traceback even then."""
    try:
        from commonwatt.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
