"""The command `lstmjax`, also as `python -m lstmjax`: Ctrl-C is taken care of before anything large is imported."""

import sys

from lstmjax.signals import quit_on_interrupt


def main() -> int:
    """Return the exit code of the command line; see `lstmjax.cli.main`."""
    quit_on_interrupt(sys.argv[1:])  # for good, as the process ends behind this
    from lstmjax.cli import main, print_log

    print_log()
    return main()


if __name__ == "__main__":
    sys.exit(main())
